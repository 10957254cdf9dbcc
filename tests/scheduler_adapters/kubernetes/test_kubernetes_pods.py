"""Pods: what they hold, how far they are, whose they are, whether traffic can reach them."""

from __future__ import annotations

from typing import Any

import pytest

from heteroscale_scheduler_adapters.kubernetes.pods import Member, SeenPod, origin_of, seen_pod
from heteroscale_scheduler_adapters.port import GateWish, Phase
from tests.scheduler_adapters.kubernetes.things import (
    NOW,
    STAMP,
    Thing,
    conditions,
    container,
    node,
    ours,
    owned,
    pod,
    settings,
)


def seen(thing: Thing, **options: Any) -> SeenPod:
    found = seen_pod(thing, settings(**options), "east", NOW)
    assert found is not None
    return found


def member(thing: Thing, **options: Any) -> Member:
    found = seen(thing, **options).member
    assert found is not None
    return found


def waiting(reason: str, message: str = "", restarts: int = 0) -> Thing:
    state = {"waiting": {"reason": reason, "message": message}}
    last = {"terminated": {"exitCode": 1, "reason": "Error"}} if restarts else {}
    one = {"name": "engine", "state": state, "lastState": last, "restartCount": restarts}
    return {"containerStatuses": [one]}


def ended(code: int, reason: str) -> Thing:
    state = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": STAMP}}
    return {"containerStatuses": [{"name": "engine", "state": state}]}


# ---- what they hold --------------------------------------------------------------------------------


def test_who_holds_nothing_and_serves_nothing_is_not_kept() -> None:
    assert seen_pod(pod(gpus=0), settings(), "east", NOW) is None
    assert seen_pod(node(), settings(), "east", NOW) is None


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_what_is_over_holds_nothing(phase: str) -> None:
    assert seen(pod(gpus=4)).gpus == 4
    assert seen(pod(gpus=4, phase=phase)).gpus == 0


# ---- how far they are ------------------------------------------------------------------------------

GATED = [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "x"}]
STUCK = [
    {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    }
]


@pytest.mark.parametrize(
    ("thing", "phase", "message"),
    [
        (pod(node="", phase="Pending"), Phase.QUEUED, ""),
        (
            pod(node="", phase="Pending", status={"conditions": STUCK}),
            Phase.QUEUED,
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        ),
        (
            pod(
                node="",
                phase="Pending",
                spec={"schedulingGates": [{"name": "heteroscale.io/step"}]},
                status={"conditions": GATED},
            ),
            Phase.QUEUED,
            "waits until its whole step is there",
        ),
        (
            pod(
                node="",
                phase="Pending",
                spec={"schedulingGates": [{"name": "kueue.x-k8s.io/topology"}]},
                status={"conditions": GATED},
            ),
            Phase.QUEUED,
            "held by scheduling gates of others: kueue.x-k8s.io/topology",
        ),
        (pod(phase="Pending"), Phase.STARTING, ""),
        (pod(phase="Pending", status=waiting("ContainerCreating")), Phase.STARTING, ""),
        (
            pod(status={"conditions": conditions(ContainersReady="False", Ready="False")}),
            Phase.STARTING,
            "",
        ),
        (
            pod(status={"conditions": conditions(ContainersReady="True", Ready="False")}),
            Phase.READY,
            "",
        ),
        (pod(), Phase.READY, ""),
        (
            pod(phase="Pending", status=waiting("ImagePullBackOff", "no such image")),
            Phase.FAILED,
            "container engine: ImagePullBackOff: no such image",
        ),
        (
            pod(phase="Pending", status={**waiting("ErrImagePull", "slow"), "startTime": STAMP}),
            Phase.STARTING,
            "container engine: ErrImagePull: slow",
        ),
        (
            pod(phase="Pending", status={**waiting("InvalidImageName"), "startTime": STAMP}),
            Phase.FAILED,
            "container engine: InvalidImageName",
        ),
        (
            pod(status={**waiting("CrashLoopBackOff", "back-off 5m", 5), "conditions": []}),
            Phase.FAILED,
            "container engine: CrashLoopBackOff: back-off 5m; started 6 times (last: exit status 1)",
        ),
        (
            pod(status={**waiting("CrashLoopBackOff", "back-off 10s", 1), "conditions": []}),
            Phase.STARTING,
            "container engine: CrashLoopBackOff: back-off 10s (last: exit status 1)",
        ),
        (
            pod(phase="Failed", status={"reason": "Evicted", "message": "node was low on memory"}),
            Phase.FAILED,
            "Evicted: node was low on memory",
        ),
        (
            pod(phase="Failed", status=ended(137, "OOMKilled")),
            Phase.FAILED,
            "container engine: OOMKilled, exit status 137",
        ),
        (
            pod(phase="Failed", status=ended(1, "Error")),
            Phase.FAILED,
            "container engine: exit status 1",
        ),
        (pod(phase="Succeeded", status=ended(0, "Completed")), Phase.FAILED, "ended by itself"),
        (pod(phase="Failed"), Phase.FAILED, "failed"),
        (
            pod(
                phase="Failed",
                status={
                    "conditions": [
                        {
                            "type": "DisruptionTarget",
                            "status": "True",
                            "reason": "PreemptionByScheduler",
                            "message": "a pod of higher priority came",
                        }
                    ]
                },
            ),
            Phase.FAILED,
            "PreemptionByScheduler: a pod of higher priority came",
        ),
        (pod(meta={"deletionTimestamp": STAMP}), Phase.STOPPING, ""),
        (pod(phase="Failed", meta={"deletionTimestamp": STAMP}), Phase.ENDED, ""),
    ],
)
def test_how_far_a_pod_is(thing: Thing, phase: Phase, message: str) -> None:
    told = seen(thing)
    assert (told.phase, told.message) == (phase, message)


