"""The lease: one coordinator acts, whatever clocks say, and ends itself before another begins."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from heteroscale_coordinator.edge.cluster_api import Address, ApiError
from heteroscale_coordinator.edge.lease import (
    Election,
    Lease,
    LeaseLostError,
    LeaseTimes,
    lease_at,
    micro_time,
)
from tests.coordinator.crd.cluster import Cluster

AT = lease_at("heteroscale", "heteroscale-coordinator")
TIMES = LeaseTimes()


class Clock:
    """Monotonic time that passes only while somebody sleeps."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def lease(cluster: Cluster, identity: str, clock: Clock, *, wall: float = 1_750_000_000.0) -> Lease:
    return Lease(
        cluster,
        AT,
        identity,
        monotonic=clock,
        wall=lambda: wall + clock.now,
        sleep=clock.sleep,
        jitter=lambda: 0.0,
    )


def spec(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.objects[AT]["spec"]
    return found


@pytest.mark.parametrize("wall", [1_750_000_000.0, 1_750_000_000.5, 0.0, 1e9 + 1e-6])
def test_a_micro_time_always_has_six_digits(wall: float) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", micro_time(wall))


async def test_the_first_one_creates_it_and_renews_it() -> None:
    cluster, clock = Cluster(), Clock()
    mine = lease(cluster, "a", clock)
    assert not mine.held()
    await mine.acquire()
    assert mine.held()
    first = spec(cluster)
    assert first["holderIdentity"] == "a"
    assert first["leaseTransitions"] == 0
    assert first["acquireTime"] == first["renewTime"]
    keeping = asyncio.create_task(mine.keep())
    while clock.now < 130:
        await asyncio.sleep(0)
        assert mine.held()
    keeping.cancel()
    assert spec(cluster)["acquireTime"] == first["acquireTime"]
    assert spec(cluster)["renewTime"] > first["renewTime"]


async def test_a_second_one_waits_until_the_first_is_silent_for_the_whole_duration() -> None:
    cluster, clock = Cluster(), Clock()
    await lease(cluster, "a", clock).acquire()
    other, begun = lease(cluster, "b", clock), clock.now
    await other.acquire()
    assert clock.now - begun >= TIMES.duration
    assert spec(cluster)["holderIdentity"] == "b"
    assert spec(cluster)["leaseTransitions"] == 1


@pytest.mark.parametrize("skew", [-86_400.0, 86_400.0])
async def test_no_clock_of_another_machine_is_compared(skew: float) -> None:
    """The follower's wall clock is a day off: it neither takes the lease early nor waits for ever."""
    cluster, clock = Cluster(), Clock()
    await lease(cluster, "a", clock).acquire()
    other, begun = lease(cluster, "b", clock, wall=1_750_000_000.0 + skew), clock.now
    await other.acquire()
    assert TIMES.duration <= clock.now - begun <= TIMES.duration + 2 * TIMES.retry


async def test_while_the_first_renews_the_second_never_leads() -> None:
    cluster, clock = Cluster(), Clock()
    first = lease(cluster, "a", clock)
    await first.acquire()
    election = Election("b", TIMES)
    for _ in range(100):
        clock.now += TIMES.retry
        await first.acquire()
        election.observe(spec(cluster), clock.now)
        assert not election.free(clock.now)
    assert election.holder == "a"


async def test_who_cannot_renew_ends_before_another_may_begin() -> None:
    cluster, clock = Cluster(), Clock()
    mine = lease(cluster, "a", clock)
    await mine.acquire()
    renewed_at = clock.now

    def down(_verb: str, _at: Address) -> None:
        raise ApiError("connection refused")

    cluster.fault = down
    with pytest.raises(LeaseLostError, match="connection refused"):
        await mine.keep()
    assert not mine.held()
    assert TIMES.deadline <= clock.now - renewed_at < TIMES.duration


async def test_who_sees_another_as_holder_ends_at_once() -> None:
    cluster, clock = Cluster(), Clock()
    mine = lease(cluster, "a", clock)
    await mine.acquire()
    stolen = {**cluster.objects[AT], "spec": {**spec(cluster), "holderIdentity": "b"}}
    await cluster.replace(AT, stolen)
    with pytest.raises(LeaseLostError, match="is held by b"):
        await mine.keep()
    assert not mine.held()


async def test_given_back_it_is_taken_at_once() -> None:
    cluster, clock = Cluster(), Clock()
    mine = lease(cluster, "a", clock)
    await mine.acquire()
    await mine.release()
    assert "holderIdentity" not in spec(cluster)
    assert not mine.held()
    begun = clock.now
    await lease(cluster, "b", clock).acquire()
    assert clock.now == begun


async def test_two_who_write_at_once_cannot_both_have_it() -> None:
    cluster, clock = Cluster(), Clock()
    a, b = lease(cluster, "a", clock), lease(cluster, "b", clock)
    taken: list[str] = []

    def first_come(verb: str, _at: Address) -> None:
        if verb == "create" and not taken:
            taken.append("b")
            made = {"spec": Election("b", TIMES).claim(0.0), "kind": "Lease"}
            cluster.put(AT, made)

    cluster.fault = first_come
    assert not await a._attempt(1.0)
    assert not a.held()
    await b.acquire()
    assert b.held()


async def test_errors_are_told_and_forgotten_once_it_works() -> None:
    cluster, clock = Cluster(), Clock()
    refusals = [ApiError("no right to get leases"), TimeoutError()]

    def some(_verb: str, _at: Address) -> None:
        if refusals:
            raise refusals.pop(0)

    cluster.fault = some
    mine = lease(cluster, "a", clock)
    assert not await mine._attempt(1.0)
    assert mine.waits_for.endswith("held by nobody yet; no right to get leases")
    assert not await mine._attempt(1.0)
    assert "does not answer" in mine.trouble
    await mine.acquire()
    assert mine.trouble == ""


async def test_what_cannot_be_given_back_runs_out() -> None:
    cluster, clock = Cluster(), Clock()
    mine = lease(cluster, "a", clock)
    await mine.release()
    assert cluster.calls == []
    await mine.acquire()

    def down(_verb: str, _at: Address) -> None:
        raise ApiError("connection refused")

    cluster.fault = down
    await mine.release()
    assert spec(cluster)["holderIdentity"] == "a"
    assert not mine.held()
