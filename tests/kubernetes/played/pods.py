"""What controllers of pods share: whose a pod is, how it does, and which goes first."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable

from tests.kubernetes.played.base import Hands
from tests.kubernetes.server.errors import Json
from tests.kubernetes.server.selectors import selector
from tests.kubernetes.server.store import Table

PODS: Table = ("", "pods")
HASH = "pod-template-hash"
COST = "controller.kubernetes.io/pod-deletion-cost"
_SAFE = "bcdfghjklmnpqrstvwxz2456789"


def owner(obj: Json) -> Json:
    """Return a reference to the controller ``obj``."""
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(obj: Json) -> Json | None:
    owners = obj["metadata"].get("ownerReferences") or []
    return next((one for one in owners if one.get("controller")), None)


def owned(hands: Hands, table: Table, by: Json) -> list[Json]:
    """Return the objects of a table that ``by`` controls."""
    uid = by["metadata"]["uid"]
    return [
        one
        for one in hands.all(table, by["metadata"].get("namespace", ""))
        if (controller_of(one) or {}).get("uid") == uid
    ]


def adopt(hands: Hands, by: Json) -> None:
    """Take the pods that the selector means and nobody controls."""
    means = selector(by["spec"]["selector"])
    for pod in hands.all(PODS, by["metadata"]["namespace"]):
        free = controller_of(pod) is None and active(pod)
        if free and means(pod["metadata"].get("labels") or {}):
            hands.change(pod, lambda live: _with_owner(live, by))


def _with_owner(live: Json, by: Json) -> Json:
    live["metadata"].setdefault("ownerReferences", []).append(owner(by))
    return live


def release(hands: Hands, by: Json) -> None:
    """Let go of the pods whose labels the selector no longer means."""
    means = selector(by["spec"]["selector"])
    uid = by["metadata"]["uid"]
    for pod in owned(hands, PODS, by):
        if not means(pod["metadata"].get("labels") or {}) and active(pod):
            hands.change(pod, lambda live: _without(live, uid))


def _without(live: Json, uid: str) -> Json:
    live["metadata"]["ownerReferences"] = [
        one for one in live["metadata"]["ownerReferences"] if one["uid"] != uid
    ]
    return live


def phase(pod: Json) -> str:
    return str((pod.get("status") or {}).get("phase", ""))


def active(pod: Json) -> bool:
    """Neither ended nor on its way out."""
    gone = pod["metadata"].get("deletionTimestamp")
    return not gone and phase(pod) not in {"Succeeded", "Failed"}


def ready_since(pod: Json) -> str:
    """Return since when a pod is ready; empty: it is not."""
    for one in (pod.get("status") or {}).get("conditions") or []:
        if one["type"] == "Ready" and one["status"] == "True":
            return str(one.get("lastTransitionTime") or "?")
    return ""


def cost(pod: Json) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(COST, "0")
    return int(text) if text.lstrip("-").isdigit() else 0


def _backwards(text: str) -> tuple[int, ...]:
    return tuple(-ord(letter) for letter in text)


def first_to_go(pods: Iterable[Json]) -> list[Json]:
    """Return pods in the order in which a ReplicaSet removes them.

    As ``ActivePodsWithRanks`` of the real one: on no node before on one; Pending, Unknown, Running;
    not ready before ready; lower deletion cost; more of them on the same node; ready for a shorter
    time; more restarts; younger.
    """
    given = list(pods)
    places = [one["spec"].get("nodeName", "") for one in given]

    def rank(pod: Json) -> tuple[object, ...]:
        place = pod["spec"].get("nodeName", "")
        statuses = (pod.get("status") or {}).get("containerStatuses") or []
        restarts = max((one.get("restartCount", 0) for one in statuses), default=0)
        return (
            bool(place),
            {"Pending": 0, "Unknown": 1, "Running": 2}.get(phase(pod), 0),
            bool(ready_since(pod)),
            cost(pod),
            -places.count(place),
            _backwards(ready_since(pod)),
            -restarts,
            _backwards(pod["metadata"]["creationTimestamp"]),
        )

    return sorted(given, key=rank)


def template_hash(template: Json) -> str:
    """Return a short name for a template, the same for the same."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(_SAFE[byte % len(_SAFE)] for byte in digest[:10])


def from_template(template: Json, by: Json, name: Json, labels: Json | None = None) -> Json:
    """Return a pod of a template; ``name`` is its ``name`` or ``generateName``."""
    meta = copy.deepcopy(template.get("metadata") or {})
    meta |= {**name, "namespace": by["metadata"]["namespace"], "ownerReferences": [owner(by)]}
    meta["labels"] = {**(meta.get("labels") or {}), **(labels or {})}
    return {"metadata": meta, "spec": copy.deepcopy(template["spec"])}
