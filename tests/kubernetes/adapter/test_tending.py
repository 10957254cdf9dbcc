"""What is read, what is gone on with, and what is only looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from heteroscale_scheduler_adapters.kubernetes import KubernetesAdapter, create, names
from heteroscale_scheduler_adapters.kubernetes.record import RECORD
from heteroscale_scheduler_adapters.port import (
    GateWish,
    Launch,
    Phase,
    RefusedError,
    Spot,
    Step,
    World,
)
from tests.adapters.contract.harness import Replica
from tests.kubernetes.adapter.stage import Json, Stage, acting
from tests.kubernetes.adapter.things import MANIFEST
from tests.kubernetes.kube import Kube
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.things import workload

CLOSED = GateWish(open=False, reason="soft_scale_in", until=2_000_000_000.0)
HANDED: Json = {
    "name": "many",
    "role": "decode",
    "gpus": 1,
    "scale": {"kind": "Deployment", "name": "chat", "service": "chat"},
}
MADE: Json = {"name": "many", "role": "decode", "gpus": 1, "object": MANIFEST}


@asynccontextmanager
async def opened(kube: Kube, *templates: Json) -> AsyncIterator[KubernetesAdapter]:
    options = {
        "kubeconfig": str(kube.config),
        "namespace": kube.namespace,
        "requests": {"perSecond": 10_000, "burst": 10_000},
        "templates": list(templates),
    }
    one = create("east", options)
    await one.open()
    try:
        yield one
    finally:
        await one.close()


def _serving(kube: Kube, replicas: int) -> list[str]:
    """Have a Deployment of others serve, and return its pods' uids."""
    kubelet = Kubelet(kube)
    kubelet.join("n1")
    kube.create(workload("Deployment", "chat", replicas, gpus=1))

    def placed() -> list[Json]:
        pods = [pod for pod in kube.list("v1", "pods") if pod["spec"].get("nodeName")]
        return pods if len(pods) == replicas else []

    pods = kube.until(placed)
    for pod in pods:
        kubelet.run(pod["metadata"]["name"])
    return sorted(pod["metadata"]["uid"] for pod in pods)


def _launch(kube: Kube, instance: str) -> Launch:
    return Launch(instance, "chat", "decode", "many", (Spot(kube.name("n1")),), 1)


async def test_what_was_handed_over_is_told_as_ours_and_nothing_is_written(
    small_kube: Kube,
) -> None:
    uids = _serving(small_kube, 2)
    async with opened(small_kube, HANDED) as adapter:
        assert small_kube.server
        small_kube.server.forget()
        world = await adapter.world()
        assert {one.method for one in small_kube.server.seen()} == {"GET"}
    assert sorted(world.running) == [f"pod-{uid}" for uid in uids]
    for one in world.running.values():
        assert (one.service, one.role, one.template) == ("chat", "decode", "many")
        assert (one.phase, one.origin, one.request_id) == (Phase.READY, "", "")


async def test_the_first_order_takes_over_all_that_stood_there(small_kube: Kube) -> None:
    uids = _serving(small_kube, 2)
    async with opened(small_kube, HANDED) as adapter:
        before = await adapter.world()
        await adapter.gate(f"pod-{uids[0]}", CLOSED)
        after = await adapter.world()
        assert after.running.keys() == before.running.keys(), "by the same ids"
        assert after.running[f"pod-{uids[0]}"].gate == CLOSED
        await adapter.stop(f"pod-{uids[0]}", 30.0)
        (deployment,) = small_kube.list("apps/v1", "deployments")
        assert deployment["spec"]["replicas"] == 1
        assert RECORD in deployment["metadata"]["annotations"]

        def going() -> list[str]:
            return [
                pod["metadata"]["uid"]
                for pod in small_kube.list("v1", "pods")
                if pod["metadata"].get("deletionTimestamp")
            ]

        assert small_kube.until(going) == [uids[0]]


async def test_an_order_of_before_is_carried_out_by_a_process_that_has_not_looked_yet(
    small_kube: Kube,
) -> None:
    uids = _serving(small_kube, 2)
    async with opened(small_kube, HANDED) as adapter:
        await adapter.stop(f"pod-{uids[1]}", 30.0)
    (deployment,) = small_kube.list("apps/v1", "deployments")
    assert deployment["spec"]["replicas"] == 1


async def test_a_step_on_what_was_handed_over_is_the_new_pods(small_kube: Kube) -> None:
    (uid,) = _serving(small_kube, 1)
    async with opened(small_kube, HANDED) as adapter:
        await adapter.launch(Step("r-1", "d-1", (_launch(small_kube, "i-1"),)))
        world = await adapter.world()
    assert set(world.running) == {f"pod-{uid}", "i-1"}
    assert world.running["i-1"].phase is not Phase.READY, "it is not the pod that was there before"


