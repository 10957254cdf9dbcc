from __future__ import annotations

from typing import Any

from heteroscale_scheduler_adapters.kubernetes import manifests, names
from heteroscale_scheduler_adapters.kubernetes.marks import OBJECT, STEP_SIZE, Identity
from heteroscale_scheduler_adapters.kubernetes.templates import GateRule
from heteroscale_scheduler_adapters.port import GateWish
from tests.kubernetes.adapter.things import CONTAINERS, LWS, MANIFEST, launch, pod, template

RULE = GateRule.model_validate({"labels": {"llm-d.ai/pool": "chat"}, "readiness": True})
LEVELS = {"s1": ("leaf", "rack"), "s2": ("spine",), "vdc": ("region",)}
RACK = [{"key": "rack", "operator": "In", "values": ["r7"]}]
HERE = [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]


def _pods(*nodes: str, **more: Any) -> list[dict[str, Any]]:
    one = launch("i/1", *nodes, **more)
    who = Identity("i/1", "r-1", group="g-1", cause="d-1", size=4, until=99.0)
    shape = template(pod={"metadata": {"labels": {"x": "y"}}, "spec": {"containers": CONTAINERS}})
    return manifests.pods(shape, one, "llm", who=who, rule=RULE, cluster="east")


def _object(**more: Any) -> dict[str, Any]:
    return manifests.scaled_object(
        template(**more), launch(domain="s1/r7"), name="chat-decode-r7", namespace="llm",
        rule=RULE, cluster="east", where=RACK,
    )  # fmt: skip


def test_a_pod_waits_and_is_bound_to_its_node_and_its_instance() -> None:
    (one,) = _pods("n1")
    assert one["spec"]["schedulingGates"] == [{"name": names.STEP_GATE}]
    affinity = one["spec"]["affinity"]["nodeAffinity"]
    needed = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    assert needed == {"nodeSelectorTerms": [{"matchFields": HERE}]}
    assert "nodeName" not in one["spec"]
    marked, noted = one["metadata"]["labels"], one["metadata"]["annotations"]
    assert noted[names.INSTANCE] == "i/1"
    assert marked[names.INSTANCE] == names.label_value("i/1")
    assert (marked["x"], marked[names.CLUSTER], marked[names.ROLE]) == ("y", "east", "decode")
    assert (noted[STEP_SIZE], noted[names.CAUSE]) == ("4", "d-1")


def test_ranks_are_pods_of_one_instance_in_order() -> None:
    both = _pods("n1", "n2")
    assert [one["metadata"]["labels"][names.RANK] for one in both] == ["0", "1"]
    assert len({one["metadata"]["name"] for one in both}) == 2
    assert both == _pods("n1", "n2"), "names are always the same, so no launch makes them twice"


def test_words_are_filled_in_and_other_braces_stay() -> None:
    (one,) = _pods("n1")
    assert one["spec"]["containers"][0]["args"] == ["--id=i/1", "{'a': 1}"]


def test_what_is_launched_withdrawn_has_no_label_of_the_pool() -> None:
    (held,) = _pods("n1", gate=GateWish(open=False, reason="ratio_hold", until=5.5))
    (free,) = _pods("n1")
    assert "llm-d.ai/pool" not in held["metadata"]["labels"]
    assert free["metadata"]["labels"]["llm-d.ai/pool"] == "chat"
    assert held["metadata"]["labels"][names.GATE] == names.CLOSED
    assert held["metadata"]["annotations"][names.GATE_UNTIL] == "5.5"
    assert held["spec"]["readinessGates"] == [{"conditionType": names.TRAFFIC}]


def test_an_object_is_made_empty_and_selects_only_its_own_pods() -> None:
    made = _object()
    assert made["spec"]["replicas"] == 0
    assert made["spec"]["selector"]["matchLabels"] == {"app": "chat", OBJECT: "chat-decode-r7"}
    inner = made["spec"]["template"]
    assert inner["metadata"]["labels"][OBJECT] == "chat-decode-r7"
    assert inner["spec"]["schedulingGates"] == [{"name": names.STEP_GATE}]
    needed = inner["spec"]["affinity"]["nodeAffinity"]
    terms = needed["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchExpressions": RACK}]
    assert "affinity" not in MANIFEST["spec"]["template"]["spec"], (
        "the template itself is as it was"
    )


def test_a_stateful_set_makes_its_pods_at_once() -> None:
    assert (
        _object(object=MANIFEST | {"kind": "StatefulSet"})["spec"]["podManagementPolicy"]
        == "Parallel"
    )


def test_a_group_has_the_gate_in_each_of_its_templates() -> None:
    inner = _object(object=LWS)["spec"]["leaderWorkerTemplate"]["workerTemplate"]
    assert inner["spec"]["schedulingGates"] == [{"name": names.STEP_GATE}]
    assert inner["metadata"]["labels"][names.SERVICE] == "chat"


def test_an_objects_name_tells_its_domain_and_differs_with_all_that_it_says() -> None:
    one = launch(domain="s1/r7")
    first = manifests.object_name(template(), one, RULE, RACK)
    assert first.startswith("chat-decode-r7-")
    assert first == manifests.object_name(template(), one, RULE, RACK)
    others = {
        manifests.object_name(template(port=9000), one, RULE, RACK),
        manifests.object_name(template(), launch(domain="s1/r8"), RULE, RACK),
        manifests.object_name(template(), one, GateRule(), RACK),
        manifests.object_name(
            template(), launch(domain="s1/r7", parameters={"a": "b"}), RULE, RACK
        ),
    }
    assert len(others | {first}) == 5


def test_requirements_hold_beside_each_of_a_manifests_own_terms() -> None:
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    own = [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"matchFields": HERE}]
    spec = {"affinity": {"nodeAffinity": {key: {"nodeSelectorTerms": own}}}}
    manifests.require(spec, RACK, [])
    assert spec["affinity"]["nodeAffinity"][key]["nodeSelectorTerms"] == [
        {"matchExpressions": [{"key": "a", "operator": "Exists"}, *RACK]},
        {"matchFields": HERE, "matchExpressions": RACK},
    ]


def test_a_waiting_pod_is_drawn_to_its_node_once() -> None:
    waiting = pod("p", gated=True)
    spec = manifests.steered(waiting, "n1", required=False)
    liked = spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert [one["preference"] for one in liked] == [{"matchFields": HERE}]
    assert manifests.steered({"spec": spec}, "n1", required=False) == spec
    bound = manifests.steered(waiting, "n1", required=True)["affinity"]["nodeAffinity"]
    assert bound["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] == [
        {"matchFields": HERE}
    ]
    assert manifests.steered(waiting, "", required=True) == {}


def test_a_domain_is_told_with_the_levels_above_it() -> None:
    one = launch(domain="s1/r7")
    found = manifests.domain_of(one, LEVELS, {"rack": "r7", "region": "eu"})
    assert [(each["key"], each["values"]) for each in found] == [
        ("rack", ["r7"]),
        ("region", ["eu"]),
    ]
    assert manifests.domain_of(one, LEVELS, {"region": "eu"}) == []
    assert manifests.domain_of(launch(), LEVELS, {"rack": "r7"}) == []
    assert manifests.domain_of(launch(domain="pod/x"), LEVELS, {"rack": "r7"}) == []
