"""What a real agent does with orders that are late, stale or not allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from heteroscale.convert import duration, to_wire
from heteroscale.v1 import agent_pb2
from heteroscale.words import InstanceState, Outcome, Role, WithdrawReason
from tests.process.boss import Boss, launch, server
from tests.process.fleet import Fleet, fleet, hosts, layout

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]
LEASE = 2.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """One agent, and nobody at the address it dials but the test."""
    folder = tmp_path_factory.mktemp("orders")
    async with fleet(layout(folder, hosts=hosts("H20"), coordinator=False)) as made:
        yield made


async def test_a_drain_from_before_the_lease_ended_is_refused(world: Fleet) -> None:
    coordinator = server(world)
    async with coordinator.serving():
        boss = await Boss.greet(coordinator)
        boss.order("launch", "i-1", launch=launch(world))
        serving = await boss.reaches("i-1", InstanceState.IN_SERVICE)
        soft = agent_pb2.Withdraw(
            reason=to_wire(WithdrawReason.SOFT_SCALE_IN),  # type: ignore[arg-type]
            lease=duration(LEASE),
        )
        boss.order("withdraw", "i-1", serving.generation, withdraw=soft)
        out = await boss.reaches("i-1", InstanceState.WITHDRAWN)
        assert out.generation == serving.generation + 1
        process = world.process("i-1")

        async def left() -> bool:
            return await world.workers() == set()

        await world.until(left, "the router to let it go")
    # The coordinator is gone with its drain unsent; nobody renews the lease.

    async def back() -> bool:
        return await world.workers() == {serving.endpoint}

    await world.until(back, "the lease to end and the router to know it again")
    async with coordinator.serving():
        boss = await Boss.greet(coordinator)
        (told,) = boss.hello.instances
        assert told.state == to_wire(InstanceState.IN_SERVICE)
        assert told.generation == out.generation + 1
        drain = agent_pb2.Drain(
            lease=duration(30.0),
            settle_time=duration(0.2),
            quiet_scrapes=1,
            grace=duration(2.0),
        )
        stale = boss.order("drain", "i-1", out.generation, drain=drain)
        outcome, why = await boss.result("drain")
        assert outcome is Outcome.REFUSED
        assert f"expects generation {out.generation}" in why
        assert f"is at {told.generation} (in_service)" in why
        boss.send(stale)
        assert await boss.result("drain") == (outcome, why)
        assert process.is_running()
        assert await world.workers() == {serving.endpoint}

        boss.order("drain-2", "i-1", told.generation, drain=drain)
        assert (await boss.result("drain-2"))[0] is Outcome.ACCEPTED
        await boss.reaches("i-1", InstanceState.TERMINATED)
        assert not process.is_running()
        assert await world.workers() == set()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"template": "sh"}, "no template 'sh' in this agent's configuration (it has: decode, "),
        ({"template": "/bin/sh"}, "no template '/bin/sh'"),
        ({"parameters": {"cmd": "rm -rf /"}}, "template 'decode' has no parameter 'cmd'"),
        ({"parameters": {"port": "1"}}, "template 'decode' has no parameter 'port'"),
        ({"role": to_wire(Role.PREFILL)}, "template 'decode' is for decode, not for prefill"),
        ({"gpu_indices": [7]}, "no GPU 7 on this host: it has 2"),
        ({"service": "../chat"}, "service '../chat' is no name"),
    ],
)
async def test_what_the_agents_configuration_does_not_name_is_not_started(
    world: Fleet, changes: dict[str, Any], words: str
) -> None:
    coordinator = server(world)
    before = world.started()
    async with coordinator.serving():
        boss = await Boss.greet(coordinator)
        known = {status.instance_id for status in boss.hello.instances}
        boss.order(f"launch {words}", "i-evil", launch=launch(world, **changes))
        outcome, why = await boss.result(f"launch {words}")
        assert outcome is Outcome.REFUSED
        assert words in why
    async with coordinator.serving():
        boss = await Boss.greet(coordinator)
        assert {status.instance_id for status in boss.hello.instances} == known
    assert world.started() == before