async def test_what_cannot_be_scaled_is_a_note_and_the_world_is_told(small_kube: Kube) -> None:
    """A kind without the scale subresource, or an object that has just gone, hides nothing else."""
    uids = _serving(small_kube, 1)
    small_kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}})
    scale = {"apiVersion": "v1", "kind": "ConfigMap", "name": "m", "service": "chat"}
    wrong = {"name": "wrong", "role": "decode", "gpus": 1, "scale": scale}
    async with opened(small_kube, wrong, HANDED) as adapter:
        world = await adapter.world()
    assert list(world.running) == [f"pod-{uids[0]}"]
    assert any("ConfigMap" in note and "scale" in note for note in world.notes), world.notes


async def test_a_gate_that_would_cut_a_pod_from_its_object_is_refused(small_kube: Kube) -> None:
    """Its controller would make another in its place, and nobody would own the first."""
    (uid,) = _serving(small_kube, 1)
    async with opened(small_kube, {**HANDED, "gate": {"labels": {"app": "chat"}}}) as adapter:
        with pytest.raises(RefusedError, match="its selector has the gate's label app"):
            await adapter.gate(f"pod-{uid}", CLOSED)
    (one,) = small_kube.list("v1", "pods")
    assert one["metadata"]["labels"]["app"] == "chat"


async def test_what_nobody_handed_over_is_refused(small_kube: Kube) -> None:
    (uid,) = _serving(small_kube, 1)
    async with opened(small_kube, MADE) as adapter:
        assert not (await adapter.world()).running
        with pytest.raises(RefusedError, match="launched by others"):
            await adapter.stop(f"pod-{uid}", 1.0)
        with pytest.raises(RefusedError, match="launched by others"):
            await adapter.gate(f"pod-{uid}", CLOSED)


async def test_an_autoscaler_on_what_was_handed_over_is_told_and_left_alone(
    small_kube: Kube,
) -> None:
    uids = _serving(small_kube, 2)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}
    small_kube.create(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "hpa"},
            "spec": {"maxReplicas": 4, "scaleTargetRef": target},
        }
    )
    async with opened(small_kube, HANDED) as adapter:
        notes = (await adapter.world()).notes
        assert any("the HorizontalPodAutoscaler" in note for note in notes)
        with pytest.raises(RefusedError, match="HorizontalPodAutoscaler"):
            await adapter.stop(f"pod-{uids[0]}", 1.0)
        (deployment,) = small_kube.list("apps/v1", "deployments")
        assert deployment["spec"]["replicas"] == 2
        assert RECORD not in deployment["metadata"].get("annotations", {})


async def test_an_instance_whose_pod_is_not_made_yet_is_told_as_queued(stage: Stage) -> None:
    stage.idle = True
    asked = Step(
        "r-1", "d-1", (Launch("i-1", "chat", "decode", "many", (Spot("n1"),), 1, group="g"),)
    )

    async def dies(seconds: float) -> None:
        raise KeyboardInterrupt

    stage.pause, kept = dies, stage.pause  # type: ignore[method-assign]
    async with acting(stage, MADE) as mortal:
        with pytest.raises(KeyboardInterrupt):
            await mortal.launch(asked)
    stage.pause = kept  # type: ignore[method-assign]
    async with acting(stage, MADE) as later:
        (one,) = (await later.tend()).queued
        assert (one.instance_id, one.phase, one.group) == ("i-1", Phase.QUEUED, "g")
        assert (one.service, one.role, one.template) == ("chat", "decode", "many")
        assert [spot.node for spot in one.ranks] == [""]
        stage.idle = False
        stage.turn()
        assert (await later.tend()).queued == ()
    assert stage.instances() == ["i-1"]


async def test_a_pod_made_anew_is_seen_to_while_a_watch_is_on(small_kube: Kube) -> None:
    kubelet = Kubelet(small_kube)
    kubelet.join("n1")
    async with opened(small_kube, MADE) as adapter:
        await adapter.launch(Step("r-1", "d-1", (_launch(small_kube, "i-1"),)))
        world: World = await adapter.world()
        replica = Replica(adapter, world)
        try:
            (pod,) = small_kube.list("v1", "pods")
            small_kube.delete("v1", "pods", pod["metadata"]["name"], gracePeriodSeconds=0)
            await replica.until(lambda r: any(key.startswith("pod-") for key in r.running))
            assert "i-1" not in replica.running
        finally:
            await replica.close()
    (pod,) = small_kube.list("v1", "pods")
    assert pod["metadata"]["labels"][names.REQUEST] == "adopted"
