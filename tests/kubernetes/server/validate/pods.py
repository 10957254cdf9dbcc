"""A pod's specification: what it must have, and what of it may change."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.kubernetes.server.errors import Cause, Json, required, unsupported, wrong
from tests.kubernetes.server.validate import names
from tests.kubernetes.server.validate.quantities import RULE, amount

_UPDATE = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions "
    "to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
    "previously negative)"
)
_OPERATORS = ("DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn")
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")


def spec_causes(spec: Json, path: str) -> Iterator[Cause]:
    """Yield what is wrong with a pod's specification at ``path``."""
    containers = spec.get("containers") or []
    if not containers:
        yield required(f"{path}.containers")
    seen: set[str] = set()
    for where in ("initContainers", "containers"):
        for i, one in enumerate(spec.get(where) or []):
            yield from _container(one, f"{path}.{where}[{i}]", seen)
    if spec.get("restartPolicy", "Always") not in {"Always", "OnFailure", "Never"}:
        yield unsupported(
            f"{path}.restartPolicy", spec["restartPolicy"], ("Always", "OnFailure", "Never")
        )
    yield from _gates(spec, path)
    yield from _mounts(spec, path)
    for i, gate in enumerate(spec.get("readinessGates") or []):
        yield from names.qualified(
            f"{path}.readinessGates[{i}].conditionType", gate.get("conditionType", "")
        )
    yield from names.labels(f"{path}.nodeSelector", spec.get("nodeSelector") or {})
    yield from tolerations(spec.get("tolerations") or [], f"{path}.tolerations")
    yield from _affinity(spec.get("affinity") or {}, f"{path}.affinity")


def _container(one: Json, path: str, seen: set[str]) -> Iterator[Cause]:
    name = one.get("name", "")
    if not name:
        yield required(f"{path}.name")
    elif not names.is_label(name):
        yield wrong(f"{path}.name", name, names.LABEL_RULE)
    if name in seen:
        yield Cause(f"{path}.name", f'Duplicate value: "{name}"', "FieldValueDuplicate")
    seen.add(name)
    if not one.get("image"):
        yield required(f"{path}.image")
    for i, port in enumerate(one.get("ports") or []):
        number = port.get("containerPort") or 0
        if not 0 < number < 65536:
            yield wrong(
                f"{path}.ports[{i}].containerPort", number, "must be between 1 and 65535, inclusive"
            )
    yield from _resources(one.get("resources") or {}, f"{path}.resources")


def _resources(resources: Json, path: str) -> Iterator[Cause]:
    figures: dict[str, dict[str, Decimal]] = {"limits": {}, "requests": {}}
    for group, found in figures.items():
        for name, text in (resources.get(group) or {}).items():
            where = f"{path}.{group}[{name}]"
            try:
                number = amount(text)
            except ValueError:
                yield wrong(where, text, RULE)
                continue
            found[name] = number
            if number < 0:
                yield wrong(where, text, "must be greater than or equal to 0")
            elif _extended(name) and number != number.to_integral():
                yield wrong(where, text, "must be an integer")
    limits, requests = figures["limits"], figures["requests"]
    for name, number in requests.items():
        where = f"{path}.requests"
        shown = str((resources.get("requests") or {})[name])
        if _extended(name) and name not in limits:
            yield required(f"{path}.limits", "Limit must be set for non overcommitable resources")
        elif _extended(name) and number != limits[name]:
            yield wrong(where, shown, f"must be equal to {name} limit of {limits[name]}")
        elif name in limits and number > limits[name]:
            limit = (resources.get("limits") or {})[name]
            yield wrong(where, shown, f"must be less than or equal to {name} limit of {limit}")


def _extended(name: str) -> bool:
    return "/" in name and not name.startswith("requests.") and "kubernetes.io/" not in name


