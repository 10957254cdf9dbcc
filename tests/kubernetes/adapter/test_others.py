from __future__ import annotations

from typing import Any

from heteroscale_scheduler_adapters.kubernetes.others import hands
from heteroscale_scheduler_adapters.kubernetes.record import Record

Json = dict[str, Any]


def _thing(*managers: tuple[str, str]) -> Json:
    fields: Json = {"f:spec": {"f:replicas": {}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "chat",
            "namespace": "llm",
            "managedFields": [
                {"manager": who, "operation": how, "fieldsV1": fields} for who, how in managers
            ],
        },
    }


def _autoscaler(name: str = "chat", **labels: str) -> Json:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    return {
        "metadata": {"name": "hpa", "namespace": "llm", "labels": labels},
        "spec": {"scaleTargetRef": target},
    }


def test_what_is_as_we_wrote_it_is_ours() -> None:
    thing = _thing(("heteroscale", "Update"), ("heteroscale", "Apply"))
    assert hands(thing, 4, Record(4, 4), [_autoscaler("other")]) == []
    assert hands(thing, 2, Record(4, 2), []) == [], "we have not come to it yet"
    assert hands(_thing(("kubectl", "Update")), 4, None, []) == [], "not touched yet"


def test_an_edit_by_hand_is_told_with_who_did_it() -> None:
    (said,) = hands(_thing(("kubectl", "Update")), 6, Record(4, 4), [])
    assert "Deployment llm/chat: spec.replicas is 6, set by kubectl, and 4 by us" in said
    assert "force: true" in said
    assert "somebody else" in hands(_thing(), 6, Record(4, 4), [])[0]


def test_a_manager_that_applies_the_number_is_told() -> None:
    (said,) = hands(_thing(("argocd", "Apply")), 4, Record(4, 4), [])
    assert "argocd sets spec.replicas by server-side apply" in said


def test_an_autoscaler_is_told_and_keda_by_its_own_name() -> None:
    assert "HorizontalPodAutoscaler llm/hpa" in hands(_thing(), 4, None, [_autoscaler()])[0]
    keda = {"scaledobject.keda.sh/name": "chat-so"}
    assert "ScaledObject llm/chat-so" in hands(_thing(), 4, None, [_autoscaler(**keda)])[0]
