"""The coordinator works with exactly the rights that the base gives it, and uses every one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from heteroscale_coordinator.cluster import KubernetesApi, connect
from heteroscale_coordinator.config import ClusterSettings, CoordinatorSpec
from heteroscale_coordinator.core.model import Action, Decision
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import renewals, step
from heteroscale_coordinator.edge.cluster_api import (
    Address,
    ApiError,
    ChangedError,
    NotThereError,
)
from heteroscale_coordinator.edge.crd.keeper import Keeper
from heteroscale_coordinator.edge.lease import Lease, lease_at
from heteroscale_coordinator.edge.store.memory import MemoryStore
from heteroscale_coordinator.loop import Loop
from tests.coordinator.face import FAST, START, Clock
from tests.coordinator.values import CHAT
from tests.kubernetes.deploy.grants import USER, granted, used
from tests.kubernetes.deploy.kustomize import resolve
from tests.kubernetes.deploy.test_overlays import DEPLOY
from tests.kubernetes.kube import LONG, Kube
from tests.kubernetes.server.serve import ApiServer

LEASE = lease_at("heteroscale", "heteroscale-coordinator")


class NoDecisions:
    def latest(self, service: str) -> Decision | None:
        return None


@dataclass
class Scene:
    kube: Kube
    server: ApiServer
    api: KubernetesApi
    loop: Loop
    clock: Clock
    keeper: Keeper

    async def look(self, times: int = 2) -> None:
        for _ in range(times):
            await self.keeper.reflection._list()
            await self.keeper.once()

    def put(self, **spec: Any) -> dict[str, Any]:
        body = {**yaml.safe_load(CHAT)["spec"], **spec}
        made = {"apiVersion": "heteroscale.io/v1", "kind": "ScaledService"}
        return self.kube.create({**made, "metadata": {"name": "chat"}, "spec": body})

    def get(self) -> dict[str, Any]:
        return self.kube.get("heteroscale.io/v1", "scaledservices", "chat")


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Loop, Clock]]:
    store, clock = MemoryStore(), Clock()
    loop = Loop(
        store=store,
        snapshot=store.load(),
        state=State(rules=Rules()),
        step=step,
        renewals=renewals,
        clock=clock,
        pace=FAST,
    )
    await loop.start()
    turns = asyncio.create_task(loop.run())
    try:
        yield loop, clock
    finally:
        loop.stop()
        await turns
        loop.close()


@pytest.fixture
async def scene(small_kube: Kube, api_server: ApiServer, tmp_path: Path) -> AsyncIterator[Scene]:
    for one in resolve(DEPLOY / "base"):
        small_kube.create(one)
    login = api_server.kubeconfig(tmp_path / "coordinator", api_server.token(USER))
    api = await connect(ClusterSettings(kubeconfig=login))
    async with running() as (loop, clock):
        yield Scene(
            small_kube, api_server, api, loop, clock, Keeper(api, loop, NoDecisions(), "pod-0")
        )
    await api.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG):
        while not true():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


async def events_of(scene: Scene) -> list[dict[str, Any]]:
    found = await asyncio.to_thread(scene.kube.list, "v1", "events")
    return [one for one in found if one["involvedObject"]["kind"] == "ScaledService"]


async def test_with_these_rights_it_leads_takes_objects_and_tells_of_them(scene: Scene) -> None:
    lease = new_lease(scene.api, "pod-0")
    await lease.acquire()
    await lease.acquire()
    await asyncio.to_thread(scene.put)
    await scene.look()
    told = await asyncio.to_thread(scene.get)
    assert told["metadata"]["finalizers"] == ["heteroscale.io/service"]
    assert told["status"]["conditions"][0]["reason"] == "Valid"
    assert told["status"]["decode"] == "0/2"
    owner = scene.keeper._owners["chat"]
    out = Decision("d1", "chat", START, Action.SCALE_OUT, "R 1.30 > 1.10", "demand")
    await scene.keeper.announcer.decided(owner, out)
    again = Decision("d2", "chat", START + 100, Action.SCALE_OUT, "R 1.40 > 1.10", "demand")
    await scene.keeper.announcer.decided(owner, again)
    (event,) = await events_of(scene)
    assert (event["count"], event["reason"]) == (2, "ScaleOut")
    await asyncio.to_thread(scene.kube.delete, "heteroscale.io/v1", "scaledservices", "chat")
    await scene.look(1)
    scene.clock.now += 10
    await until(lambda: "chat" not in scene.loop.state.services)
    following = asyncio.create_task(scene.keeper.reflection.run())
    await scene.look(1)
    await until(lambda: any(s.query.get("watch") for s in scene.server.seen() if s.user == USER))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    gone = await asyncio.to_thread(scene.kube.find, "heteroscale.io/v1", "scaledservices", "chat")
    assert gone is None
    await lease.release()
    mine = [one for one in scene.server.seen() if one.user == USER]
    assert [one for one in mine if one.code == 403] == []
    assert used(mine) == granted(DEPLOY / "base")


def new_lease(api: KubernetesApi, identity: str, at: Any = LEASE) -> Lease:
    async def at_once(_seconds: float) -> None:
        await asyncio.sleep(0)

    clock = Clock()
    return Lease(api, at, identity, monotonic=clock, wall=clock, sleep=at_once)


async def test_another_lease_than_its_own_is_not_its_to_write(scene: Scene) -> None:
    other = lease_at("kube-system", "kube-scheduler")
    lease = new_lease(scene.api, "pod-0", other)
    assert not await lease._attempt(LONG)
    assert (
        'must grant in namespace kube-system {apiGroups: ["coordination.k8s.io"]' in lease.trouble
    )


async def test_what_the_server_says_is_told_in_our_words(scene: Scene) -> None:
    lease = new_lease(scene.api, "pod-0")
    with pytest.raises(NotThereError):
        await scene.api.get(LEASE)
    await lease.acquire()
    held = await scene.api.get(LEASE)
    assert held["spec"]["renewTime"].endswith("Z")
    await scene.api.replace(LEASE, {**held, "spec": {**held["spec"], "leaseTransitions": 4}})
    with pytest.raises(ChangedError):
        await scene.api.replace(LEASE, {**held, "spec": {**held["spec"], "leaseTransitions": 5}})
    with pytest.raises(ApiError, match="must grant"):
        await scene.api.list(Address("v1", "Secret", "secrets"))


async def test_a_server_refuses_at_once_what_the_schema_can_say(scene: Scene) -> None:
    with pytest.raises(Exception, match=r"spec\.roles\.decode\.max"):
        await asyncio.to_thread(
            scene.put, roles={"prefill": {"template": "p"}, "decode": {"template": "d", "max": "x"}}
        )


async def test_it_goes_on_when_the_server_forgot_where_it_was(scene: Scene) -> None:
    following = asyncio.create_task(scene.keeper.run())
    await asyncio.to_thread(scene.put)
    await until(lambda: "chat" in scene.loop.state.services)
    await asyncio.to_thread(scene.server.expire)
    change = {"spec": {"maxGpus": 40}}
    await asyncio.to_thread(scene.kube.patch, "heteroscale.io/v1", "scaledservices", "chat", change)
    await until(lambda: scene.loop.state.services["chat"].spec.max_gpus == 40)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def test_a_document_without_a_login_says_what_is_missing(tmp_path: Path) -> None:
    settings = CoordinatorSpec.model_validate(
        {"kubernetes": {"objects": True, "kubeconfig": str(tmp_path / "none")}}
    ).kubernetes
    with pytest.raises(ApiError, match="there is no kubeconfig"):
        asyncio.run(connect(settings))
