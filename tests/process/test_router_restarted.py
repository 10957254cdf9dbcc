"""Routers die and come back: gates heal, and nobody is stopped while a router may still send to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from heteroscale.words import InstanceState, Role
from tests.process.fleet import Fleet, Seen, fleet, layout

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]
OBSERVED = 3.0
"""Seconds that a drain is watched not going on: twelve looks of the agent, a settle time passed six
times over."""
POLICY = {
    "windowIn": "2s",
    "hold": "0s",
    "windowOut": "1s",
    "cooldownIn": "1s",
    "observation": "120s",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    how = layout(tmp_path_factory.mktemp("routers"), routers=2)
    async with fleet(how) as made:
        await made.serve(prefill=(1, 1), decode=(1, 3), policy=POLICY)
        yield made


async def _in_routers(world: Fleet, wanted: set[str]) -> None:
    """Wait until both routers list exactly these."""

    async def there() -> bool:
        return [await world.workers(0), await world.workers(1)] == [wanted, wanted]

    await world.until(there, f"both routers to list {wanted}")


async def _withdrawn(world: Fleet) -> Seen:
    """Scale decode out by hand and wait until idleness withdraws one again."""
    await world.operator.scale("chat", 1, 2)

    async def there() -> bool:
        return bool(await world.instances(InstanceState.WITHDRAWN))

    await world.until(there, "a soft scale-in")
    (found,) = await world.instances(InstanceState.WITHDRAWN)
    return found


async def test_a_restarted_router_gets_back_what_serves_and_not_what_is_withdrawn(
    world: Fleet,
) -> None:
    out = await _withdrawn(world)
    serving = await world.serving(Role.PREFILL) + await world.serving(Role.DECODE)
    wanted = {one.endpoint for one in serving}
    await _in_routers(world, wanted)
    before = world.started()

    first, second = world.cluster.routers
    await first.kill()
    await first.start()
    listed: list[set[str]] = []

    async def back() -> bool:
        listed.append(await world.workers(0))
        return listed[-1] == wanted

    await world.until(back, "the router to know what serves")
    assert not any(out.endpoint in once for once in listed)
    assert await world.workers(1) == wanted
    now = await world.instance(out.id)
    assert (now.state, now.generation) == (out.state, out.generation)
    assert world.started() == before

    load = world.load(4.0, 64, 8, seconds=3.0)
    report = await load.run()
    assert report.clean, report.failures
    assert report.requests == 12
    assert second.pid is not None


async def test_a_drain_waits_for_a_router_that_is_away_and_ends_when_it_is_back(
    world: Fleet,
) -> None:
    await world.serve(prefill=(1, 1), decode=(2, 2))
    victim, other = await world.serving(Role.DECODE)
    process = world.process(victim.id)
    away = world.cluster.routers[1]
    await away.kill()
    await world.operator.drain(victim.id)

    async def out_of_the_first() -> bool:
        return victim.endpoint not in await world.workers(0)

    await world.until(out_of_the_first, "the living router to let it go")

    async def ended() -> bool:
        return not process.is_running()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(OBSERVED):
            await world.until(ended, "a drain that must not go on")
    waiting = await world.instance(victim.id)
    assert waiting.state is InstanceState.DRAINING
    assert "waiting for every router to confirm the removal" in waiting.message
    assert away.url in waiting.message

    await away.start()
    done = await world.reaches(victim.id, InstanceState.TERMINATED)
    assert "FORCED" not in done.message
    assert not process.is_running()
    await world.counts(1, 2)
    serving = await world.serving(Role.PREFILL) + await world.serving(Role.DECODE)
    assert other.id in {one.id for one in serving}
    await _in_routers(world, {one.endpoint for one in serving})