def test_since_when_is_told() -> None:
    assert seen(pod()).since == NOW
    assert seen(pod(phase="Pending")).since == NOW - 600
    assert seen(pod(node="", phase="Pending")).since == NOW - 600
    assert seen(pod(phase="Failed", status=ended(1, "Error"))).since == NOW
    leaving = {"deletionTimestamp": STAMP, "deletionGracePeriodSeconds": 30}
    assert seen(pod(meta=leaving)).since == NOW - 30


def test_a_pod_whose_node_is_silent_is_as_it_was_last_seen_and_says_so() -> None:
    lost = [
        *conditions(ContainersReady="True"),
        {"type": "Ready", "status": "False", "reason": "NodeNotReady"},
    ]
    told = seen(pod(labels=ours(), status={"conditions": lost}))
    assert (told.phase, told.message) == (Phase.READY, "its node does not answer")
    assert told.member is not None
    assert told.member.gate_seen is False


# ---- whose they are --------------------------------------------------------------------------------


def test_what_we_launched_is_ours_and_tells_its_step() -> None:
    one = member(pod(labels=ours(group="g-1", template="vllm-decode")))
    assert (one.instance_id, one.service, one.role, one.request_id) == (
        "i-1",
        "chat",
        "decode",
        "r-1",
    )
    assert (one.group, one.template, one.origin) == ("g-1", "vllm-decode", "")
    assert one.endpoint == "http://10.1.0.7:8000"
    assert one.names == ("p1", "10.1.0.7:8000")


def test_a_name_too_long_for_a_label_is_read_from_the_annotation() -> None:
    long = "x" * 80
    notes = {"heteroscale.io/instance": long, "heteroscale.io/service": "Chat service"}
    one = member(pod(labels=ours(), annotations=notes))
    assert (one.instance_id, one.service) == (long, "Chat service")


def test_what_another_coordinator_launched_is_a_stranger_that_holds() -> None:
    told = seen(pod(labels=ours(cluster="west")))
    assert told.member is None
    assert told.gpus == 1


def test_what_waits_for_a_step_and_has_no_instance_yet_is_nobodys() -> None:
    labels = ours()
    del labels["heteroscale.io/instance"], labels["heteroscale.io/request"]
    labels["app.kubernetes.io/managed-by"] = "heteroscale"
    gates = {"schedulingGates": [{"name": "heteroscale.io/step"}]}
    assert seen(pod(node="", phase="Pending", labels=labels, spec=gates)).member is None


