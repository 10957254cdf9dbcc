"""Objects whose replica is a group of pods, and objects whose pods another object makes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from heteroscale_scheduler_adapters.kubernetes import KubernetesAdapter, names
from heteroscale_scheduler_adapters.port import Launch, Phase, RefusedError, Running, Spot, Step
from tests.adapters.contract.harness import PATIENCE
from tests.kubernetes.adapter.stage import Json
from tests.kubernetes.adapter.test_tending import opened
from tests.kubernetes.adapter.things import LWS
from tests.kubernetes.deploy.leader_worker_set import DEFINITION
from tests.kubernetes.deploy.role_based_group import (
    ADAPTERS,
    MARKS,
    RBG,
    scaling_adapter,
    scaling_status,
)
from tests.kubernetes.kube import Kube
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.things import pod

GROUPS: Json = {"name": "wide", "role": "decode", "gpus": 1, "object": LWS, "pin": "required"}


def _served(kube: Kube, definition: Json) -> None:
    kube.create(definition)
    spec = definition["spec"]
    version = f"{spec['group']}/{spec['versions'][0]['name']}"
    path = kube.place(version, spec["names"]["plural"])
    kube.until(lambda: kube.http.get(path).is_success)


async def _become(adapter: KubernetesAdapter, fact: Callable[[dict[str, Running]], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if fact(dict((await adapter.world()).running)):
                return
            await asyncio.sleep(0.02)


async def test_one_group_of_a_leader_worker_set_is_one_instance_of_several_ranks(
    small_kube: Kube,
) -> None:
    _served(small_kube, DEFINITION)
    kubelet = Kubelet(small_kube)
    nodes = [kubelet.join("n1"), kubelet.join("n2")]

    def wide(instance: str) -> Launch:
        return Launch(instance, "chat", "decode", "wide", tuple(map(Spot, nodes)), 1)

    def placed(number: int) -> list[Json]:
        there = [one for one in small_kube.list("v1", "pods") if one["spec"].get("nodeName")]
        return there if len(there) == number else []

    async with opened(small_kube, GROUPS) as adapter:
        with pytest.raises(RefusedError, match="one LeaderWorkerSet replica is 2 pods"):
            await adapter.launch(
                Step("r-0", "d", (Launch("i-0", "chat", "decode", "wide", (Spot("n1"),), 1),))
            )
        for number, instance in enumerate(("i-1", "i-2"), 1):
            await adapter.launch(Step(f"r-{number}", "d", (wide(instance),)))
            for one in small_kube.until(lambda number=number: placed(2 * number)):  # type: ignore[misc]
                kubelet.run(one["metadata"]["name"])
            await _become(adapter, lambda r, i=instance: r[i].phase is Phase.READY)  # type: ignore[misc]
        running = (await adapter.world()).running
        assert set(running) == {"i-1", "i-2"}
        for seen in running.values():
            assert [spot.node for spot in seen.ranks] == nodes
        assert "highest ordinal first: i-2 (1)" in running["i-1"].kept
        assert not running["i-2"].kept
        with pytest.raises(RefusedError, match="highest ordinal first"):
            await adapter.stop("i-1", 1.0)
        await adapter.stop("i-2", 1.0)
    (group,) = small_kube.list("leaderworkerset.x-k8s.io/v1", "leaderworkersets")
    assert group["spec"]["replicas"] == 1


async def test_a_role_of_a_role_based_group_is_scaled_through_its_scaling_adapter(
    small_kube: Kube,
) -> None:
    _served(small_kube, ADAPTERS)
    kubelet = Kubelet(small_kube)
    node = kubelet.join("n1")
    small_kube.create(scaling_adapter("chat-decode", 2))
    plural = "rolebasedgroupscalingadapters"
    version = f"{RBG}/v1alpha2"
    small_kube.patch(version, plural, "chat-decode", scaling_status(2), sub="status")
    uids = {}
    for title in ("a", "b"):
        made = small_kube.create(pod(title, gpus=1, labels=MARKS, nodeName=node))
        kubelet.run(title)
        uids[title] = f"pod-{made['metadata']['uid']}"
    scale = {
        "apiVersion": f"{RBG}/v1alpha2",
        "kind": "RoleBasedGroupScalingAdapter",
        "name": "chat-decode",
        "service": "chat",
    }
    handed = {"name": "rbg", "role": "decode", "gpus": 1, "scale": scale}
    async with opened(small_kube, handed) as adapter:
        assert set((await adapter.world()).running) == set(uids.values())
        await adapter.stop(uids["b"], 30.0)
    found = small_kube.get(f"{RBG}/v1alpha2", plural, "chat-decode")
    assert found["spec"]["replicas"] == 1
    notes = small_kube.get("v1", "pods", "b")["metadata"]["annotations"]
    assert int(notes[names.DELETION_COST]) < 0
    assert names.STOPPING in notes
