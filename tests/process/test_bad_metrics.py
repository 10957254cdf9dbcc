"""Metrics endpoints that hang, flood or lie: what they say is unknown, and unknown is not zero."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from heteroscale.words import Role
from heteroscale_workbench.cluster.local import until
from heteroscale_workbench.cluster.processes import ProcessError
from tests.process.fleet import Fleet, Seen, fleet, hosts, layout

pytestmark = pytest.mark.process
FAULTS = ("hang", "html", "nan", "negative")
OBSERVED = 4.0
"""Seconds in which nothing must be withdrawn: eight ticks, and twice the window of a scale-in."""
AGENT_MEMORY = 160 << 20
"""Bytes an agent may hold while engines pour 100 MB on each scrape; quiet it holds some 70 MB."""
POLICY = {"windowIn": "2s", "hold": "0s", "windowOut": "1s", "cooldownIn": "1s", "freshness": "2s"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Fleet]:
    how = layout(
        tmp_path,
        hosts=hosts("H20", gpus=8),
        options=("--allow-faults",),
        agent_spec={"scrapeTimeout": "0.5s"},
    )
    async with fleet(how) as made:
        yield made


async def _set(engine: Seen, fault: str | None) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        reply = await http.post(f"{engine.endpoint}/_fault", json={"metrics": fault})
        assert reply.is_success


async def _coverage(world: Fleet) -> float:
    """Return the share of decode instances that the last decision heard."""
    signals = (await world.operator.service("chat")).signals
    return next((one.coverage for one in signals if one.name == "decode_tps"), 0.0)


async def _holds(world: Fleet) -> None:
    """Check that nothing is withdrawn while the clock runs, and that the reason is what it is."""
    before = [one.decision_id for one in await world.acted()]

    async def acted() -> bool:
        return [one.decision_id for one in await world.acted()] != before

    with pytest.raises(ProcessError):
        await until(acted, OBSERVED, "a decision on what is unknown")
    (last, *_) = await world.operator.decisions("chat")
    assert last.action == "hold"
    assert last.bound_by in ("consent", "coverage"), last.reason


async def _shrinks(world: Fleet) -> None:
    """Wait for the scale-in that only the faults held up."""

    async def shrunk() -> bool:
        return (await world.acted())[0].action == "scale_in"

    await world.until(shrunk, "a scale-in")


async def test_one_engine_that_cannot_be_read_holds_every_withdrawal(world: Fleet) -> None:
    await world.serve(decode=(3, 3), policy=POLICY)
    victim, *others = await world.serving(Role.DECODE)
    before = world.started()

    async def unheard() -> bool:
        return abs(await _coverage(world) - 2 / 3) < 0.01

    for fault in FAULTS:
        await _set(victim, fault)
        await world.until(unheard, f"{fault} to show")
        await world.serve(decode=(1, 3), policy=POLICY, ready=False)
        await _holds(world)
        readings = {one.id: one.running for one in await world.instances()}
        assert [readings[one.id] for one in others] == [0.0, 0.0]
    assert world.started() == before
    await _set(victim, None)
    await _shrinks(world)


async def test_six_bad_endpoints_at_once_neither_blind_nor_swell_the_agent(world: Fleet) -> None:
    await world.serve(decode=(7, 7), policy=POLICY)
    healthy, *bad = await world.serving(Role.DECODE)
    agent = psutil.Process(world.cluster.agents["agent-0"].pid)
    sizes: list[int] = []
    watching = asyncio.create_task(_sizes(agent, sizes))
    kinds = ["hang", "html", "error", "absurd", "huge", "huge"]
    await asyncio.gather(*(_set(one, fault) for one, fault in zip(bad, kinds, strict=True)))

    async def only_one_heard() -> bool:
        return abs(await _coverage(world) - 1 / 7) < 0.01

    await world.until(only_one_heard, "all six to be unknown")
    await world.serve(decode=(1, 7), policy=POLICY, ready=False)
    await _holds(world)
    watching.cancel()
    assert max(sizes) < AGENT_MEMORY
    readings = {one.id: one.running for one in await world.instances()}
    assert readings[healthy.id] == 0.0

    await asyncio.gather(*(_set(one, None) for one in bad))
    await _shrinks(world)


async def _sizes(agent: psutil.Process, into: list[int]) -> None:
    async def never() -> bool:
        into.append(agent.memory_info().rss)
        return False

    await until(never, OBSERVED * 10, "the end of the watch")
