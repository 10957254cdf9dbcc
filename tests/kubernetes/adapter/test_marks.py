from __future__ import annotations

from heteroscale_scheduler_adapters.kubernetes import marks, names
from heteroscale_scheduler_adapters.kubernetes.templates import GateRule
from heteroscale_scheduler_adapters.port import GateWish
from tests.kubernetes.adapter.things import bound, pod

CLOSED = GateWish(open=False, reason="soft_scale_in", until=2_000_000_000.25)
RULE = GateRule.model_validate({"labels": {"pool": "chat"}})


def test_a_wish_is_read_back_as_it_was_written() -> None:
    for wish in (CLOSED, GateWish(open=True), GateWish(open=False, reason="operator")):
        marked, noted = marks.gate_marks(wish, RULE)
        labels = {key: value for key, value in marked.items() if value is not None}
        notes = {key: value for key, value in noted.items() if value is not None}
        assert marks.wish_of(pod("a", labels=labels, notes=notes)) == wish


def test_the_pools_label_is_there_only_while_the_gate_is_open() -> None:
    assert marks.gate_marks(CLOSED, RULE)[0]["pool"] is None
    assert marks.gate_marks(GateWish(open=True), RULE)[0]["pool"] == "chat"


def test_only_our_gate_is_taken_away() -> None:
    waiting = pod("a", gated=True)
    assert marks.waits(waiting)
    patch = marks.ungated(waiting)
    assert patch["spec"]["schedulingGates"] == [{"name": "others/gate"}]
    assert patch["metadata"]["resourceVersion"] == "7"
    waiting["spec"]["schedulingGates"] = [{"name": names.STEP_GATE}]
    assert marks.ungated(waiting)["spec"]["schedulingGates"] is None


def test_readiness_follows_the_wish_where_the_pod_asks_for_it() -> None:
    one = pod("a")
    assert marks.traffic_condition(one, CLOSED, 0.0) is None
    one["spec"]["readinessGates"] = [{"conditionType": names.TRAFFIC}]
    patch = marks.traffic_condition(one, CLOSED, 0.0)
    assert patch is not None
    (said,) = patch["status"]["conditions"]
    assert (said["type"], said["status"], said["message"]) == (
        names.TRAFFIC,
        "False",
        "soft_scale_in",
    )
    one["status"]["conditions"].append({"type": names.TRAFFIC, "status": "False"})
    assert marks.traffic_condition(one, CLOSED, 0.0) is None
    assert marks.traffic_condition(one, GateWish(open=True), 0.0) is not None


def test_whose_a_pod_is_stands_in_full_in_its_annotations() -> None:
    marked, noted = marks.identity_marks(
        marks.Identity("i/1", "r/1", 1, 2, "g", "d-1", 4, 60.0, "o")
    )
    one = pod("a", labels=marked, notes=noted)
    assert (marks.instance_of(one), marks.request_of(one)) == ("i/1", "r/1")
    assert marks.number(one, marks.STEP_UNTIL, 0.0) == 60.0
    assert marks.number(one, "no-such", 3.0) == 3.0
    assert marks.instance_of(bound("b", "i-2")) == "i-2"
    assert (marks.instance_of(pod("c")), marks.request_of(pod("c"))) == ("", "")


def test_what_is_over_or_ends_does_not_live() -> None:
    assert marks.lives(pod("a"))
    assert not marks.lives(pod("a", gone=True))
    assert not marks.lives(pod("a", phase="Succeeded"))
