"""Who lost the lease does nothing more to a cluster, in the middle of a call neither."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from heteroscale_coordinator.edge.adapters import LeasedAdapter
from heteroscale_coordinator.leading import leased
from heteroscale_scheduler_adapters.memory import MemoryAdapter, MemoryCluster, Unavailable
from heteroscale_scheduler_adapters.port import (
    Adapter,
    Change,
    GateWish,
    RefusedError,
    Step,
    UnavailableError,
)
from tests.adapters.subcluster.rig import Rig, cluster, kubelet, play
from tests.coordinator.crd.cluster import Cluster
from tests.coordinator.test_lease import Clock, lease

STEP = Step("r-1", "d-1", ())


class Slow(MemoryAdapter):
    """Writes twice for each launch, with a wait in between; and ends a wait well."""

    def __init__(self, between: Callable[[], None] = lambda: None) -> None:
        super().__init__(MemoryCluster("east"))
        self.between = between
        self.written: list[str] = []

    async def launch(self, step: Step) -> None:
        self.written.append("first")
        try:
            await asyncio.sleep(0)
            self.between()
            await asyncio.sleep(0)
        finally:
            self.written.append("closed")
        self.written.append("second")

    async def stop(self, instance_id: str, grace: float) -> None:
        await asyncio.sleep(0)
        raise RefusedError(f"{instance_id} stays")


def held_by(flag: list[bool], slow: Slow) -> LeasedAdapter:
    return LeasedAdapter(cast(Adapter, slow), lambda: flag[0])


async def test_while_it_is_held_calls_go_through_with_what_they_return_and_raise() -> None:
    slow = Slow()
    held = held_by([True], slow)
    await held.open()
    await held.launch(STEP)
    assert slow.written == ["first", "closed", "second"]
    assert (await held.world()).nodes == {}
    with pytest.raises(RefusedError, match="i-1 stays"):
        await held.stop("i-1", 1.0)
    with pytest.raises(RefusedError):
        await held.gate("i-1", GateWish(open=True))
    assert held.capabilities == slow.capabilities
    await held.close()


async def test_once_it_is_lost_nothing_begins() -> None:
    slow = Slow()
    held = held_by([False], slow)
    for call in (held.launch(STEP), held.stop("i-1", 1.0), held.gate("i-1", GateWish(open=True))):
        with pytest.raises(UnavailableError, match="does not hold the lease"):
            await call
    with pytest.raises(UnavailableError):
        await held.world()
    assert slow.written == []


async def test_lost_in_the_middle_a_call_goes_no_further() -> None:
    flag = [True]
    slow = Slow(lambda: flag.__setitem__(0, False))
    with pytest.raises(UnavailableError):
        await held_by(flag, slow).launch(STEP)
    assert slow.written == ["first", "closed"]


async def test_a_watch_too_goes_no_further_once_it_is_lost() -> None:
    flag, slow = [True], Slow()
    east = slow._cluster
    revision = (await slow.world()).revision
    east.add_node("n1", 8)
    east.add_node("n2", 8)
    changes = held_by(flag, slow).watch(revision)
    assert "n1" in (await anext(changes)).nodes
    flag[0] = False
    with pytest.raises(UnavailableError, match="does not hold the lease"):
        await anext(changes)


async def test_a_watch_ends_when_the_cluster_s_does() -> None:
    class Short(Slow):
        async def watch(self, revision: str) -> AsyncIterator[Change]:
            yield Change("1")

    assert [one.revision async for one in held_by([True], Short()).watch("")] == ["1"]


async def test_a_call_can_be_cancelled_from_outside_as_ever() -> None:
    hangs: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Hanging(Slow):
        async def launch(self, step: Step) -> None:
            try:
                await hangs
            finally:
                self.written.append("closed")

    slow = Hanging()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await held_by([True], slow).launch(STEP)
    assert slow.written == ["closed"]


async def test_a_coordinator_s_adapters_follow_its_lease() -> None:
    slow = cast(Adapter, Slow())
    assert leased(slow, None) is slow
    clock = Clock()
    mine = lease(Cluster(), "pod-a", clock)
    with pytest.raises(UnavailableError):
        await leased(slow, mine).launch(STEP)
    await mine.acquire()
    await leased(slow, mine).launch(STEP)
    clock.now += 10
    with pytest.raises(UnavailableError):
        await leased(slow, mine).launch(STEP)


class Counting(MemoryAdapter):
    """Counts what is asked of it."""

    calls: Counter[str]

    async def launch(self, step: Step) -> None:
        self.calls["launch"] += 1
        await super().launch(step)


class LeasedRig(Rig):
    """A rig whose first coordinator may lose its lease."""

    held = True
    calls: Counter[str]

    def adapter(self, name: str) -> Adapter:
        counting = Counting(self.clusters[name])
        counting.calls = self.calls
        inner = cast(Adapter, counting)
        return cast(Adapter, LeasedAdapter(inner, lambda: self.held))


def test_a_driver_repeats_nothing_once_the_lease_is_lost_and_the_next_goes_on() -> None:
    async def story() -> None:
        east = cluster()
        east.faults["launch"] = Unavailable()
        rig = LeasedRig(east)
        rig.calls = Counter()
        async with rig.coordinator() as one, kubelet(east):
            await one.apply()
            await one.until(lambda: rig.calls["launch"] >= 2, "it is tried again")
            rig.held = False
            asked = rig.calls["launch"]
            del east.faults["launch"]
            await asyncio.sleep(600)
            assert rig.calls["launch"] == asked
            assert not east.running
        rig.held = True
        async with rig.coordinator() as two, kubelet(east):
            await two.until(lambda: two.serving() == {"prefill": 1, "decode": 2}, "in service")

    play(story())