def test_what_others_made_is_adopted_by_its_labels() -> None:
    labels = {"heteroscale.io/service": "chat", "llm-d.ai/role": "both"}
    labels |= {"pod-template-hash": "7d9f8"}
    spec = {"containers": [container(1, ports=[{"containerPort": 9000}])]}
    thing = pod(labels=labels, meta=owned("ReplicaSet", "chat-decode-7d9f8"), spec=spec)
    one = member(thing)
    assert (one.instance_id, one.service, one.role) == ("pod-uid-p1", "chat", "aggregated")
    assert (one.origin, one.request_id) == ("deployment/llm/chat-decode", "")
    assert one.endpoint == "http://10.1.0.7:9000"


def test_what_others_made_is_adopted_by_the_name_of_what_made_it() -> None:
    adopt = [
        {"namespace": "llm", "name": "old-chat", "service": "chat", "role": "prefill", "port": 80}
    ]
    thing = pod(labels={"pod-template-hash": "ab"}, meta=owned("ReplicaSet", "old-chat-ab"))
    one = member(thing, adopt=adopt)
    assert (one.service, one.role, one.endpoint) == ("chat", "prefill", "http://10.1.0.7:80")
    assert seen(thing).member is None


def test_a_service_without_a_role_is_no_instance() -> None:
    labels = {"heteroscale.io/service": "chat", "heteroscale.io/role": "router"}
    assert seen(pod(labels=labels)).member is None


@pytest.mark.parametrize(
    ("thing", "origin"),
    [
        (pod(), "pod/llm/p1"),
        (pod(meta=owned("StatefulSet", "chat")), "statefulset/llm/chat"),
        (pod(meta=owned("ReplicaSet", "alone")), "replicaset/llm/alone"),
        (pod(meta=owned("DaemonSet", "exporter")), "daemonset/llm/exporter"),
        (
            pod(
                labels={"leaderworkerset.sigs.k8s.io/name": "big"},
                meta=owned("StatefulSet", "big-0"),
            ),
            "leaderworkerset/llm/big",
        ),
    ],
)
def test_who_made_a_pod_is_told(thing: Thing, origin: str) -> None:
    assert origin_of(thing) == origin


# ---- traffic ---------------------------------------------------------------------------------------


def test_a_wish_is_read_back() -> None:
    closed = ours() | {"heteroscale.io/gate": "closed"}
    notes = {
        "heteroscale.io/gate-reason": "soft_scale_in",
        "heteroscale.io/gate-until": "1800000030.5",
    }
    assert member(pod(labels=closed, annotations=notes)).gate == GateWish(
        open=False, reason="soft_scale_in", until=1_800_000_030.5
    )
    assert member(pod(labels=closed)).gate == GateWish(open=False)
    assert member(pod(labels=ours() | {"heteroscale.io/gate": "open"})).gate == GateWish(open=True)


GATE = {"readinessGates": [{"conditionType": "heteroscale.io/traffic"}]}
UNREADY = {"conditions": conditions(ContainersReady="True", Ready="False")}


@pytest.mark.parametrize(
    ("label", "spec", "status", "seen_open"),
    [
        ("", {}, {}, None),
        ("open", {}, {}, True),
        ("closed", {}, {}, False),
        ("open", {}, UNREADY, False),
        ("closed", GATE, {}, True),
        ("closed", GATE, UNREADY, False),
        ("open", GATE, {}, True),
    ],
)
def test_whether_traffic_can_reach_it(
    label: str, spec: Thing, status: Thing, seen_open: bool | None
) -> None:
    labels = ours() | ({"heteroscale.io/gate": label} if label else {})
    assert member(pod(labels=labels, spec=spec, status=status)).gate_seen is seen_open


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    one = member(pod(labels=ours(), status={"podIP": "fd00::7"}))
    assert one.endpoint == "http://[fd00::7]:8000"


def test_without_a_port_or_an_address_there_is_no_endpoint() -> None:
    labels = ours()
    assert member(pod(node="", phase="Pending", labels=labels)).endpoint == ""
    del labels["heteroscale.io/port"]
    one = member(pod(labels=labels))
    assert (one.endpoint, one.names) == ("", ("p1",))
    two = [{"containerPort": 1}, {"containerPort": 2}]
    assert member(pod(labels=labels, spec={"containers": [container(1, ports=two)]})).endpoint == ""
