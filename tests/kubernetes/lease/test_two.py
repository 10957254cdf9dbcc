"""Of two coordinators one acts: the other goes on with what it finds; the first never acts beside it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.kubernetes.kube import Kube
from tests.kubernetes.lease.pair import Pair, Pod, leading
from tests.kubernetes.server.serve import ApiServer

pytestmark = pytest.mark.process


async def taken_over(pair: Pair, by: Pod, engines: set[str]) -> None:
    """Wait until one leads and has told so; it has what was there, and nothing beside it."""
    before = len(by.changed())
    await pair.until(lambda: by.holds(pair.kube), f"{by.name} leads")
    await pair.until(
        lambda: any("/status" in one.path for one in by.changed()[before:]), f"{by.name} tells"
    )
    await pair.until(pair.serves, "all is in service as before")
    assert pair.pods() == engines


async def test_one_acts_whether_the_other_is_stopped_wakes_up_or_is_killed(
    small_kube: Kube, api_server: ApiServer, tmp_path: Path
) -> None:
    async with leading(small_kube, api_server, tmp_path) as pair:
        engines = pair.pods()
        assert len(engines) == 3
        assert pair.b.changed() == [], "who follows changes nothing"
        pair.a.process.signal(signal.SIGSTOP)
        await taken_over(pair, pair.b, engines)
        before = pair.a.changed()
        pair.a.process.signal(signal.SIGCONT)
        assert await pair.a.process.ended() == 1
        assert "the lease was lost" in pair.a.process.tail()
        assert pair.a.changed() == before, "who wakes up too late changes nothing"
        # With what it has kept of the time when it led:
        await pair.a.process.start()
        asked = len(pair.a.asked())
        await pair.until(lambda: len(pair.a.asked()) > asked + 1, "a follows")
        await pair.b.process.kill()
        assert pair.a.changed() == before
        pair.cut_short()
        await taken_over(pair, pair.a, engines)
