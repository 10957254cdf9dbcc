"""Watches one service in a Prometheus: looks, tells the loop, and waits, for ever.

To the core it is one more agent, which launches nothing: hello, facts, reports. It goes on reporting
while the Prometheus is silent, because it is not the engines that are silent then: their readings get
old, which is *unknown*, and nobody is taken for dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from heteroscale_coordinator.core.events import (
    AgentConnected,
    AgentDisconnected,
    RankChanged,
    ReportReceived,
)
from heteroscale_coordinator.core.model import EngineSample, RankFact, Service
from heteroscale_coordinator.core.spec.source import WATCHER, SourceSpec
from heteroscale_coordinator.edge.ports import Leader
from heteroscale_coordinator.edge.prometheus.answers import PrometheusError
from heteroscale_coordinator.edge.prometheus.live.gather import Gatherer
from heteroscale_coordinator.edge.prometheus.live.look import Asks, Look, Looker
from heteroscale_coordinator.edge.prometheus.live.roll import Names, Roll
from heteroscale_coordinator.edge.prometheus.spec import WatchedServer

log = structlog.get_logger("heteroscale.prometheus")

LONGEST_WAIT = 300.0
"""Between two tries, in seconds, whatever a server asks for."""
MOST_BACKOFF = 8
"""Times the interval between two tries while it fails."""
SKEW = 5.0
"""Seconds by which two clocks may differ without a word. Nothing rests on it."""
INCARNATION = 1
Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class Told:
    """How it goes."""

    server: str
    url: str = ""
    error: str = ""
    """Of the last try; empty: it went well."""
    asked_at: float | None = None
    """When it last asked, on the coordinator's clock."""
    answered_at: float | None = None
    """When it last had a whole answer."""
    looks: int = 0
    failures: int = 0
    engines: int = 0
    """Seen in the last good look."""
    measured: int = 0
    """Of these, instances of the service."""
    oldest_at: float | None = None
    """When the oldest of the newest samples was scraped, on the coordinator's clock."""
    skew: float = 0.0
    """The server's clock less ours, in seconds."""
    select: str = ""
    notes: list[str] = field(default_factory=list)
    queries: dict[str, dict[str, str]] = field(default_factory=dict)
    """By engine, by signal."""


class Watcher:
    """See the module. ``asks`` is None where no such server is configured; ``trouble`` says why."""

    def __init__(
        self,
        loop: Leader,
        service: str,
        source: SourceSpec,
        server: WatchedServer,
        asks: Asks | None,
        *,
        trouble: str = "",
        names: Names = lambda _: (),
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.service, self.agent_id = service, f"{WATCHER}{service}"
        self.told = Told(source.server or "", server.url if asks else "", error=trouble)
        self._loop, self._server, self._sleep = loop, server, sleep
        self._looker = Looker(asks, service, source) if asks is not None else None
        self._roll = Roll(self.agent_id, server.gone_after, names)
        self._gatherer = Gatherer()
        self._sequence = 0
        self._connected: bool | None = None

    # ---- to the loop -----------------------------------------------------------------------------

    def heartbeat(self, engines: tuple[EngineSample, ...] = ()) -> None:
        """Tell the loop that somebody watches, and what was measured."""
        self._sequence += 1
        now = self._loop.now()
        self._loop.mailbox.report(
            ReportReceived(self.agent_id, INCARNATION, self._sequence, engines, received_at=now)
        )

    def hello(self) -> None:
        """Tell the loop what stood here before; what stands now is still to be seen."""
        self._connect()
        if self.told.error:
            self._disconnect(self.told.error)

    def retire(self) -> None:
        """Let go of its own instances: the service's signals come from elsewhere now, or it is gone."""
        self._loop.mailbox.put_now(AgentConnected(self.agent_id, INCARNATION, "prometheus"))
        self._disconnect("no service takes its signals from here any more")

    def _connect(self) -> None:
        facts = self._roll.standing(self._loop.state)
        hello = AgentConnected(self.agent_id, INCARNATION, f"prometheus {self.told.server}", facts)
        self._loop.mailbox.put_now(hello)
        self._connected = True

    def _disconnect(self, why: str) -> None:
        self._loop.mailbox.put_now(AgentDisconnected(self.agent_id, INCARNATION, why))
        self._connected = False

    def _tell(self, facts: list[RankFact]) -> None:
        for fact in facts:
            self._loop.mailbox.put_now(RankChanged(self.agent_id, fact))

    # ---- the watch -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self._sleep(await self.turn())

    async def turn(self) -> float:
        """Look once; return the seconds until the next time. Raises nothing."""
        told, state = self.told, self._loop.state
        service = state.services.get(self.service)
        if self._looker is None or service is None:
            return self._server.interval
        told.asked_at = self._loop.now()
        told.looks += 1
        try:
            look = await self._looker.look(self._roll.missed())
            self._see(service, look, self._loop.now())
        except PrometheusError as error:
            return self._failed(service, str(error), error.retry_after)
        except Exception as error:
            log.exception("look failed", service=self.service)
            return self._failed(service, f"an error of ours: {error!r}", 0.0)
        told.queries = {engine: dict(made) for engine, made in self._looker.queries.items()}
        if told.error:
            log.info("prometheus answers again", service=self.service, server=told.server)
        told.error, told.failures = "", 0
        return self._server.interval

    def _see(self, service: Service, look: Look, now: float) -> None:
        told = self.told
        if not self._connected:
            self._connect()
        since = now - told.answered_at if told.answered_at is not None else 0.0
        # Between two good looks that are far apart nobody looked.
        since = min(since, 2 * self._server.interval)
        facts = self._roll.facts(self._loop.state, service, look, now, since)
        self._tell(facts)
        ids = self._roll.measured
        samples = self._gatherer.samples(look, ids, now, service.spec.policy.freshness)
        self.heartbeat(tuple(samples))
        told.answered_at, told.select = now, look.found.select
        told.engines, told.measured = len(look.found.instances), len(ids)
        ages = [look.ages[name] for name in ids if name in look.ages]
        told.oldest_at = now - max(ages) if ages else None
        told.skew = look.at - now
        told.notes = list(self._notes(service, len(ages)))

    def _notes(self, service: Service, fresh: int) -> list[str]:
        notes = list(self._roll.notes)
        if not self.told.engines:
            notes.append(f"no engine's series match {{{self.told.select}}} now")
        elif self.told.measured > fresh:
            notes.append(f"{self.told.measured - fresh} tell nothing of how much they run")
        missing = [r.value for r in service.spec.roles if r not in self._roll.roles]
        if missing and self.told.engines:
            notes.append(
                f"no {' and no '.join(missing)} among them: `signals.roles`, `signals.select`"
            )
        if abs(self.told.skew) > SKEW:
            notes.append(
                f"its clock is {self.told.skew:+.0f} s from ours; ages are told by its own"
            )
        return notes

    def _failed(self, service: Service, why: str, retry_after: float) -> float:
        told = self.told
        if told.error != why:
            log.warning("prometheus fails", service=self.service, server=told.server, why=why)
            self._disconnect(why)
        told.error, told.failures = why, told.failures + 1
        blind_for = self._loop.now() - (told.answered_at or float("-inf"))
        if blind_for > service.spec.policy.freshness:
            self._tell(self._roll.blind(self._loop.state, "the Prometheus gives no whole answer"))
        wait = self._server.interval * min(1 << min(told.failures - 1, 9), MOST_BACKOFF)
        return min(LONGEST_WAIT, max(wait, retry_after))
