"""What disruption budgets keep, and what quotas leave us."""

from __future__ import annotations

from typing import Any

import pytest

from heteroscale_scheduler_adapters.kubernetes.budgets import (
    budget,
    kept_by,
    limit_of,
    quotas,
    selects,
)
from heteroscale_scheduler_adapters.kubernetes.pods import SeenPod, seen_pod
from heteroscale_scheduler_adapters.port import Quota
from tests.scheduler_adapters.kubernetes.things import NOW, Thing, ours, pod, settings

RESOURCES = ("nvidia.com/gpu",)


def disruption(allowed: int | None = 0, **more: Any) -> Thing:
    status = {} if allowed is None else {"disruptionsAllowed": allowed, "observedGeneration": 2}
    return {
        "metadata": {"name": "chat", "namespace": "llm", "generation": 2},
        "spec": {"selector": {"matchLabels": {"heteroscale.io/service": "chat"}}, **more},
        "status": status,
    }


def seen(name: str = "p1") -> SeenPod:
    found = seen_pod(pod(name, labels=ours()), settings(), "east", NOW)
    assert found is not None
    return found


@pytest.mark.parametrize(("allowed", "kept"), [(0, True), (None, True), (1, False), (2, False)])
def test_a_budget_keeps_what_it_does_not_let_go(allowed: int | None, kept: bool) -> None:
    assert bool(kept_by([seen()], [budget(disruption(allowed))])) is kept


def test_all_ranks_of_an_instance_must_be_let_go() -> None:
    two = [seen("p1"), seen("p2")]
    said = kept_by(two, [budget(disruption(1))])
    assert said == "disruption budget llm/chat lets 1 of its pods go now"
    assert not kept_by(two, [budget(disruption(2))])


def test_a_budget_that_changed_and_was_not_looked_at_since_allows_nothing() -> None:
    stale = disruption(5)
    stale["metadata"]["generation"] = 3
    assert kept_by([seen()], [budget(stale)])


def test_other_pods_and_other_namespaces_are_not_kept() -> None:
    other = disruption(0, selector={"matchLabels": {"app": "web"}})
    elsewhere = disruption(0)
    elsewhere["metadata"]["namespace"] = "web"
    nothing = disruption(0, selector=None)
    assert not kept_by([seen()], map(budget, (other, elsewhere, nothing)))


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, True),
        (None, False),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "b", "operator": "In", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Near"}]}, False),
    ],
)
def test_selectors_select_as_kubernetes_does(selector: Thing | None, selected: bool) -> None:
    assert selects(selector, {"a": "1"}) is selected


def quota(hard: Thing, **more: Any) -> Thing:
    return {"metadata": {"name": "q", "namespace": "llm"}, "spec": {"hard": hard, **more}}


def test_a_quota_of_gpus_is_read_and_one_of_something_else_is_not() -> None:
    assert limit_of(quota({"requests.nvidia.com/gpu": "16", "pods": "3"}), RESOURCES) == 16
    assert limit_of(quota({"requests.nvidia.com/gpu": "0"}), RESOURCES) == 0
    assert limit_of(quota({"pods": "3"}), RESOURCES) is None
    scoped = quota({"requests.nvidia.com/gpu": "1"}, scopes=["BestEffort"])
    assert limit_of(scoped, RESOURCES) is None


def test_what_others_ask_for_is_not_ours_to_hold() -> None:
    assert quotas({"a": [16, 10]}, ["a"], {"a": 3}) == (Quota("", 7),)
    assert quotas({"a": [2]}, ["a"], {"a": 3}) == (Quota("", 0),)
    assert quotas({"a": [16], "b": [4]}, ["b", "a"], {}) == (Quota("", 20),)


def test_a_namespace_without_a_quota_has_no_limit_and_so_there_is_none_in_all() -> None:
    assert quotas({"a": [16]}, ["a", "b"], {}) == ()
    assert quotas({}, [], {}) == ()
