from __future__ import annotations

import pytest

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.tending import Tended
from heteroscale_scheduler_adapters.port import GateWish, Launch, RefusedError, Spot, Step
from tests.kubernetes.adapter.stage import Json, Stage, acting
from tests.kubernetes.adapter.things import CONTAINERS, MANIFEST
from tests.kubernetes.things import budget, workload

POD = {"spec": {"containers": CONTAINERS}}
PODS = {"name": "pods", "role": "decode", "gpus": 1, "pod": POD}
DEPLOYMENT = {"name": "many", "role": "decode", "gpus": 1, "object": MANIFEST}
ORDINALS = DEPLOYMENT | {
    "object": {**MANIFEST, "kind": "StatefulSet", "spec": {**MANIFEST["spec"], "serviceName": "c"}}
}
CLOSED = GateWish(open=False, reason="soft_scale_in", until=2_000_000_000.0)


def _launch(stage: Stage, instance: str, template: str = "many", **more: object) -> Launch:
    said: Json = {"domain": "s1/r7", **more}
    spots = (Spot(stage.kube.name("n1")),)
    return Launch(instance, "chat", "decode", template, spots, 1, **said)


def _step(request: str, *launches: Launch) -> Step:
    return Step(request, f"d-{request}", launches)


def _quota(stage: Stage, pods: int) -> None:
    stage.kube.create(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "few"},
            "spec": {"hard": {"pods": str(pods)}},
        }
    )
    stage.kube.until(
        lambda: "hard" in stage.kube.get("v1", "resourcequotas", "few").get("status", {})
    )


async def test_pods_of_a_step_are_let_go_together(stage: Stage) -> None:
    step = _step("r-1", _launch(stage, "i-1", "pods"), _launch(stage, "i-2", "pods"))
    async with acting(stage, PODS) as hands:
        await hands.launch(step)
        await hands.launch(step)
    assert stage.instances() == ["i-1", "i-2"]
    assert stage.waiting() == []
    stage.turn()
    assert {pod["spec"]["nodeName"] for pod in stage.pods()} == {stage.kube.name("n1")}


async def test_what_runs_of_a_step_is_not_taken_back_because_another_of_it_failed(
    stage: Stage,
) -> None:
    """An answer that was lost is asked for again, when one of the pods has ended by itself."""
    step = _step("r-1", _launch(stage, "i-1", "pods"), _launch(stage, "i-2", "pods"))
    async with acting(stage, PODS) as hands:
        await hands.launch(step)
        stage.turn()
        (gone,) = stage.pods(instance="i-1")
        (stays,) = stage.pods(instance="i-2")
        stage.kube.patch(
            "v1", "pods", gone["metadata"]["name"], {"status": {"phase": "Failed"}}, sub="status"
        )
        await hands.launch(step)
    assert stays["metadata"]["uid"] in [pod["metadata"]["uid"] for pod in stage.pods()]


async def test_pods_that_a_quota_forbids_take_the_whole_step_back(stage: Stage) -> None:
    _quota(stage, 1)
    step = _step("r-1", _launch(stage, "i-1", "pods"), _launch(stage, "i-2", "pods"))
    async with acting(stage, PODS) as hands:
        with pytest.raises(RefusedError, match="exceeded quota"):
            await hands.launch(step)
    assert stage.pods() == []


async def test_a_step_over_an_object_and_pods_is_whole_or_nothing(stage: Stage) -> None:
    step = _step("r-1", _launch(stage, "i-1"), _launch(stage, "i-2"), _launch(stage, "i-3", "pods"))
    async with acting(stage, PODS, DEPLOYMENT) as hands:
        await hands.launch(step)
        assert stage.instances() == ["i-1", "i-2", "i-3"]
        assert stage.waiting() == []
        assert stage.only()["spec"]["replicas"] == 2
        await hands.launch(step)
        stage.turn()
    assert stage.only()["spec"]["replicas"] == 2, "asked again it is the same step"
    assert len(stage.pods(request="r-1")) == 3


