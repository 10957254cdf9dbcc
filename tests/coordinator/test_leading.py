"""Who follows is alive and not ready; who lost the lease sends nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import httpx
import pytest

from heteroscale_coordinator.config import CoordinatorSpec
from heteroscale_coordinator.core.events import Changes, RenewLeases
from heteroscale_coordinator.core.model import Service
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.cluster_api import Address, ApiError
from heteroscale_coordinator.edge.http import HttpFace
from heteroscale_coordinator.edge.lease import Lease
from heteroscale_coordinator.edge.metrics import Metrics
from heteroscale_coordinator.leading import (
    LeasedOutlet,
    Waiting,
    identity,
    leadership,
    leased_api,
    new_lease,
    wait_for,
)
from tests.coordinator.crd.cluster import Cluster
from tests.coordinator.test_lease import AT, Clock, lease

SPEC = CoordinatorSpec.model_validate(
    {"http": {"listen": ""}, "kubernetes": {"lease": "heteroscale/heteroscale-coordinator"}}
)

THING = Address("v1", "Event", "events", "serving", "chat.1")


class Sent:
    def __init__(self) -> None:
        self.sent: list[object] = []

    def dispatch(self, changes: Changes, state: State, epoch: int) -> None:
        self.sent.append(changes)

    def renew(self, leases: Iterable[RenewLeases], epoch: int) -> None:
        self.sent.append(leases)


async def test_who_follows_is_alive_and_says_for_whom_it_waits() -> None:
    cluster, clock = Cluster(), Clock()
    await lease(cluster, "pod-a", clock).acquire()
    mine = lease(cluster, "pod-b", clock)
    assert not await mine._attempt(1.0)
    http = HttpFace(Waiting(mine), Metrics())
    port = await http.start("127.0.0.1", 0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert (
            "follows: the lease heteroscale/heteroscale-coordinator is held by pod-a" in ready.text
        )
        assert (await client.get("/metrics")).status_code == 200
    await http.close()


async def test_it_leads_once_the_lease_is_its_own_and_gives_it_back_in_the_end() -> None:
    cluster, clock = Cluster(), Clock()
    mine = lease(cluster, "pod-a", clock)
    async with leadership(mine, SPEC, asyncio.Event()) as leads:
        assert leads
        assert mine.held()
    assert "holderIdentity" not in cluster.objects[AT]["spec"]


async def test_told_to_stop_while_it_waits_it_takes_nothing() -> None:
    cluster, clock = Cluster(), Clock()
    await lease(cluster, "pod-a", clock).acquire()
    stop = asyncio.Event()
    stop.set()
    assert not await wait_for(lease(cluster, "pod-b", Clock()), SPEC, stop)
    assert cluster.objects[AT]["spec"]["holderIdentity"] == "pod-a"


async def test_without_the_lease_nothing_leaves() -> None:
    cluster, clock, sent = Cluster(), Clock(), Sent()
    mine: Lease = lease(cluster, "pod-a", clock)
    await mine.acquire()
    outlet = LeasedOutlet(sent, mine)
    changes = Changes(services={"chat": Service("chat", _spec())})
    outlet.dispatch(changes, State(), 1)
    outlet.renew([], 1)
    assert sent.sent == [changes, []]
    clock.now += 10
    outlet.dispatch(changes, State(), 1)
    outlet.dispatch(Changes(), State(), 1)
    outlet.renew([], 1)
    assert len(sent.sent) == 2


def _spec() -> ServiceSpec:
    return ServiceSpec.model_validate({"roles": {"aggregated": {"template": "a"}}})


def test_each_process_has_a_name_of_its_own() -> None:
    assert identity() != identity()
    assert new_lease(SPEC, Cluster()).waits_for.startswith(
        "the lease heteroscale/heteroscale-coord"
    )


@pytest.mark.parametrize("name", ["heteroscale", "Heteroscale/x", "a/b/c"])
def test_a_lease_is_named_by_namespace_and_name(name: str) -> None:
    with pytest.raises(ValueError, match="lease"):
        CoordinatorSpec.model_validate({"kubernetes": {"lease": name}})


async def test_without_the_lease_objects_are_only_read() -> None:
    cluster, clock = Cluster(), Clock()
    mine = lease(cluster, "pod-a", clock)
    assert leased_api(cluster, None) is cluster
    api = leased_api(cluster, mine)
    with pytest.raises(ApiError, match="does not hold the lease"):
        await api.create(THING, {"kind": "Event"})
    await mine.acquire()
    await api.create(THING, {"kind": "Event", "count": 1})
    await api.patch(THING, {"count": 2})
    await api.replace(THING, {**await api.get(THING), "count": 3})
    clock.now += 10
    for call in (api.patch(THING, {"count": 4}), api.replace(THING, {"count": 5})):
        with pytest.raises(ApiError, match="does not hold the lease"):
            await call
    assert (await api.get(THING))["count"] == 3
    listed, _ = await api.list(replace(THING, name=""))
    assert [one["count"] for one in listed] == [3]
