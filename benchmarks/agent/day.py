"""A day of samples in virtual time, to see whether anything in the agent grows.

The real eyes, samplers, outbox and wire, on twins of devices and engines (`tests.agent.twin_host`).
Engines come and go, each with labels of its own; counters move, wrap and start anew; for a third of
each round there is no coordinator, and reports coalesce. What is alive is counted at the end of every
round, always at the same point of it.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from tests.agent import virtual
from tests.agent.twin_host import TwinEyes

from heteroscale_agent import wire
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.identity import Identity
from heteroscale_agent.model import Report
from heteroscale_agent.outbox import Outbox
from heteroscale_agent.ports import ScrapeTarget
from heteroscale_agent.rooms import Pace, sample

ROUND_S = 3600.0
ENGINES = 4
ENGINE = "vllm"
ENGINE_LIFE_S = 300.0
REPORT_S = 5.0
GROWTH_GOAL = 0.01
"""Of all that Python has allocated: less than what an hour's luck makes."""
AWAY = 1 / 3
"""The part of each round without a coordinator, its first."""

_IDENTITY = Identity("bench", 1, "token", "boot", "host")
_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@dataclass(frozen=True, slots=True)
class Mark:
    """What was alive at the end of a round."""

    at_s: float
    """Since the start."""
    blocks: int
    """Python's allocated blocks of memory."""
    objects: int
    """Objects that its garbage collector knows."""
    watched: int
    """Engines that the eyes keep in mind."""
    history: int
    """Reports kept for a hello."""
    samples: int
    sent: int
    """Reports and hellos that were written for the wire."""

    def __str__(self) -> str:
        return (
            f"{self.at_s / 3600:6.2f} {self.samples:9,} {self.sent:8,} {self.blocks:10,} "
            f"{self.objects:9,} {self.watched:8} {self.history:8}"
        )


HEAD = "  hour   samples     sent     blocks   objects  engines  history"


def engine_text(url: str, now: float) -> str:
    """Return what an engine at ``url`` says: its own labels, and counters since its start."""
    age = now % ENGINE_LIFE_S  # some start anew within their life
    labels = f'engine="{url[-8:]}",model_name="tiny"'
    buckets = "".join(
        f'vllm:inter_token_latency_seconds_bucket{{{labels},le="{bound}"}} {age * place}\n'
        for place, bound in enumerate((*_BOUNDS_S, "+Inf"))
    )
    return (
        f"vllm:generation_tokens_total{{{labels}}} {9 * age}\n"
        f"vllm:num_requests_running{{{labels}}} {age % 7}\n"
        f"vllm:num_requests_waiting{{{labels}}} {age % 3}\n"
        f"vllm:kv_cache_usage_perc{{{labels}}} 0.5\n{buckets}"
        f"vllm:inter_token_latency_seconds_sum{{{labels}}} {age}\n"
        f"vllm:inter_token_latency_seconds_count{{{labels}}} {age * len(_BOUNDS_S)}\n"
    )


class Day:
    """One agent's eyes and outbox, a coordinator that is there or not, engines that come and go."""

    def __init__(self, round_s: float) -> None:
        self._round = round_s
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        spec = AgentSpec(coordinator="127.0.0.1:1")
        self._eyes = TwinEyes(spec, self._clock, engine_text)
        self._outbox, self._pace = Outbox(), Pace(1.0)
        self._sent = 0
        self._names = count()
        self._targets: list[ScrapeTarget] = []

    async def live(self, rounds: int, say: Callable[[Mark], None]) -> list[Mark]:
        """Live so long; return a mark for every round."""
        await self._eyes.find()
        self._pace.wanted(REPORT_S)
        tasks = [
            asyncio.create_task(sample(self._eyes, self._outbox, self._pace)),
            asyncio.create_task(self._engines()),
            asyncio.create_task(self._coordinator()),
        ]
        marks = []
        for number in range(1, rounds + 1):
            # A moment before the next sample and the next absence begin.
            await asyncio.sleep(self._began + number * self._round - 0.25 - self._clock())
            marks.append(self._mark())
            say(marks[-1])
            for task in tasks:
                if task.done():
                    task.result()
        for task in tasks:
            task.cancel()
        await self._eyes.close()
        return marks

    async def _engines(self) -> None:
        """Replace the oldest engine by a new one again and again."""
        while True:
            name = f"bench-{next(self._names):08d}"
            self._targets.append(ScrapeTarget(name, f"http://engine/{name}", ENGINE))
            del self._targets[:-ENGINES]
            self._eyes.set_targets(self._targets)
            await asyncio.sleep(ENGINE_LIFE_S / ENGINES)

    async def _coordinator(self) -> None:
        """Take what there is to hear; at the end of an absence a hello comes first."""
        while True:
            await asyncio.sleep(AWAY * self._round)
            self._outbox.clear()
            self._say_hello()
            try:
                async with asyncio.timeout((1 - AWAY) * self._round):
                    while True:
                        report = await self._outbox.take()
                        assert isinstance(report, Report)  # noqa: S101 - nothing else is put in
                        wire.report(report, self._clock()).SerializeToString()
                        self._sent += 1
            except TimeoutError:
                continue

    def _say_hello(self) -> None:
        wire.hello(
            _IDENTITY,
            inventory=self._eyes.inventory(),
            instances=[],
            history=self._eyes.history(),
            results=[],
            now=self._clock(),
            version="",
            cluster_id="",
            highest_epoch=1,
            advertise_host="",
        ).SerializeToString()
        self._sent += 1

    def _mark(self) -> Mark:
        gc.collect()
        return Mark(
            at_s=self._clock() - self._began,
            blocks=sys.getallocatedblocks(),
            objects=len(gc.get_objects()),
            watched=self._eyes.watched,
            history=len(self._eyes.history()),
            samples=self._eyes.samples,
            sent=self._sent,
        )


def live(
    rounds: int, round_s: float = ROUND_S, say: Callable[[Mark], None] = lambda _: None
) -> list[Mark]:
    """Let an agent live so long, in a few minutes."""

    async def begin() -> list[Mark]:
        return await Day(round_s).live(rounds, say)

    return virtual.run(begin())