async def test_an_object_that_cannot_make_its_pods_is_set_back(stage: Stage) -> None:
    async with acting(stage, PODS, DEPLOYMENT) as hands:
        await hands.launch(_step("r-0", _launch(stage, "i-0")))
        _quota(stage, 2)
        step = _step("r-1", _launch(stage, "i-1"), _launch(stage, "i-2"))
        with pytest.raises(RefusedError, match="exceeded quota"):
            await hands.launch(step)
        stage.turn()
    assert stage.only()["spec"]["replicas"] == 1
    assert stage.instances() == ["i-0"]


async def test_pods_that_never_come_are_not_waited_for_longer_than_said(stage: Stage) -> None:
    stage.idle = True
    async with acting(stage, DEPLOYMENT) as hands:
        with pytest.raises(RefusedError, match="only 0 of its 1 pods"):
            await hands.launch(_step("r-1", _launch(stage, "i-1")))
    assert stage.only()["spec"].get("replicas", 0) == 0


async def test_a_step_of_a_process_that_died_is_finished_by_the_next(stage: Stage) -> None:
    async with acting(stage, DEPLOYMENT) as hands:
        await _die_in_launch(stage, hands, _step("r-1", _launch(stage, "i-1")))
    stage.turn()
    assert stage.waiting()
    async with acting(stage, DEPLOYMENT) as later:
        assert await later.tend() == Tended()
    assert stage.waiting() == []
    assert stage.instances() == ["i-1"]


async def test_a_step_of_a_process_that_died_is_taken_back_when_its_time_is_over(
    stage: Stage,
) -> None:
    async with acting(stage, DEPLOYMENT, PODS) as hands:
        step = _step("r-1", _launch(stage, "i-1"), _launch(stage, "i-2", "pods"))
        await _die_in_launch(stage, hands, step)
    stage.now += 3600.0
    async with acting(stage, DEPLOYMENT, PODS) as later:
        (note,) = (await later.tend()).notes
    assert "r-1 was taken back: 1 of 2 pods" in note
    stage.turn()
    assert stage.pods() == []


class _DeadError(Exception):
    pass


async def _die_in_launch(stage: Stage, hands: object, step: Step) -> None:
    """Launch, and end as a killed process does at the first wait."""

    async def dies(seconds: float) -> None:
        raise _DeadError(str(seconds))

    stage.pause, kept = dies, stage.pause  # type: ignore[method-assign]
    async with acting(stage, DEPLOYMENT, PODS) as mortal:
        with pytest.raises(_DeadError):
            await mortal.launch(step)
    stage.pause = kept  # type: ignore[method-assign]


async def test_a_victim_is_the_one_that_goes(stage: Stage) -> None:
    async with acting(stage, DEPLOYMENT) as hands:
        await hands.launch(_step("r-1", *(_launch(stage, f"i-{n}") for n in range(3))))
        stage.turn()
        await hands.stop("i-1", 30.0)
        await hands.stop("i-1", 30.0)
        assert stage.only()["spec"]["replicas"] == 2, "asked twice it leaves once"
        stage.turn()
        assert stage.instances() == ["i-0", "i-2"]
        assert await hands.tend() == Tended()
        await hands.stop("i-1", 30.0)
    assert stage.only()["spec"]["replicas"] == 2


async def test_a_victim_that_stayed_because_another_went_is_told(stage: Stage) -> None:
    async with acting(stage, DEPLOYMENT) as hands:
        await hands.launch(_step("r-1", _launch(stage, "i-1"), _launch(stage, "i-2")))
        stage.turn()
        await hands.stop("i-1", 30.0)
        (other,) = [p for p in stage.pods() if p["metadata"]["labels"][names.INSTANCE] == "i-2"]
        stage.kube.delete("v1", "pods", other["metadata"]["name"], gracePeriodSeconds=0)
        stage.turn()
        notes = (await hands.tend()).notes
        assert "another pod than that of i-1 was ended" in notes[0]
        (left,) = stage.pods()
        assert names.STOPPING not in left["metadata"]["annotations"]
        await hands.stop("i-1", 30.0)
        stage.turn()
    assert stage.pods() == []


