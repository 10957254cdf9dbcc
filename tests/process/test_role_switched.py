"""An operator switches a running instance's role under load; all parties agree, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from heteroscale.words import InstanceState, Role
from tests.process.fleet import Fleet, fleet, layout

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with fleet(layout(tmp_path_factory.mktemp("switch"))) as made:
        # What is scaled out by hand stays, idle as it is.
        await made.serve(prefill=(1, 2), decode=(1, 2), policy={"cooldownIn": "30m"})
        yield made


async def test_a_decode_becomes_prefill_and_nothing_is_lost_or_started(world: Fleet) -> None:
    await world.operator.scale("chat", 1, 2)

    async def grown() -> bool:
        return len(await world.serving(Role.DECODE)) == 2

    await world.until(grown, "two decodes")
    await world.operator.pause("chat")
    before, one = world.started(), (await world.serving(Role.DECODE))[0]
    load = world.load(4.0, 64, 8, seconds=20.0)
    running = asyncio.create_task(load.run())
    await world.operator.switch_role(one.id, Role.PREFILL)

    async def switched() -> bool:
        now = await world.instance(one.id)
        return (now.role, now.state) == (Role.PREFILL, InstanceState.IN_SERVICE)

    await world.until(switched, "the new role")
    load.stop()
    report = await running
    assert report.clean, report.failures
    assert world.started() == before
    await world.counts(2, 1)

    async def listed() -> bool:
        return one.endpoint in await world.workers(0)

    await world.until(listed, "the router lists it")
