"""The adapter works with exactly the rights that deploy/kubernetes/adapter adds, and uses every one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.adapter import KubernetesAdapter
from heteroscale_scheduler_adapters.kubernetes.settings import read_settings
from heteroscale_scheduler_adapters.port import GateWish, Launch, RefusedError, Spot, Step
from tests.kubernetes.deploy.grants import USER, granted, used
from tests.kubernetes.deploy.kustomize import resolve
from tests.kubernetes.deploy.leader_worker_set import DEFINITION
from tests.kubernetes.deploy.role_based_group import (
    ADAPTERS,
    MARKS,
    RBG,
    scaling_adapter,
    scaling_status,
)
from tests.kubernetes.deploy.test_overlays import DEPLOY, SERVING
from tests.kubernetes.kube import Kube
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.server.http import Seen
from tests.kubernetes.server.serve import ApiServer
from tests.kubernetes.things import pod, pod_spec, workload

Json = dict[str, Any]
ROLES = "rolebasedgroupscalingadapters"
LWS = "leaderworkerset.x-k8s.io/v1"
CLOSED = GateWish(open=False, reason="soft_scale_in", until=None)
SPEC = pod_spec(1, readinessGates=[{"conditionType": names.TRAFFIC}])


def group(name: str, replicas: int) -> Json:
    """Return a LeaderWorkerSet of groups of one pod."""
    template = {"metadata": {"labels": {"app": name}}, "spec": SPEC}
    parts = {"size": 1, "workerTemplate": template}
    return {
        "apiVersion": LWS,
        "kind": "LeaderWorkerSet",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "leaderWorkerTemplate": parts},
    }


def stateful(name: str, replicas: int) -> Json:
    """Return a StatefulSet whose pods start at once."""
    found = workload("StatefulSet", name, replicas, gpus=1)
    found["spec"] |= {"podManagementPolicy": "Parallel", "serviceName": name}
    return found


HANDED = {
    "Deployment": workload("Deployment", "handed-deployment", 1, gpus=1),
    "StatefulSet": stateful("handed-statefulset", 1),
    "LeaderWorkerSet": group("handed-leaderworkerset", 1),
}


def templates() -> list[Json]:
    """Return a template of each way: an object made, one handed over, pods."""
    said: list[Json] = [{"name": "pod", "role": "decode", "gpus": 1, "pod": {"spec": SPEC}}]
    for kind, thing in HANDED.items():
        low, name = kind.lower(), thing["metadata"]["name"]
        made = {key: thing[key] for key in ("apiVersion", "kind")}
        made["spec"] = {key: value for key, value in thing["spec"].items() if key != "replicas"}
        scale = {"apiVersion": thing["apiVersion"], "kind": kind, "name": name, "service": "chat"}
        said += [
            {"name": f"made-{low}", "role": "decode", "gpus": 1, "object": made},
            {"name": f"handed-{low}", "role": "decode", "gpus": 1, "scale": scale},
        ]
    return said


GROUP_ROLE: Json = {
    "name": "handed-role",
    "role": "decode",
    "gpus": 1,
    "scale": {
        "apiVersion": f"{RBG}/v1alpha2",
        "kind": "RoleBasedGroupScalingAdapter",
        "name": "chat-decode",
        "service": "chat",
    },
}
"""A role of a RoleBasedGroup can only be handed over; its controller is not played: one pod is there."""

TIGHT: Json = {
    "name": "tight",
    "role": "decode",
    "gpus": 1,
    "object": stateful("tight", 0),
    "stepTimeout": 0.2,
    "gate": {"service": "tight"},
}
"""Its controller says nothing of pods that it may not make: only the time tells."""


@dataclass
class Scene:
    kube: Kube
    server: ApiServer
    kubelet: Kubelet
    adapter: KubernetesAdapter
    node: str
    later: float = 0.0

    async def launch(self, template: str) -> str:
        """Launch one instance of a template on the node, and return its id."""
        one = f"i-{template}"
        spot = (Spot(self.node),)
        step = Step(
            f"r-{template}",
            "d-1",
            (Launch(one, "chat", "decode", template, spot, 1, domain="s1/a"),),
        )
        await self.adapter.launch(step)
        self.kubelet.tick()
        return one


@pytest.fixture
async def scene(small_kube: Kube, api_server: ApiServer, tmp_path: Path) -> AsyncIterator[Scene]:
    small_kube.create(SERVING)
    for one in [DEFINITION, ADAPTERS, *resolve(DEPLOY / "overlays" / "drive")]:
        small_kube.create(one)
    small_kube.namespace = "serving"
    for version, plural in ((LWS, "leaderworkersets"), (f"{RBG}/v1alpha2", ROLES)):
        path = small_kube.place(version, plural)
        small_kube.until(lambda path=path: small_kube.http.get(path).is_success)  # type: ignore[misc]
    kubelet = Kubelet(small_kube)
    node = kubelet.join("n1", gpus=16, labels={"rack": "a", "nvidia.com/gpu.product": "NVIDIA-H20"})
    for thing in HANDED.values():
        small_kube.create(thing)
    small_kube.create(scaling_adapter("chat-decode", 1))
    small_kube.patch(f"{RBG}/v1alpha2", ROLES, "chat-decode", scaling_status(1), sub="status")
    kubelet.tick()
    settings = read_settings(
        "here",
        {
            "kubeconfig": str(
                api_server.kubeconfig(tmp_path / "coordinator", api_server.token(USER))
            ),
            "namespace": "serving",
            "templates": [*templates(), GROUP_ROLE, TIGHT],
            "topology": {"s1": ["rack"]},
            "requests": {"perSecond": 10_000, "burst": 10_000},
        },
    )
    made = Scene(small_kube, api_server, kubelet, KubernetesAdapter("here", settings), node)
    made.adapter = KubernetesAdapter("here", settings, clock=lambda: time.time() + made.later)
    await made.adapter.open()
    yield made
    await made.adapter.close()


async def test_with_these_rights_it_launches_gates_stops_and_tidies_up(scene: Scene) -> None:
    adapter = scene.adapter
    assert (await adapter.world()).nodes
    started = [await scene.launch(one["name"]) for one in templates()]
    assert await scene.launch("pod") == "i-pod", "asked again it is the same step"
    world = await adapter.world()
    assert set(started) <= set(world.running)
    assert world.notes == ()
    await adapter.gate("i-pod", CLOSED)
    await _role_scaled_in(scene)
    for one in started:
        await adapter.stop(one, 0.0)
        scene.kubelet.tick()
    gone = await adapter.world()
    assert not set(started) & set(gone.running)
    await _watched(scene, gone.revision)
    scene.later += 3600.0
    await adapter.world()
    await _refused(scene)
    mine = [one for one in scene.server.seen() if one.user == USER]
    assert [one for one in mine if one.code == 403 and not _quota(one)] == []
    assert used(mine) == granted(DEPLOY / "adapter")


async def _role_scaled_in(scene: Scene) -> None:
    """Scale a RoleBasedGroup's role in, through its scaling adapter."""
    kube = scene.kube
    made = kube.create(pod("role-0", gpus=1, labels=MARKS, nodeName=scene.node))
    await scene.adapter.world()
    await scene.adapter.stop(f"pod-{made['metadata']['uid']}", 0.0)
    assert kube.get(f"{RBG}/v1alpha2", ROLES, "chat-decode")["spec"]["replicas"] == 0
    kube.delete("v1", "pods", "role-0")


