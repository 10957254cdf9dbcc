"""Asks the sources of network domains when the agent starts, and now and then afterwards.

A source that is late or fails keeps nobody from starting: what is known counts, and it is asked
again a minute later. What it said before holds until it says otherwise.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Self

import structlog

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.probes.topology.found import Answer, Found, settle
from heteroscale_agent.probes.topology.sources import Source, fixed, sources

log = structlog.get_logger(__name__)

RETRY = 60.0
"""Seconds until a source that had no answer is asked again."""
REFRESH = 600.0
"""Seconds until one that answered is: wires are seldom moved, and ten thousand agents ask."""
_SPREAD = 0.2
"""The part of these times by which agents differ, so that a fleet does not ask in one moment."""

Sleep = Callable[[float], Awaitable[None]]


class TopologyWatch:
    """What all sources say, the strongest first: environment, configuration, `topologyFrom`."""

    def __init__(
        self,
        strongest: list[Answer],
        asked: list[Source],
        on_change: Callable[[Found], None],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Use `of` for a whole agent; here the sources are handed in."""
        self._strongest, self._sources = strongest, asked
        self._on_change, self._sleep = on_change, sleep
        self._answers = [Answer(source.name, problem="no answer yet") for source in asked]
        self._tasks: list[asyncio.Task[None]] = []
        self.found = settle([*strongest, *self._answers])

    @classmethod
    def of(
        cls, spec: AgentSpec, environ: Mapping[str, str], on_change: Callable[[Found], None]
    ) -> Self:
        """Return the watch that ``spec`` describes.

        Raises:
            TopologyError: the variable HETEROSCALE_TOPOLOGY is malformed.

        """
        configured = {str(level): name for level, name in spec.topology.items()}
        return cls(fixed(configured, environ), sources(spec, environ), on_change)

    async def start(self, patience: float) -> Found:
        """Ask all sources; return what is known when all answered or ``patience`` seconds passed."""
        first = [asyncio.Event() for _ in self._sources]
        self._tasks = [
            asyncio.create_task(self._follow(place, said), name=f"topology {source.name}")
            for place, (source, said) in enumerate(zip(self._sources, first, strict=True))
        ]
        waits = [asyncio.create_task(said.wait()) for said in first]
        if waits:
            _, late = await asyncio.wait(waits, timeout=patience)
            for wait in late:
                wait.cancel()
        return self.found

    async def close(self) -> None:
        """Ask no more; does not wait for a source that hangs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for source in self._sources:
            source.close()

    async def _follow(self, place: int, said: asyncio.Event) -> None:
        source = self._sources[place]
        while True:
            self._heard(place, await source.read())
            said.set()
            pause = RETRY if self._answers[place].problem else REFRESH
            await self._sleep(pause * random.uniform(1 - _SPREAD, 1 + _SPREAD))  # noqa: S311 - no secret

    def _heard(self, place: int, answer: Answer) -> None:
        before = self._answers[place]
        if answer.problem:
            if answer.problem != before.problem:
                log.warning("topology source", source=answer.source, problem=answer.problem)
            # What it said once holds: a controller that restarts moves no host.
            answer = replace(before, problem=answer.problem)
        self._answers[place] = answer
        found = settle([*self._strongest, *self._answers])
        changed = (found.levels, found.sources) != (self.found.levels, self.found.sources)
        self.found = found
        if changed:
            log.info("topology", **found.levels)
            self._on_change(found)


async def look(spec: AgentSpec, environ: Mapping[str, str], patience: float = 30.0) -> Found:
    """Ask every source once and return what they say; for a person who wants to know.

    Raises:
        TopologyError: the variable HETEROSCALE_TOPOLOGY is malformed.

    """
    watch = TopologyWatch.of(spec, environ, lambda _: None)
    try:
        return await watch.start(patience)
    finally:
        await watch.close()