async def test_of_ordinals_only_the_highest_can_be_stopped(stage: Stage) -> None:
    async with acting(stage, ORDINALS) as hands:
        await hands.launch(_step("r-1", _launch(stage, "i-0"), _launch(stage, "i-1")))
        stage.turn()
        by_name = {p["metadata"]["name"][-1]: p for p in stage.pods()}
        first, last = (by_name[n]["metadata"]["labels"][names.INSTANCE] for n in "01")
        with pytest.raises(RefusedError, match="highest ordinal first"):
            await hands.stop(first, 30.0)
        await hands.stop(last, 30.0)
        stage.turn()
    assert stage.instances() == [first]


@pytest.mark.parametrize("template", ["many", "pods"])
async def test_a_disruption_budget_keeps_what_it_guards(stage: Stage, template: str) -> None:
    async with acting(stage, DEPLOYMENT, PODS) as hands:
        await hands.launch(_step("r-1", _launch(stage, "i-1", template)))
        stage.turn()
        stage.kube.create(budget("guard", {names.SERVICE: "chat"}, minAvailable=1))
        _told(stage, 0)
        with pytest.raises(RefusedError, match="guard"):
            await hands.stop("i-1", 30.0)
        assert stage.instances() == ["i-1"]
        _told(stage, 1)
        await hands.stop("i-1", 0.0)
        stage.turn()
        stage.kube.until(lambda: not stage.pods())


def _told(stage: Stage, allowed: int) -> None:
    """Let the budget's controller have looked."""
    seen = stage.kube.get("policy/v1", "poddisruptionbudgets", "guard")["metadata"]["generation"]
    status = {
        "observedGeneration": seen, "disruptionsAllowed": allowed, "currentHealthy": 1,
        "desiredHealthy": 1 - allowed, "expectedPods": 1,
    }  # fmt: skip
    stage.kube.patch("policy/v1", "poddisruptionbudgets", "guard", {"status": status}, sub="status")


async def test_a_budget_that_is_not_counted_yet_holds_up_no_other_call(stage: Stage) -> None:
    """Its answer says to come again in ten seconds: for this pod, and not for the whole cluster."""
    stage.kube.create(budget("guard", {names.INSTANCE: "i-1"}, minAvailable=1))
    patience = {"perSecond": 10_000, "burst": 10_000, "timeout": 8.0}
    async with acting(stage, PODS, requests=patience) as hands:
        await hands.launch(_step("r-1", _launch(stage, "i-1", "pods")))
        stage.turn()
        with pytest.raises(RefusedError, match="still being processed"):
            await hands.stop("i-1", 1.0)
        await hands.gate("i-1", CLOSED)
    (one,) = stage.pods()
    assert one["metadata"]["labels"][names.GATE] == names.CLOSED


async def test_a_pod_that_a_controller_made_anew_is_adopted_and_let_go(stage: Stage) -> None:
    async with acting(stage, DEPLOYMENT) as hands:
        await hands.launch(_step("r-1", _launch(stage, "i-1")))
        stage.turn()
        (lost,) = stage.pods()
        stage.kube.delete("v1", "pods", lost["metadata"]["name"], gracePeriodSeconds=0)
        stage.turn()
        assert stage.waiting()
        assert await hands.tend() == Tended()
    (found,) = stage.pods()
    assert found["metadata"]["annotations"][names.INSTANCE] == f"pod-{found['metadata']['uid']}"
    assert found["metadata"]["labels"][names.REQUEST] == "adopted"
    assert stage.waiting() == []


async def test_a_gate_moves_label_and_readiness_and_stands_in_the_cluster(stage: Stage) -> None:
    gate = {"labels": {"pool": "chat"}, "readiness": True}
    async with acting(stage, PODS, gate=gate) as hands:
        await hands.launch(_step("r-1", _launch(stage, "i-1", "pods")))
        assert _traffic(stage) == ("chat", "True")
        await hands.gate("i-1", CLOSED)
        await hands.gate("i-1", CLOSED)
        assert _traffic(stage) == (None, "False")
        (closed,) = stage.pods(gate="closed")
        assert closed["metadata"]["annotations"][names.GATE_REASON] == "soft_scale_in"
    async with acting(stage, PODS, gate=gate) as later:
        await later.gate("i-1", GateWish(open=True))
        assert _traffic(stage) == ("chat", "True")
        with pytest.raises(RefusedError, match="no instance i-9"):
            await later.gate("i-9", CLOSED)