def _quota(one: Seen) -> bool:
    return one.method == "POST" and one.path.endswith("/serving/pods")


async def _watched(scene: Scene, revision: str) -> None:
    """Follow all that is followed."""
    changes = scene.adapter.watch(revision)
    coming = asyncio.ensure_future(anext(aiter(changes)))
    try:
        await asyncio.to_thread(scene.kube.until, lambda: len(_watches(scene)) == 5)
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


def _watches(scene: Scene) -> set[tuple[str, str]]:
    mine = [one for one in scene.server.seen() if one.user == USER]
    return {one for one in used(mine) if one[0] == "watch"}


async def _refused(scene: Scene) -> None:
    """Have a quota stop two steps: of what they began nothing is left."""
    there = len(scene.kube.list("v1", "pods"))
    hard = {"hard": {"pods": str(there + 1)}}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": hard}
    scene.kube.create(quota)
    scene.kube.until(
        lambda: "hard" in scene.kube.get("v1", "resourcequotas", "few").get("status", {})
    )
    for template in ("pod", "tight"):
        two = tuple(
            Launch(f"i-{template}-{n}", "chat", "decode", template, (Spot(scene.node),), 1)
            for n in range(2)
        )
        with pytest.raises(RefusedError, match="was taken back"):
            await scene.adapter.launch(Step(f"r-two-{template}", "d-2", two))
        scene.kube.until(lambda: len(scene.kube.list("v1", "pods")) == there)


def test_it_may_change_things_only_where_a_binding_says() -> None:
    """Cluster-wide it only reads, and neither nodes nor secrets are its to change."""
    objects = resolve(DEPLOY / "adapter")
    bound = {
        one["kind"]: one["roleRef"]["name"] for one in objects if one["kind"].endswith("Binding")
    }
    roles = {one["metadata"]["name"]: one["rules"] for one in objects if "rules" in one}
    assert set(roles) == set(bound.values())
    wide = {verb for rule in roles[bound["ClusterRoleBinding"]] for verb in rule["verbs"]}
    assert wide == {"get", "list", "watch"}
    touched = {word for rules in roles.values() for rule in rules for word in rule["resources"]}
    assert "secrets" not in touched
    assert not any("*" in str(rules) for rules in roles.values())
