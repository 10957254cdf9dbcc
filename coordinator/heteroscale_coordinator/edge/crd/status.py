"""What an object is told of its service (pure). Unknown is left out, never zero."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core.model import STARTING_STATES, Decision, Service
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.crd import words
from heteroscale_coordinator.edge.crd.objects import Told
from heteroscale_coordinator.edge.operator_wire import condition as standing

MOST_TEXT = 1_000
SHORT_TEXT = 160
_COLUMNS = {
    InstanceState.IN_SERVICE: "inService",
    InstanceState.WITHDRAWN: "withdrawn",
    InstanceState.DRAINING: "draining",
    InstanceState.UNKNOWN: "unknown",
    **dict.fromkeys(STARTING_STATES, "pending"),
}
_UNPLACED = frozenset({"placement", "shortage", "backoff"})
"""What binds a decision whose instances found no place."""


class Condition(NamedTuple):
    """One condition, as Kubernetes words them: ``True``, ``False`` or ``Unknown``, a word, a sentence."""

    kind: str
    status: str
    reason: str
    message: str


def accepted(reason: str = "Valid", message: str = "") -> Condition:
    """Return whether the object is in force: only with the reason ``Valid`` it is."""
    status = "True" if reason == "Valid" else "Unknown" if reason == "Waiting" else "False"
    return Condition(words.ACCEPTED, status, reason, message)


def status_of(
    told: Told, taken: Condition, service: Service | None, last: Decision | None, state: State
) -> dict[str, Any]:
    """Return the whole status. ``service`` is None where the object owns none."""
    conditions = [taken]
    result: dict[str, Any] = {"observedGeneration": told.generation}
    if service is not None:
        counts = _counts(service, state)
        conditions += [
            _active(service, state),
            _placed(service, counts, last),
            _paused(service),
        ]
        result |= _shown(service, counts)
        if last is not None:
            result["lastDecision"] = _decision(last)
            result["reason"] = _cut(last.reason, SHORT_TEXT)
    if taken.status != "True":
        result["reason"] = _cut(taken.message, SHORT_TEXT)
    result["conditions"] = [_condition(one, told, state.turned_at) for one in conditions]
    return result


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that makes ``after`` of ``before``; empty: they are the same."""
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if inner := difference(old, value):
                patch[name] = inner
        elif name not in before or old != value:
            patch[name] = value
    return patch


def only_words(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether nothing but sentences differ: these may wait for a while."""
    return not difference(_wordless(before), _wordless(after))


def _wordless(status: Mapping[str, Any]) -> dict[str, Any]:
    last = dict(status.get("lastDecision") or {})
    for name in ("reason", "time", "boundBy"):
        last.pop(name, None)
    conditions = [
        {name: value for name, value in one.items() if name != "message"}
        for one in status.get("conditions") or ()
    ]
    kept = {name: value for name, value in status.items() if name != "reason"}
    return kept | {"lastDecision": last, "conditions": conditions}


def timestamp(at: float) -> str:
    """Return a time of Kubernetes: whole seconds, UTC."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _counts(service: Service, state: State) -> dict[Role, Counter[str]]:
    counts: dict[Role, Counter[str]] = {role: Counter() for role in service.spec.roles}
    for one in state.of_service(service.name):
        if one.state in _COLUMNS and one.role in counts:
            counts[one.role][_COLUMNS[one.state]] += 1
    return counts


def _wanted(service: Service, role: Role) -> int:
    return service.memory.wanted.get(role, service.spec.roles[role].min)


def _shown(service: Service, counts: Mapping[Role, Counter[str]]) -> dict[str, Any]:
    roles = {
        role.value: {
            "wanted": _wanted(service, role),
            "min": service.spec.roles[role].min,
            "max": service.spec.roles[role].max,
            **{column: count[column] for column in sorted(set(_COLUMNS.values()))},
        }
        for role, count in counts.items()
    }
    result: dict[str, Any] = {"roles": roles}
    prefill = Role.ATTENTION if service.spec.split else Role.PREFILL
    for column, role in (("prefill", prefill), ("decode", service.spec.sizing_role)):
        if role in counts:
            result[column] = f"{counts[role]['inService']}/{_wanted(service, role)}"
    if prefill in counts and (decodes := counts[Role.DECODE]["inService"]):
        result["ratio"] = round(counts[prefill]["inService"] / decodes, 3)
    return result


def _decision(last: Decision) -> dict[str, Any]:
    told: dict[str, Any] = {
        "action": last.action.value,
        "reason": _cut(last.reason, MOST_TEXT),
        "time": timestamp(last.at),
    }
    if last.bound_by:
        told["boundBy"] = last.bound_by
    if delta := {role.value: count for role, count in last.delta.items() if count}:
        told["delta"] = delta
    return told


def _active(service: Service, state: State) -> Condition:
    reason, message = _inactive(service, state)
    if reason:
        return Condition(words.ACTIVE, "False", reason, message)
    return Condition(words.ACTIVE, "True", "Acting", "decisions are carried out")


def _inactive(service: Service, state: State) -> tuple[str, str]:
    spec, stands = service.spec, standing(service, state)
    roles = ", ".join(sorted(role.value for role in spec.learning))
    why = (
        (service.deleting, "Deleting", "its instances are drained"),
        (bool(service.quarantine), "Quarantined", service.quarantine),
        (bool(service.paused), "Paused", service.paused),
        (bool(roles), "Learning", f"the target of {roles} is being learned: it only advises"),
        (spec.advisory, "Advisory", "advisory: true: it decides, explains, and sends no command"),
        (spec.external, "External", "KEDA or an HPA moves the instances, by the counts asked for"),
        (stands == "partition", "Partition", "many nodes are silent at once: nothing is replaced"),
        (stands == "covering", "Covering", "some of its nodes have not been heard yet"),
    )
    return next(((reason, text) for true, reason, text in why if true), ("", ""))


def _placed(
    service: Service, counts: Mapping[Role, Counter[str]], last: Decision | None
) -> Condition:
    if service.spec.hands_off:
        return Condition(words.PLACED, "Unknown", "HandsOff", "others start its instances")
    lacking = []
    for role, count in counts.items():
        there = count["inService"] + count["pending"] + count["unknown"]
        if there < _wanted(service, role):
            lacking.append(f"{role.value} {there} of {_wanted(service, role)}")
    if not lacking:
        return Condition(words.PLACED, "True", "AllPlaced", "every instance wanted has its place")
    bound = last is not None and last.bound_by in _UNPLACED
    why = f"; {last.reason}" if last is not None and bound else ""
    reason = "NoPlace" if bound else "Missing"
    return Condition(words.PLACED, "False", reason, _cut(", ".join(lacking) + why, MOST_TEXT))


def _paused(service: Service) -> Condition:
    if service.paused:
        return Condition(words.PAUSED, "True", "ByOperator", service.paused)
    return Condition(words.PAUSED, "False", "NotPaused", "")


def _condition(one: Condition, told: Told, now: float) -> dict[str, Any]:
    """Return it as the API has it; its time is when the *status* last changed."""
    since = timestamp(now)
    for old in told.status.get("conditions") or ():
        if old.get("type") == one.kind and old.get("status") == one.status:
            since = old.get("lastTransitionTime") or since
    return {
        "type": one.kind,
        "status": one.status,
        "reason": one.reason,
        "message": one.message,
        "observedGeneration": told.generation,
        "lastTransitionTime": since,
    }


def _cut(text: str, most: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"
