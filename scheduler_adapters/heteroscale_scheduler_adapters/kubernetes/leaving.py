"""Which pod of an object a controller takes away next, and so whether an instance can leave now.

A ReplicaSet ranks its pods: on no node before on one, pending before running, not ready before ready, low
deletion cost before high. A StatefulSet and a LeaderWorkerSet take the highest ordinal, whatever we wish.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.marks import OWNER, instance_of, lives
from heteroscale_scheduler_adapters.kubernetes.objects import condition, labels, name, part, text
from heteroscale_scheduler_adapters.kubernetes.resources import Object
from heteroscale_scheduler_adapters.kubernetes.templates import ORDINALS
from heteroscale_scheduler_adapters.port import Turn

_ORDINAL = re.compile(r"-(\d+)$")
_PHASES = {"Pending": 0, "Unknown": 1}


def unit(pod: Object) -> str:
    """Return what a pod comes and goes with: its group, or itself."""
    group = labels(pod).get(names.LWS_GROUP)
    return f"group {group}" if group is not None and names.LWS_NAME in labels(pod) else name(pod)


def ordinal(pod: Object) -> int:
    """Return a pod's, or its group's, ordinal; -1: it has none."""
    group = labels(pod).get(names.LWS_GROUP, "")
    if group.isdigit() and names.LWS_NAME in labels(pod):
        return int(group)
    found = _ORDINAL.search(name(pod))
    return int(found[1]) if found else -1


def kept(kind: str, pods: Iterable[Object]) -> Mapping[str, str]:
    """Return the instances of one object that cannot leave now, and why.

    Args:
        kind: Of the object that is scaled: ``Deployment``, ``StatefulSet`` …
        pods: All of the object's pods.

    """
    there = [pod for pod in pods if lives(pod)]
    if kind in ORDINALS:
        return _by_ordinal(kind, there)
    if kind in ("Deployment", "ReplicaSet"):
        return _by_rank(there)
    return {}


def turn(owner: str, pod: Object) -> Turn | None:
    """Return the place of a pod, or its group, among those of its object; None: it may leave at any time.

    Args:
        owner: The object, as its pods name it: ``apps/v1 StatefulSet chat-decode``.
        pod: One of its pods.

    """
    kind = owner.split()[1] if " " in owner else ""
    number = ordinal(pod)
    return Turn(owner, number) if kind in ORDINALS and number >= 0 else None


def owner_kind(pod: Object) -> str:
    """Return the kind of the object that a pod's number is set by; ``Pod`` if by none."""
    words = text(part(pod, "metadata", "annotations"), OWNER).split()
    return words[1] if len(words) > 1 else "Pod"


def _by_ordinal(kind: str, pods: Sequence[Object]) -> dict[str, str]:
    staying = [pod for pod in pods if not _leaves(pod)]
    last = max((ordinal(pod) for pod in staying), default=-1)
    first = next((instance_of(pod) or name(pod) for pod in staying if ordinal(pod) == last), "")
    why = f"a {kind} gives up its highest ordinal first: {first} ({last})"
    return {instance_of(pod): why for pod in staying if ordinal(pod) != last and instance_of(pod)}


def _by_rank(pods: Sequence[Object]) -> dict[str, str]:
    staying = sorted((pod for pod in pods if not _leaves(pod)), key=_rank)
    if not staying:
        return {}
    first = staying[0]
    why = f"its ReplicaSet would end {name(first)} first, which is {_state(first)}"
    return {
        instance_of(pod): why for pod in staying if instance_of(pod) and _rank(pod) > _rank(first)
    }


def _rank(pod: Object) -> tuple[int, int, int]:
    assigned = int(bool(text(pod, "spec", "nodeName")))
    phase = _PHASES.get(text(pod, "status", "phase") or "Pending", 2)
    return assigned, phase, int(condition(pod, "Ready").get("status") == "True")


def _state(pod: Object) -> str:
    assigned, phase, _ = _rank(pod)
    if not assigned:
        return "on no node yet"
    return "not ready" if phase > 1 else "not running"


def _leaves(pod: Object) -> bool:
    return bool(text(part(pod, "metadata", "annotations"), names.STOPPING))
