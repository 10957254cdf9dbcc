"""Engines that exit at once, never get ready, or ignore TERM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from heteroscale.words import InstanceState, Role
from heteroscale_workbench.cluster.local import Host
from tests.process.fleet import Fleet, fleet, hosts, layout

pytestmark = pytest.mark.process
STARTUP = 9.0
"""Seconds after which an engine that is not ready has failed."""


@pytest.fixture
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    """One host that decode prefers and whose engines have the test's fault, and a good one."""
    bad = Host("bad", ("H20",) * 2, "minipod-0", engine_options=("--fault", request.param))
    good = Host("good", ("L20",) * 4, "minipod-0")
    async with fleet(layout(tmp_path, hosts=[bad, good])) as made:
        yield made


def _roles() -> dict[str, dict[str, object]]:
    return {
        "prefill": {"gpuTypes": ["L20"], "startupTimeout": f"{STARTUP}s"},
        "decode": {"gpuTypes": ["H20", "L20"], "startupTimeout": f"{STARTUP}s"},
    }


@pytest.mark.parametrize(
    ("world", "words"),
    [
        ("exit-at-once", ["exited with code 3", "log: engine-sim: told to exit at once"]),
        ("never-ready", [f"not ready after {STARTUP:g} s"]),
    ],
    indirect=["world"],
)
async def test_a_launch_that_fails_is_said_and_tried_elsewhere(
    world: Fleet, words: list[str]
) -> None:
    await world.serve(prefill=(1, 1), decode=(2, 2), roles=_roles())
    failed = await world.instances(InstanceState.FAILED)
    assert failed
    assert {(one.role, one.agent) for one in failed} == {(Role.DECODE, "bad")}
    for one in failed:
        assert all(word in one.message for word in words), one.message
    serving = await world.serving(Role.PREFILL) + await world.serving(Role.DECODE)
    assert {one.agent for one in serving} == {"good"}
    assert set(world.started()) == {one.id for one in serving}
    assert await world.workers() == {one.endpoint for one in serving}

    # Not frozen: it still grows, and where launches failed a short while ago is passed over.
    await world.operator.scale("chat", 1, 2)
    await world.serve(prefill=(1, 1), decode=(3, 3), roles=_roles())
    assert {one.agent for one in await world.serving(Role.DECODE)} == {"good"}
    report = await world.load(4.0, 32, 4, seconds=2.0).run()
    assert report.clean, report.failures


@pytest.mark.parametrize("world", ["exit-at-once"], indirect=True)
async def test_failures_everywhere_are_backed_off_from(world: Fleet) -> None:
    """Only the bad host may take decodes: launches come slower and slower, and are counted."""
    breaker_off = {"stability": {"breaker": {"failures": 1000}}}
    await world.serve((1, 1), (1, 1), roles=_only_the_bad(), policy=breaker_off, ready=False)

    async def enough() -> bool:
        return len(await world.instances(InstanceState.FAILED)) >= 6

    await world.until(enough, "six failed launches")
    failed = [one for one in await world.operator.instances("chat") if "exited" in one.message]
    began = sorted(one.create_time.ToNanoseconds() / 1e9 for one in failed)[:6]
    gaps = [later - earlier for earlier, later in pairwise(began)]
    # The first is tried again at once, then after the backoff (1 s), doubled each time. A prefill
    # that comes up in between begins the row anew; at the end of six nothing does.
    assert gaps[-2] >= 1.0
    assert gaps[-1] >= 2 * 1.0
    assert len(await world.serving(Role.PREFILL)) == 1


def _only_the_bad() -> dict[str, Any]:
    roles = _roles()
    roles["decode"]["gpuTypes"] = ["H20"]
    return roles


@pytest.mark.parametrize("world", ["exit-at-once"], indirect=True)
async def test_a_node_where_every_launch_fails_is_closed_and_said(world: Fleet) -> None:
    """Three failures in a row open the node's breaker: no fourth launch before its time is up."""
    await world.serve((1, 1), (1, 1), roles=_only_the_bad(), ready=False)

    async def closed() -> bool:
        held = [d for d in await world.operator.decisions("chat") if d.action == "hold"]
        return bool(held) and "failed in a row" in f"{held[0].reason} {held[0].inputs}"

    await world.until(closed, "a hold that says so")
    assert len(await world.instances(InstanceState.FAILED)) == 3
    assert len(await world.serving(Role.PREFILL)) == 1


@pytest.fixture
async def stubborn(tmp_path: Path) -> AsyncIterator[Fleet]:
    how = layout(tmp_path, hosts=hosts("H20", gpus=4), options=("--fault", "ignore-term"))
    async with fleet(how) as made:
        yield made


async def test_whoever_ignores_term_is_killed_after_its_grace_and_no_request_is_lost(
    stubborn: Fleet,
) -> None:
    drain = {"grace": "1s", "settle": "0.5s"}
    await stubborn.serve(prefill=(1, 1), decode=(2, 2), drain=drain)
    load = stubborn.load(4.0, 64, 20)
    sending = asyncio.create_task(load.run())
    victim = (await stubborn.serving(Role.DECODE))[0]
    process = stubborn.process(victim.id)

    async def busy() -> bool:
        return len(stubborn.seen_by(Role.DECODE, process.pid, load)) >= 2

    await stubborn.until(busy, "requests at the victim")
    await stubborn.operator.drain(victim.id)
    done = await stubborn.reaches(victim.id, InstanceState.TERMINATED)
    assert "killed by SIGKILL" in done.message
    assert "1 s after TERM, so KILL" in done.message
    with pytest.raises(psutil.NoSuchProcess):
        process.status()
    await stubborn.counts(1, 2)
    load.stop()
    report = await sending
    assert report.clean, report.failures
    assert len(stubborn.seen_by(Role.DECODE, process.pid, load) & load.passed_ids) >= 2