def _gates(spec: Json, path: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for i, gate in enumerate(spec.get("schedulingGates") or []):
        name = gate.get("name", "")
        yield from names.qualified(f"{path}.schedulingGates[{i}]", name)
        if name in seen:
            yield Cause(
                f"{path}.schedulingGates[{i}]", f'Duplicate value: {{"name":"{name}"}}',
                "FieldValueDuplicate",
            )  # fmt: skip
        seen.add(name)
    if seen and spec.get("nodeName"):
        yield Cause(
            f"{path}.nodeName",
            "Forbidden: nodeName cannot be set until all schedulingGates have been cleared",
            "FieldValueForbidden",
        )  # fmt: skip


def _mounts(spec: Json, path: str) -> Iterator[Cause]:
    volumes = {one.get("name") for one in spec.get("volumes") or []}
    for where in ("initContainers", "containers"):
        for i, one in enumerate(spec.get(where) or []):
            for j, mount in enumerate(one.get("volumeMounts") or []):
                if mount.get("name") not in volumes:
                    yield Cause(
                        f"{path}.{where}[{i}].volumeMounts[{j}].name",
                        f'Not found: "{mount.get("name", "")}"',
                        "FieldValueNotFound",
                    )


def tolerations(given: list[Json], path: str) -> Iterator[Cause]:
    for i, one in enumerate(given):
        operator = one.get("operator", "Equal")
        if operator not in {"Equal", "Exists"}:
            yield unsupported(f"{path}[{i}].operator", operator, ("Equal", "Exists"))
        if not one.get("key") and operator != "Exists":
            yield wrong(
                f"{path}[{i}].operator", operator,
                "operator must be Exists when `key` is empty, "
                'which means "match all values and all keys"',
            )  # fmt: skip
        if operator == "Exists" and one.get("value"):
            yield wrong(
                f"{path}[{i}].operator",
                one["value"],
                "value must be empty when `operator` is 'Exists'",
            )
        if one.get("effect") and one["effect"] not in _EFFECTS:
            yield unsupported(f"{path}[{i}].effect", one["effect"], _EFFECTS)


def _affinity(affinity: Json, path: str) -> Iterator[Cause]:
    node = affinity.get("nodeAffinity") or {}
    hard = node.get("requiredDuringSchedulingIgnoredDuringExecution")
    if hard is None:
        return
    where = f"{path}.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
    terms = hard.get("nodeSelectorTerms") or []
    if not terms:
        yield required(where, "must have at least one node selector term")
    for i, term in enumerate(terms):
        for j, one in enumerate(term.get("matchExpressions") or []):
            at = f"{where}[{i}].matchExpressions[{j}]"
            operator, values = one.get("operator"), one.get("values") or []
            if operator not in _OPERATORS:
                yield wrong(f"{at}.operator", operator, "not a valid selector operator")
            elif operator in {"In", "NotIn"} and not values:
                yield required(
                    f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"
                )
            elif operator in {"Exists", "DoesNotExist"} and values:
                yield Cause(
                    f"{at}.values",
                    "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    "FieldValueForbidden",
                )  # fmt: skip


def update_causes(new: Json, old: Json) -> Iterator[Cause]:
    """Yield what an update of a pod changes that it may not."""
    gated = bool(old.get("schedulingGates"))
    had = {gate["name"] for gate in old.get("schedulingGates") or []}
    for i, gate in enumerate(new.get("schedulingGates") or []):
        if gate["name"] not in had:
            yield Cause(
                f"spec.schedulingGates[{i}]",
                "Forbidden: only deletion is allowed, but found new scheduling gate "
                f"'{gate['name']}'",
                "FieldValueForbidden",
            )
    mended = copy.deepcopy(new)
    mended["schedulingGates"] = old.get("schedulingGates")
    for key in ("containers", "initContainers"):
        for one, was in zip(mended.get(key) or [], old.get(key) or [], strict=False):
            one["image"] = was.get("image")
    if mended.get("activeDeadlineSeconds") is not None:
        mended["activeDeadlineSeconds"] = old.get("activeDeadlineSeconds")
    added = mended.get("tolerations") or []
    if all(one in added for one in old.get("tolerations") or []):
        mended["tolerations"] = old.get("tolerations")
    if gated:
        yield from _narrowed(mended, old)
    if _bare(mended) != _bare(old):
        yield Cause("spec", f"Forbidden: {_UPDATE}", "FieldValueForbidden")


def _bare(spec: Json) -> Json:
    return {key: value for key, value in spec.items() if value is not None and value != []}


def _narrowed(new: Json, old: Json) -> Iterator[Cause]:
    """While it is gated, a pod's node selector and affinity may become narrower."""
    had = old.get("nodeSelector") or {}
    if any((new.get("nodeSelector") or {}).get(key) != value for key, value in had.items()):
        yield wrong(
            "spec.nodeSelector", new.get("nodeSelector"),
            "only additions are allowed (no mutations or deletions)",
        )  # fmt: skip
    new["nodeSelector"] = old.get("nodeSelector")
    if (new.get("affinity") or {}) == (old.get("affinity") or {}):
        return
    before, after = _terms(old), _terms(new)
    if before and (
        len(before) != len(after)
        or not all(_keeps(was, now) for was, now in zip(before, after, strict=True))
    ):
        yield Cause(
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
            "Invalid value: only additions are allowed (no mutations or deletions)",
        )
    new["affinity"] = old.get("affinity")


def _terms(spec: Json) -> list[Json]:
    node: Any = ((spec.get("affinity") or {}).get("nodeAffinity")) or {}
    hard = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    return list(hard.get("nodeSelectorTerms") or [])


def _keeps(was: Json, now: Json) -> bool:
    return all(
        list(now.get(key) or [])[: len(was.get(key) or [])] == list(was.get(key) or [])
        for key in ("matchExpressions", "matchFields")
    )
