"""A watcher for each service whose signals come from a Prometheus, as services come, change and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from heteroscale_coordinator.core.model import Service
from heteroscale_coordinator.core.spec.source import WATCHER, SourceSpec
from heteroscale_coordinator.edge.ports import Leader
from heteroscale_coordinator.edge.prometheus.answers import PrometheusError
from heteroscale_coordinator.edge.prometheus.client import PrometheusClient
from heteroscale_coordinator.edge.prometheus.live.look import Asks
from heteroscale_coordinator.edge.prometheus.live.roll import Names
from heteroscale_coordinator.edge.prometheus.live.watcher import Sleep, Told, Watcher
from heteroscale_coordinator.edge.prometheus.spec import WatchedServer

PACE = 1.0
"""Seconds between two looks at which services there are."""
NOWHERE = WatchedServer(url="http://127.0.0.1:1")
Connect = Callable[[WatchedServer], PrometheusClient]


@dataclass(slots=True)
class _Watched:
    source: SourceSpec
    watcher: Watcher
    task: asyncio.Task[None]


class Watchers:
    """See the module. ``servers`` by name, as the coordinator's document has them."""

    def __init__(
        self,
        loop: Leader,
        servers: Mapping[str, WatchedServer],
        *,
        connect: Connect = PrometheusClient,
        names: Names = lambda _: (),
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._loop, self._servers, self._connect = loop, servers, connect
        self._names, self._sleep = names, sleep
        self._watched: dict[str, _Watched] = {}
        self._retired: dict[str, Watcher] = {}
        self._clients: dict[str, Asks] = {}

    def told(self) -> dict[str, Told]:
        """Return how it goes, by service."""
        return {name: one.watcher.told for name, one in self._watched.items()}

    async def run(self) -> None:
        """Watch until cancelled."""
        async with AsyncExitStack() as stack:
            stack.callback(self._stop_all)
            for name, server in self._servers.items():
                # A login that cannot be read keeps no other server from being asked.
                with suppress(PrometheusError):
                    client = self._connect(server)
                    self._clients[name] = await stack.enter_async_context(client)
            self._adopt_strays()
            while True:
                self.look_round()
                await self._sleep(PACE)

    def look_round(self) -> None:
        """Start and end watchers by the committed services, and let all of them be heard."""
        wanted = {
            name: service
            for name, service in self._loop.state.services.items()
            if service.spec.measured_by_prometheus
        }
        for name in self._watched.keys() - wanted.keys():
            self._end(name)
        for name, service in wanted.items():
            known = self._watched.get(name)
            if known is not None and known.source != service.spec.signals:
                known.task.cancel()
                known = None
            if known is None:
                self._begin(service)
        for watcher in (*(w.watcher for w in self._watched.values()), *self._retired.values()):
            watcher.heartbeat()

    def _begin(self, service: Service) -> None:
        source = service.spec.signals
        name, trouble = self._server_of(source)
        server = self._servers.get(name, NOWHERE)
        asks = None if trouble else self._clients.get(name)
        if not trouble and asks is None:
            trouble = self._unusable(server)
        named = source.model_copy(update={"server": name or None})
        watcher = Watcher(
            self._loop,
            service.name,
            named,
            server,
            asks,
            trouble=trouble,
            names=self._names,
            sleep=self._sleep,
        )
        self._retired.pop(service.name, None)
        watcher.hello()
        task = asyncio.create_task(watcher.run(), name=f"prometheus of {service.name}")
        self._watched[service.name] = _Watched(source, watcher, task)

    def _server_of(self, source: SourceSpec) -> tuple[str, str]:
        """Return the name of the server to be asked, and what is wrong with it."""
        known = ", ".join(sorted(self._servers)) or "none"
        if source.server is not None:
            if source.server in self._servers:
                return source.server, ""
            return source.server, (
                f"signals.server: no {source.server!r} in the coordinator's `prometheus`; it has {known}"
            )
        if len(self._servers) == 1:
            return next(iter(self._servers)), ""
        if not self._servers:
            return "", (
                "the coordinator knows no Prometheus: start it with --prometheus URL, or write "
                "`prometheus` into its document"
            )
        return "", f"signals.server is missing: the coordinator knows {known}"

    def _unusable(self, server: WatchedServer) -> str:
        try:
            self._connect(server)
        except PrometheusError as error:
            return str(error)
        return "its client has not begun yet"

    def _end(self, name: str) -> None:
        known = self._watched.pop(name)
        known.task.cancel()
        known.watcher.retire()
        self._retired[name] = known.watcher

    def _adopt_strays(self) -> None:
        """Take over what a coordinator before this one found for a service that is no more watched."""
        state = self._loop.state
        for agent_id in [a for a in state.agents if a.startswith(WATCHER)]:
            name = agent_id.removeprefix(WATCHER)
            service = state.services.get(name)
            if service is None or not service.spec.measured_by_prometheus:
                stray = Watcher(self._loop, name, SourceSpec(), NOWHERE, None)
                stray.retire()
                self._retired[name] = stray

    def _stop_all(self) -> None:
        for one in self._watched.values():
            one.task.cancel()
