"""An engine is killed under load: its own requests fail, counted and named, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio

from heteroscale.words import InstanceState, Role
from heteroscale_workbench.cluster.local import until
from heteroscale_workbench.load import LoadRun
from tests.process.fleet import PATIENCE, Fleet, Seen, fleet, layout

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]
AFTERWARDS = 8
"""Requests that must pass after the dead engine left the router."""
WARM_UP = 2.0
"""Seconds of load before it happens."""
LOAD = {Role.DECODE: (4.0, 64, 40), Role.PREFILL: (1.2, 800, 4)}
"""Requests/s, prompt and output tokens that keep one role busy and not overloaded."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    how = layout(tmp_path_factory.mktemp("killed"), options=("--speed", "0.7"))
    async with fleet(how) as made:
        yield made


@pytest.mark.parametrize("role", [Role.DECODE, Role.PREFILL])
async def test_only_its_requests_in_flight_fail_and_it_is_replaced(
    world: Fleet, role: Role
) -> None:
    await world.serve(prefill=(2, 2), decode=(2, 2))
    before = world.started()
    load = world.load(*LOAD[role])
    sending = asyncio.create_task(load.run())
    victim, process, in_flight = await _stopped_with_requests(world, role, load)
    killed_at = load.elapsed
    process.kill()

    async def left() -> bool:
        return victim.endpoint not in await world.workers()

    await world.until(left, "the dead engine to leave the router")
    left_at, sent = load.elapsed, load.snapshot().sent
    await world.counts(2, 2)

    async def went_on() -> bool:
        return load.snapshot().sent >= sent + AFTERWARDS

    await world.until(went_on, f"{AFTERWARDS} more requests")
    load.stop()
    report = await sending

    its_own = in_flight - load.passed_ids
    seen = world.seen_by(role, None, load)
    for failure in report.failures:
        arrived_dead = failure.request_id not in seen and killed_at - 1 < failure.at <= left_at
        assert failure.request_id in its_own or arrived_dead, (failure, killed_at, left_at)
    assert 1 <= sum(f.request_id in its_own for f in report.failures) <= len(in_flight)
    assert report.failed_requests == len(report.failures) == report.requests - report.passed
    assert report.retried_requests == 0
    assert report.local_errors == 0

    dead = await world.instance(victim.id)
    assert dead.state is InstanceState.FAILED
    assert "killed by SIGKILL" in dead.message
    serving = await world.serving(Role.PREFILL) + await world.serving(Role.DECODE)
    assert await world.workers() == {one.endpoint for one in serving}
    after = world.started()
    survivors = {name: at for name, at in before.items() if name != victim.id}
    assert survivors.items() <= after.items()
    assert len(after) == len(before)


async def _stopped_with_requests(
    world: Fleet, role: Role, load: LoadRun
) -> tuple[Seen, psutil.Process, frozenset[str]]:
    """Stop an engine that was just sent a request, so that its requests can be named before it dies."""
    victim = (await world.serving(role))[0]
    process = world.process(victim.id)
    known: set[str] = set()

    async def sent() -> bool:
        seen = world.seen_by(role, process.pid, load)
        fresh = seen - known
        known.update(seen)
        return load.elapsed > WARM_UP and bool(fresh)

    await until(sent, PATIENCE, "a request for the victim", poll=0.02)
    process.suspend()
    return victim, process, world.seen_by(role, process.pid, load) - load.passed_ids