def _traffic(stage: Stage) -> tuple[str | None, str]:
    (pod,) = stage.pods()
    said = [c["status"] for c in pod["status"]["conditions"] if c["type"] == names.TRAFFIC]
    return pod["metadata"]["labels"].get("pool"), said[0]


async def test_another_hand_on_the_number_is_told_and_not_fought(stage: Stage) -> None:
    async with acting(stage, DEPLOYMENT) as hands:
        await hands.launch(_step("r-1", _launch(stage, "i-1")))
        stage.turn()
        name = stage.only()["metadata"]["name"]
        stage.scale(name, 3, "kubectl")
        stage.turn()
        (note,) = (await hands.tend()).notes
        assert "spec.replicas is 3, set by kubectl, and 1 by us" in note
        with pytest.raises(RefusedError, match="set by kubectl"):
            await hands.launch(_step("r-2", _launch(stage, "i-2")))
        with pytest.raises(RefusedError, match="set by kubectl"):
            await hands.stop("i-1", 30.0)
        assert stage.only()["spec"]["replicas"] == 3
        assert stage.waiting() == [], "what others asked for is not held up"
        stage.scale(name, 1, "kubectl")
        stage.turn()
        await hands.launch(_step("r-3", _launch(stage, "i-3")))
    assert "i-3" in stage.instances()


async def test_an_autoscaler_on_what_was_handed_over_is_refused(stage: Stage) -> None:
    stage.kube.create(workload("Deployment", "chat", 1))
    scale = {"kind": "Deployment", "name": "chat", "service": "chat"}
    handed = {"name": "many", "role": "decode", "gpus": 1, "scale": scale}
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "hpa"},
        "spec": {
            "maxReplicas": 4,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"},
        },
    }
    stage.kube.create(hpa)
    stage.turn()
    async with acting(stage, handed) as hands:
        with pytest.raises(RefusedError, match="HorizontalPodAutoscaler"):
            await hands.launch(_step("r-1", _launch(stage, "i-1")))
        stage.kube.delete("autoscaling/v2", "horizontalpodautoscalers", "hpa")
        await hands.launch(_step("r-1", _launch(stage, "i-1")))
        assert stage.only()["spec"]["replicas"] == 2
        await hands.tend()
        assert all(instance for instance in stage.instances()), "what was there is ours by now"
        stage.turn()
        await hands.stop("i-1", 30.0)
        stage.turn()
    assert "i-1" not in stage.instances()


async def test_what_others_launched_is_neither_stopped_nor_gated(stage: Stage) -> None:
    labels = {names.INSTANCE: "i-1"}
    stage.kube.create(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "labels": labels}, **POD}
    )
    async with acting(stage, PODS) as hands:
        with pytest.raises(RefusedError, match="not ours"):
            await hands.stop("i-1", 1.0)
        with pytest.raises(RefusedError, match="not ours"):
            await hands.gate("i-1", CLOSED)
        await hands.stop("i-9", 1.0)
    assert len(stage.pods()) == 1


async def test_an_object_that_was_empty_for_long_is_removed(stage: Stage) -> None:
    async with acting(stage, DEPLOYMENT) as hands:
        await hands.launch(_step("r-1", _launch(stage, "i-1")))
        stage.turn()
        await hands.stop("i-1", 1.0)
        stage.turn()
        await hands.tend()
        await hands.tend()
        assert stage.only()
        stage.now += 3600.0
        await hands.tend()
    assert stage.kube.list("apps/v1", "deployments") == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"template": "none-such"}, "there is no template none-such; there are: many"),
        ({"domain": "s2/x"}, "no label for the domain s2/x"),
    ],
)
async def test_what_cannot_be_launched_is_refused_before_anything_is(
    stage: Stage, more: dict[str, str], words: str
) -> None:
    async with acting(stage, DEPLOYMENT) as hands:
        bad = _launch(stage, "i-2", **more)
        with pytest.raises(RefusedError, match=words):
            await hands.launch(_step("r-1", _launch(stage, "i-1"), bad))
    assert stage.kube.list("apps/v1", "deployments") == []
