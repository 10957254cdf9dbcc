"""What is written on pods: whose they are, which step they wait for, whether traffic may reach them.

All functions return parts of a merge patch; a None takes a label or an annotation away.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.objects import condition, items, labels, part, text
from heteroscale_scheduler_adapters.kubernetes.resources import Object
from heteroscale_scheduler_adapters.kubernetes.templates import GateRule
from heteroscale_scheduler_adapters.port import GateWish

OBJECT = names.PREFIX + "object"
"""Label of pods of an object that we made: its name."""
OWNER = names.PREFIX + "owner"
"""Annotation: the object that is scaled, ``apps/v1 Deployment llm/chat``."""
STEP_SIZE = names.PREFIX + "step-size"
"""Annotation: how many pods the step has that this one waits for."""
STEP_UNTIL = names.PREFIX + "step-until"
"""Annotation: seconds since 1970 at which the step is taken back if it is not whole."""
ADOPTED = "adopted"
"""Value of the request label where an object's controller made the pod by itself."""
GOES_FIRST = "-2147483647"
_OVER = ("Succeeded", "Failed")

Marks = dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Identity:
    """Of which instance a pod is, and of which step."""

    instance: str
    request: str
    rank: int = 0
    ranks: int = 1
    group: str = ""
    cause: str = ""
    size: int = 1
    until: float = 0.0
    owner: str = ""


def identity_marks(who: Identity) -> tuple[Marks, Marks]:
    """Return labels and annotations that bind a pod to its instance."""
    found: Marks = {
        names.INSTANCE: names.label_value(who.instance),
        names.REQUEST: names.label_value(who.request),
        names.RANK: str(who.rank),
        names.RANKS: str(who.ranks),
    }
    notes: Marks = {
        names.INSTANCE: who.instance,
        names.REQUEST: who.request,
        STEP_SIZE: str(who.size),
        STEP_UNTIL: f"{who.until:.3f}",
    }
    if who.group:
        found[names.GROUP], notes[names.GROUP] = names.label_value(who.group), who.group
    if who.cause:
        notes[names.CAUSE] = who.cause
    if who.owner:
        notes[OWNER] = who.owner
    return found, notes


def gate_marks(wish: GateWish, rule: GateRule) -> tuple[Marks, Marks]:
    """Return labels and annotations that say and do what is wished of a pod's traffic."""
    found: Marks = {names.GATE: names.OPEN if wish.open else names.CLOSED}
    for key, value in rule.labels.items():
        found[key] = value if wish.open else None
    until = None if wish.until is None else repr(wish.until)
    return found, {names.GATE_REASON: wish.reason or None, names.GATE_UNTIL: until}


def declares_readiness(pod: Object) -> bool:
    """Return whether a pod is Ready only while our condition is True."""
    gates = items(pod, "spec", "readinessGates")
    return any(one.get("conditionType") == names.TRAFFIC for one in gates)


def traffic_condition(pod: Object, wish: GateWish, now: float) -> Object | None:
    """Return the status patch that lets a pod's readiness follow the wish; None: it does already."""
    wanted = "True" if wish.open else "False"
    if not declares_readiness(pod) or condition(pod, names.TRAFFIC).get("status") == wanted:
        return None
    said = {
        "type": names.TRAFFIC,
        "status": wanted,
        "reason": "Open" if wish.open else "Withdrawn",
        "message": wish.reason,
        "lastTransitionTime": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return {"status": {"conditions": [said]}}


def wish_of(pod: Object) -> GateWish:
    """Return what was last wished of a pod's traffic."""
    notes = part(pod, "metadata", "annotations")
    try:
        until = float(text(notes, names.GATE_UNTIL))
    except ValueError:
        until = None
    closed = labels(pod).get(names.GATE) == names.CLOSED
    if not closed:
        return GateWish(open=True)
    return GateWish(open=False, reason=text(notes, names.GATE_REASON), until=until)


def waits(pod: Object) -> bool:
    """Return whether a pod is held back by our scheduling gate."""
    return any(one.get("name") == names.STEP_GATE for one in items(pod, "spec", "schedulingGates"))


def ungated(pod: Object) -> Object:
    """Return the patch that takes our scheduling gate from a pod, and leaves others' there."""
    rest = [
        one for one in items(pod, "spec", "schedulingGates") if one.get("name") != names.STEP_GATE
    ]
    return {
        "metadata": {"resourceVersion": text(pod, "metadata", "resourceVersion")},
        "spec": {"schedulingGates": rest or None},
    }


def lives(pod: Object) -> bool:
    """Return whether a pod is neither over nor told to end."""
    if part(pod, "metadata").get("deletionTimestamp"):
        return False
    return text(pod, "status", "phase") not in _OVER


def instance_of(pod: Object) -> str:
    """Return the instance that a pod is bound to, or nothing."""
    if names.INSTANCE not in labels(pod):
        return ""
    return text(part(pod, "metadata", "annotations"), names.INSTANCE) or labels(pod)[names.INSTANCE]


def request_of(pod: Object) -> str:
    """Return the step that a pod was launched by, or nothing."""
    if names.REQUEST not in labels(pod):
        return ""
    return text(part(pod, "metadata", "annotations"), names.REQUEST) or labels(pod)[names.REQUEST]


def number(pod: Object, key: str, otherwise: float) -> float:
    """Return the number that an annotation of a pod says."""
    try:
        return float(text(part(pod, "metadata", "annotations"), key))
    except ValueError:
        return otherwise
