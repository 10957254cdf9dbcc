"""All clusters of a coordinator, one driver each; a fault of one is its own."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator

import structlog

from heteroscale_coordinator.core.events import RenewLeases
from heteroscale_coordinator.core.model import Command
from heteroscale_coordinator.edge.adapters.driver import Driver

log = structlog.get_logger("heteroscale.adapters")

_PAUSE = 5.0


class Drivers:
    """What the outlet hands to clusters, by agent id."""

    def __init__(self, drivers: Iterable[Driver] = ()) -> None:
        self._drivers = {one.name: one for one in drivers}

    def __iter__(self) -> Iterator[Driver]:
        return iter(self._drivers.values())

    def owns(self, agent_id: str) -> bool:
        """Return whether an agent is a node of one of the clusters."""
        return agent_id.partition("/")[0] in self._drivers and "/" in agent_id

    def names(self, instance_id: str) -> Iterator[str]:
        """Yield what monitoring may call an instance: pods, jobs, their addresses."""
        for one in self._drivers.values():
            if (found := one.sight.mirror.running.get(instance_id)) is not None:
                yield from found.names

    def order(self, commands: Iterable[Command]) -> None:
        """Take the orders of one turn; each cluster gets its own together."""
        by_cluster = defaultdict[str, list[Command]](list)
        for command in commands:
            by_cluster[command.agent_id.partition("/")[0]].append(command)
        for name, mine in by_cluster.items():
            self._drivers[name].order(mine)

    def renew(self, renewal: RenewLeases) -> None:
        """Renew leases of a node's instances."""
        self._drivers[renewal.agent_id.partition("/")[0]].renew(renewal.leases)

    def greet(self, agent_id: str) -> None:
        """Tell all of a node anew."""
        self._drivers[agent_id.partition("/")[0]].greet(agent_id)

    def end(self, instance_id: str, grace: float) -> bool:
        """Stop by force an instance whose own agent is not there."""
        return any(one.end(instance_id, grace) for one in self._drivers.values())

    async def run(self) -> None:
        """Drive all of them, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for one in self._drivers.values():
                tasks.create_task(self._keep(one), name=f"cluster {one.name}")
            await asyncio.get_running_loop().create_future()

    async def _keep(self, one: Driver) -> None:
        while True:
            try:
                await one.run()
            except Exception:
                log.exception("driver failed, it begins anew", cluster=one.name)
            await asyncio.sleep(_PAUSE)
