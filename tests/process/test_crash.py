"""kill -9 of the coordinator, and of an agent with its whole process group, in mid-traffic.

No request fails, every instance is launched exactly once, and what was under way goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from heteroscale.words import InstanceState, Role
from heteroscale_workbench.cluster.processes import Part
from tests.process.stage import LONG, SHORT_LEASE, Stage, state_of

pytestmark = pytest.mark.process
_S = InstanceState


async def crash(part: Part) -> None:
    """Kill -9 the part's process group, and start it again."""
    await part.kill()
    await part.start()


@pytest.mark.parametrize("seen", [None, _S.PENDING, _S.LAUNCHING, _S.WARMING])
async def test_coordinator_killed_at_a_scale_out(stage: Stage, seen: InstanceState | None) -> None:
    await stage.want(1, 2)
    before = await stage.until_serving(1, 2)
    epoch = await stage.epoch()
    async with stage.traffic():
        await stage.want(2, 4)
        if seen is not None:
            await stage.until_any(seen, _S.IN_SERVICE)
        await crash(stage.cluster.coordinator)
        after = await stage.until_serving(2, 4)
    assert await stage.epoch() > epoch
    assert before.items() <= after.items()
    assert stage.starts() == dict.fromkeys(after, 1)


@pytest.mark.parametrize("seen", [_S.LAUNCHING, _S.WARMING])
async def test_agent_killed_at_a_scale_out(stage: Stage, seen: InstanceState) -> None:
    await stage.want(1, 2)
    before = await stage.until_serving(1, 2)
    async with stage.traffic():
        await stage.want(2, 4)
        new = await stage.until_any(seen)
        await crash(stage.cluster.agents[(await stage.by_id())[new].agent_ids[0]])
        after = await stage.until_serving(2, 4)
    assert before.items() <= after.items()
    assert stage.starts() == dict.fromkeys(after, 1)


async def test_coordinator_killed_while_a_withdrawal_is_observed(stage: Stage) -> None:
    await stage.want(1, 3)
    before = await stage.until_serving(1, 3)
    async with stage.traffic():
        await stage.want(1, 2)
        out, since = await stage.until_withdrawn()
        await crash(stage.cluster.coordinator)

        async def covered() -> bool:
            return await stage.condition() == "ready"

        await stage.until(covered, "the new coordinator to have heard the fleet")
        await stage.outlasts_its_lease(out, since)
        await stage.want(1, 3)
        assert await stage.until_serving(1, 3) == before
    assert await stage.actions() == ["repair", "scale_in", "reinstate"]
    assert stage.starts() == dict.fromkeys(before, 1)


async def test_agent_killed_while_its_instance_is_withdrawn(stage: Stage) -> None:
    await stage.want(1, 3)
    before = await stage.until_serving(1, 3)
    async with stage.traffic():
        await stage.want(1, 2)
        out = await stage.until_any(_S.WITHDRAWN)
        generation = (await stage.by_id())[out].generation
        await crash(stage.cluster.agents[(await stage.by_id())[out].agent_ids[0]])
        await stage.until_agents(3)
        await stage.never(not_withdrawn(stage, out), f"{out} left its withdrawal", 2.0)
        assert (await stage.by_id())[out].generation == generation
        await stage.want(1, 3)
        assert await stage.until_serving(1, 3) == before
    assert stage.starts() == dict.fromkeys(before, 1)


@pytest.mark.parametrize("who", ["coordinator", "agent"])
async def test_killed_while_an_instance_drains(stage: Stage, who: str) -> None:
    await stage.want(1, 2)
    before = await stage.until_serving(1, 2)
    async with stage.traffic() as load:
        for _ in range(4):
            load.offer(64, LONG)
        victim = (await stage.ids(role=Role.DECODE)).pop()
        await stage.until(lambda: stage.is_busy(victim), f"{victim} to have something to finish")
        await stage.operator.drain(victim)
        await stage.until_state(victim, _S.DRAINING)
        home = stage.cluster.agents[(await stage.by_id())[victim].agent_ids[0]]
        await crash(home if who == "agent" else stage.cluster.coordinator)
        assert victim in stage.started()
        await stage.until_state(victim, _S.TERMINATED)
        after = await stage.until_serving(1, 2)
    assert {name: pid for name, pid in before.items() if name != victim}.items() <= after.items()
    assert stage.starts() == dict.fromkeys([*before, *after], 1)


async def test_coordinator_away_longer_than_a_lease(stage: Stage) -> None:
    """What is withdrawn comes back by itself; the next coordinator withdraws it again."""
    stage.lease = SHORT_LEASE
    await stage.want(1, 3, observation="10s")
    before = await stage.until_serving(1, 3)
    async with stage.traffic():
        await stage.want(1, 2)
        out = await stage.until_any(_S.WITHDRAWN)
        known = (await stage.by_id())[out]
        endpoint = known.endpoint

        async def listed() -> bool:
            return endpoint in await stage.workers()

        async def gone() -> bool:
            return not await listed()

        await stage.until(gone, f"{out} out of the router")
        await stage.cluster.coordinator.kill()
        await stage.until(listed, f"{out} back in the router without a coordinator")
        await stage.cluster.coordinator.start()

        async def told() -> bool:
            return (await stage.by_id())[out].generation > known.generation

        await stage.until(told, f"the new coordinator to hear that {out} came back")
        await stage.until_any(_S.WITHDRAWN)
    assert stage.started() == before
    assert stage.starts() == dict.fromkeys(before, 1)


def not_withdrawn(stage: Stage, instance_id: str) -> Callable[[], Awaitable[bool]]:
    """Return the question whether an instance is anything but withdrawn, or not known yet."""

    async def asked() -> bool:
        return state_of((await stage.by_id())[instance_id]) not in (_S.WITHDRAWN, _S.UNKNOWN)

    return asked
