"""What makes pods, and what places them: controllers and the scheduler, ours or the real ones."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kubernetes.kube import Kube, Refused
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.things import GPU, budget, pod, workload

Json = dict[str, Any]
COST = "controller.kubernetes.io/pod-deletion-cost"
GATE = {"name": "example.com/wait"}


def pods(kube: Kube, app: str) -> list[Json]:
    return kube.list("v1", "pods", labelSelector=f"app={app}")


def exactly(kube: Kube, app: str, count: int) -> list[Json]:
    """Wait until there are that many (more than none) and return them."""

    def look() -> list[Json] | None:
        found = pods(kube, app)
        return found if len(found) == count else None

    return kube.until(look)


def scaled(kube: Kube, plural: str, name: str, replicas: int) -> Json:
    return kube.patch("apps/v1", plural, name, {"spec": {"replicas": replicas}}, sub="scale")


def condition(obj: Json, kind: str) -> Json | None:
    found = (obj.get("status") or {}).get("conditions") or []
    return next((one for one in found if one["type"] == kind), None)


def test_a_deployment_makes_pods_through_a_replica_set(kube: Kube) -> None:
    kube.create(workload("Deployment", "d", 2))
    found = exactly(kube, "d", 2)
    mark = found[0]["metadata"]["labels"]["pod-template-hash"]
    (owner,) = found[0]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("ReplicaSet", f"d-{mark}", True)
    above = kube.get("apps/v1", "replicasets", owner["name"])["metadata"]["ownerReferences"]
    assert [(one["kind"], one["name"]) for one in above] == [("Deployment", "d")]


def test_the_cheapest_goes_first(kube: Kube, kubelet: Kubelet) -> None:
    node = kubelet.join("n")
    kube.create(workload("Deployment", "d", 3, nodeSelector={"kubernetes.io/hostname": node}))
    names = [one["metadata"]["name"] for one in exactly(kube, "d", 3)]
    kube.until(lambda: len(kubelet.pods()) == 3)
    for name in names:
        kubelet.run(name)
    kube.patch("v1", "pods", names[1], {"metadata": {"annotations": {COST: "-10"}}})
    scaled(kube, "deployments", "d", 2)
    gone = kube.until(
        lambda: [one for one in pods(kube, "d") if one["metadata"].get("deletionTimestamp")]
    )
    assert [one["metadata"]["name"] for one in gone] == [names[1]]
    kubelet.finish(names[1])
    assert {one["metadata"]["name"] for one in exactly(kube, "d", 2)} == {names[0], names[2]}


def test_a_deployment_tells_how_it_does(kube: Kube, kubelet: Kubelet) -> None:
    node = kubelet.join("n")
    kube.create(workload("Deployment", "d", 1, nodeSelector={"kubernetes.io/hostname": node}))
    kube.until(kubelet.pods)
    kubelet.tick()

    def available() -> Json | None:
        one = kube.get("apps/v1", "deployments", "d")
        return one if one["status"].get("availableReplicas") == 1 else None

    status = kube.until(available)["status"]
    assert status["observedGeneration"] == 1
    assert status["replicas"] == status["readyReplicas"] == status["updatedReplicas"] == 1


def test_a_readiness_gate_holds_a_pod_back(kube: Kube, kubelet: Kubelet) -> None:
    node = kubelet.join("n")
    gate, chosen = "example.com/traffic", {"kubernetes.io/hostname": node}
    gates = [{"conditionType": gate}]
    kube.create(workload("Deployment", "d", 1, nodeSelector=chosen, readinessGates=gates))
    (one,) = kube.until(kubelet.pods)
    name = one["metadata"]["name"]

    def ready(count: int) -> bool:
        status = kube.get("apps/v1", "deployments", "d").get("status") or {}
        return bool(status.get("readyReplicas", 0) == count)

    kubelet.tick()
    ran = kube.get("v1", "pods", name)
    said = {kind: condition(ran, kind) or {} for kind in ("ContainersReady", "Ready")}
    assert {kind: one["status"] for kind, one in said.items()} == {
        "ContainersReady": "True",
        "Ready": "False",
    }
    kubelet.gate(name, gate, open=True)
    kube.until(lambda: ready(1))
    kubelet.gate(name, gate, open=False)
    kube.until(lambda: ready(0))


def test_a_stateful_set_loses_its_highest(kube: Kube, kubelet: Kubelet) -> None:
    node = kubelet.join("n")
    made = workload("StatefulSet", "s", 3, nodeSelector={"kubernetes.io/hostname": node})
    made["spec"]["podManagementPolicy"] = "Parallel"
    made["spec"]["serviceName"] = "s"
    kube.create(made)
    found = exactly(kube, "s", 3)
    assert [one["metadata"]["name"] for one in found] == ["s-0", "s-1", "s-2"]
    assert found[2]["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "2"
    scaled(kube, "statefulsets", "s", 2)
    kube.until(lambda: "s-2" not in _staying(kube, "s"))
    kubelet.finish("s-2")
    assert [one["metadata"]["name"] for one in exactly(kube, "s", 2)] == ["s-0", "s-1"]


def _staying(kube: Kube, app: str) -> list[str]:
    return [
        one["metadata"]["name"]
        for one in pods(kube, app)
        if not one["metadata"].get("deletionTimestamp")
    ]


def test_what_a_deployment_made_goes_with_it(kube: Kube) -> None:
    kube.create(workload("Deployment", "d", 1, schedulingGates=[GATE]))
    exactly(kube, "d", 1)
    kube.delete("apps/v1", "deployments", "d", propagationPolicy="Background")
    kube.until(lambda: not pods(kube, "d"))
    assert not kube.list("apps/v1", "replicasets")


def test_gates_hold_until_they_are_gone(kube: Kube, kubelet: Kubelet) -> None:
    node = kubelet.join("n")
    chosen = {"kubernetes.io/hostname": node}
    kube.create(pod("a", gpus=1, schedulingGates=[GATE], nodeSelector=chosen))
    held = kube.until(lambda: condition(kube.get("v1", "pods", "a"), "PodScheduled"))
    assert (held["status"], held["reason"]) == ("False", "SchedulingGated")
    with pytest.raises(Refused) as refused:
        kube.patch(
            "v1", "pods", "a", {"spec": {"schedulingGates": [GATE, {"name": "example.com/b"}]}}
        )
    assert refused.value.code == 422
    assert (
        "only deletion is allowed, but found new scheduling gate 'example.com/b'"
        in refused.value.message
    )
    kube.patch("v1", "pods", "a", {"spec": {"schedulingGates": None}})
    placed = kube.until(lambda: _placed(kube, "a"))
    assert placed["spec"]["nodeName"] == node
    scheduled = condition(placed, "PodScheduled")
    assert scheduled
    assert scheduled["status"] == "True"


def _placed(kube: Kube, name: str) -> Json | None:
    one = kube.get("v1", "pods", name)
    return one if one["spec"].get("nodeName") else None


def test_no_room_is_said(kube: Kube, kubelet: Kubelet) -> None:
    node = kubelet.join("n", gpus=4)
    chosen = {"kubernetes.io/hostname": node}
    kube.create(pod("a", gpus=3, nodeSelector=chosen))
    kube.until(lambda: _placed(kube, "a"))
    kube.create(pod("b", gpus=2, nodeSelector=chosen))
    said = kube.until(lambda: condition(kube.get("v1", "pods", "b"), "PodScheduled"))
    assert (said["status"], said["reason"]) == ("False", "Unschedulable")
    assert f"Insufficient {GPU}" in said["message"]
    kube.delete("v1", "pods", "a", gracePeriodSeconds=0)
    kube.until(lambda: _placed(kube, "b"))


def test_taints_keep_away(kube: Kube, kubelet: Kubelet) -> None:
    taint = {"key": "example.com/only", "value": "x", "effect": "NoSchedule"}
    node = kubelet.join("n", taints=[taint])
    chosen = {"kubernetes.io/hostname": node}
    kube.create(pod("a", nodeSelector=chosen))
    said = kube.until(lambda: condition(kube.get("v1", "pods", "a"), "PodScheduled"))
    assert "untolerated taint" in said["message"]
    kube.create(
        pod(
            "b",
            nodeSelector=chosen,
            tolerations=[{"key": "example.com/only", "operator": "Exists"}],
        )
    )
    assert kube.until(lambda: _placed(kube, "b"))["spec"]["nodeName"] == node


def test_affinity_chooses(kube: Kube, kubelet: Kubelet) -> None:
    kubelet.join("a", labels={"example.com/domain": kube.name("x")})
    node = kubelet.join("b", labels={"example.com/domain": kube.name("y")})
    term = {
        "matchExpressions": [
            {"key": "example.com/domain", "operator": "In", "values": [kube.name("y")]}
        ]
    }
    hard = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    kube.create(pod("a", affinity={"nodeAffinity": hard}))
    assert kube.until(lambda: _placed(kube, "a"))["spec"]["nodeName"] == node


def test_a_budget_keeps_pods(kube: Kube, kubelet: Kubelet) -> None:
    node = kubelet.join("n")
    kube.create(workload("Deployment", "d", 2, nodeSelector={"kubernetes.io/hostname": node}))
    kube.create(budget("b", {"app": "d"}, minAvailable=1))
    kube.until(lambda: len(kubelet.pods()) == 2)
    kubelet.tick()
    kube.until(lambda: _allowed(kube) == 1)
    first, second = (one["metadata"]["name"] for one in pods(kube, "d"))
    evict(kube, first)
    with pytest.raises(Refused) as refused:
        evict(kube, second)
    status = refused.value.status
    assert (status["code"], status["reason"]) == (429, "TooManyRequests")
    assert status["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    (cause,) = status["details"]["causes"]
    assert cause["reason"] == "DisruptionBudget"
    assert cause["message"].startswith("The disruption budget b ")
    kubelet.finish(first)


def _allowed(kube: Kube) -> int:
    found = kube.get("policy/v1", "poddisruptionbudgets", "b")
    return int((found.get("status") or {}).get("disruptionsAllowed", 0))


def evict(kube: Kube, name: str) -> Json:
    wish = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": kube.namespace},
    }
    return kube.ask("POST", kube.place("v1", "pods", name, "eviction"), json=wish)


def test_a_quota_has_its_limits(kube: Kube) -> None:
    limit = {"hard": {f"requests.{GPU}": "8"}}
    kube.create(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": limit}
    )
    kube.until(lambda: (kube.get("v1", "resourcequotas", "q").get("status") or {}).get("hard"))
    kube.create(pod("a", gpus=6, schedulingGates=[GATE]))
    kube.until(
        lambda: kube.get("v1", "resourcequotas", "q")["status"]["used"] == {f"requests.{GPU}": "6"}
    )
    with pytest.raises(Refused) as refused:
        kube.create(pod("b", gpus=4))
    assert (refused.value.code, refused.value.status["reason"]) == (403, "Forbidden")
    assert refused.value.message == (
        f'pods "b" is forbidden: exceeded quota: q, requested: requests.{GPU}=4, '
        f"used: requests.{GPU}=6, limited: requests.{GPU}=8"
    )


def test_a_scale_tells_and_takes(kube: Kube) -> None:
    kube.create(workload("Deployment", "d", 1, schedulingGates=[GATE]))
    exactly(kube, "d", 1)
    scale = kube.get("apps/v1", "deployments", "d", "scale")
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"]["selector"] == "app=d"
    scaled(kube, "deployments", "d", 2)
    with pytest.raises(Refused) as refused:
        kube.replace("apps/v1", "deployments", {**scale, "spec": {"replicas": 3}}, sub="scale")
    assert refused.value.code == 409
    del scale["metadata"]["resourceVersion"]
    kube.replace("apps/v1", "deployments", {**scale, "spec": {"replicas": 3}}, sub="scale")
    exactly(kube, "d", 3)
    assert kube.get("apps/v1", "deployments", "d")["spec"]["replicas"] == 3
