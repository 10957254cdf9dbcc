"""One measurement: everything started, a warm-up, a window of sights once a second, figures."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.agent import host
from benchmarks.agent.figures import Figures
from benchmarks.agent.sight import Sight, look
from heteroscale_workbench.cluster.processes import Part

Say = Callable[[str], None]
_EXPECTED = ("not connected", "scrape failed")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. Times in seconds."""

    warm: float
    """Longer than the 120 s of history that an agent keeps, or its memory is not full yet."""
    seconds: float
    dresses: tuple[host.Dress, ...]


@dataclass(slots=True)
class Result:
    """Figures by name, in the order of the table; and what makes them worthless."""

    figures: list[Figures] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


async def measure(plan: Plan, say: Say) -> Result:
    """Run ``plan``.

    Raises:
        BenchError, ProcessError: something is missing, or did not start.

    """
    host.exporter_path()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-agent-")))
        world = await enter(host.world(folder))
        coordinator = await enter(host.coordinator(folder))
        exporter, port = await enter(host.exporter(folder))
        parts = await enter(host.agents(plan.dresses, folder, coordinator.port, world.ports))
        scraping = asyncio.create_task(_scrape(f"http://127.0.0.1:{port}/metrics"))
        stack.callback(scraping.cancel)
        everything = {**parts, exporter.name: exporter}
        say(f"{len(parts)} agents and {exporter.name} run; warming up for {plan.warm:g} s")
        await asyncio.sleep(plan.warm)
        heard = await coordinator.reports()
        say(f"measuring for {plan.seconds:g} s")
        sights = await _watch(everything, plan.seconds)
        result = Result([Figures.of(name, seen) for name, seen in sights.items()])
        if not await coordinator.reports() > heard:
            result.troubles.append("the coordinator heard nothing")
        scrapes = await world.end()
        result.troubles += _quiet_engines(scrapes, plan)
        for part in parts.values():
            result.troubles += _complaints(part)
    return result


async def _scrape(url: str) -> None:
    """Read node-exporter once a second, as Prometheus would."""
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            with suppress(httpx.HTTPError):  # it starts; a dead one is noticed by `_watch`
                await client.get(url)
            await asyncio.sleep(1.0)


async def _watch(parts: Mapping[str, Part], seconds: float) -> dict[str, list[Sight]]:
    sights: dict[str, list[Sight]] = {name: [] for name in parts}
    end = time.monotonic() + seconds
    while True:
        for name, part in parts.items():
            part.require()
            sights[name].append(look(part.pid))
        left = end - time.monotonic()
        if left <= 0:
            return sights
        await asyncio.sleep(min(1.0, left))


def _quiet_engines(scrapes: Sequence[int], plan: Plan) -> list[str]:
    """Return engines that were not scraped about once a second by each agent that watches them."""
    watchers = sum(dress.engines for dress in plan.dresses)
    wanted = 0.8 * watchers * (plan.warm + plan.seconds) - watchers * 10
    return [
        f"engine {place} was scraped {seen} times, not {wanted:.0f}"
        for place, seen in enumerate(scrapes)
        if seen < wanted
    ]


def _complaints(part: Part) -> list[str]:
    """Return what an agent warned of, except what is meant, or is counted by `_quiet_engines`."""
    found = []
    for line in part.log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            found.append(f"{part.name}: {line[:200]}")
            continue
        if entry.get("level") not in ("info", "debug") and entry.get("event") not in _EXPECTED:
            found.append(f"{part.name}: {entry.get('event')}: {entry.get('error', '')}")
    return found
