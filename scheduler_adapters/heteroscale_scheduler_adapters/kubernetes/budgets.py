"""Disruption budgets and quotas, as far as they say what may leave and how much may be held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from heteroscale_scheduler_adapters.kubernetes.objects import (
    count,
    items,
    name,
    namespace,
    part,
    text,
)
from heteroscale_scheduler_adapters.kubernetes.pods import SeenPod
from heteroscale_scheduler_adapters.kubernetes.resources import Object
from heteroscale_scheduler_adapters.port import Quota


@dataclass(frozen=True, slots=True)
class Budget:
    """One disruption budget."""

    title: str
    """``namespace/name``."""
    namespace: str
    selector: Object | None
    """None: it selects nothing; empty: all pods of the namespace."""
    allowed: int
    """How many pods may leave now."""


def budget(thing: Object) -> Budget:
    """Read a disruption budget; one whose controller has not looked yet allows nothing."""
    spec, status = part(thing, "spec"), part(thing, "status")
    selector = spec.get("selector")
    observed, generation = (
        status.get("observedGeneration"),
        part(thing, "metadata").get("generation"),
    )
    stale = isinstance(observed, int) and isinstance(generation, int) and observed < generation
    allowed = status.get("disruptionsAllowed")
    return Budget(
        f"{namespace(thing)}/{name(thing)}",
        namespace(thing),
        selector if isinstance(selector, dict) else None,
        allowed if isinstance(allowed, int) and not stale else 0,
    )


def kept_by(pods: Sequence[SeenPod], budgets: Iterable[Budget]) -> str:
    """Return which budget forbids that an instance leaves now, in words; empty: none does."""
    for one in budgets:
        covered = sum(
            pod.namespace == one.namespace and selects(one.selector, pod.labels) for pod in pods
        )
        if covered > one.allowed:
            return f"disruption budget {one.title} lets {one.allowed} of its pods go now"
    return ""


def selects(selector: Object | None, carried: Mapping[str, str]) -> bool:
    """Return whether a label selector selects what carries these labels."""
    if selector is None:
        return False
    if any(carried.get(key) != value for key, value in part(selector, "matchLabels").items()):
        return False
    return all(_holds(one, carried) for one in items(selector, "matchExpressions"))


def _holds(rule: Object, carried: Mapping[str, str]) -> bool:
    key, operator = text(rule, "key"), text(rule, "operator")
    values = rule.get("values")
    listed = carried.get(key) in (values if isinstance(values, list) else [])
    return {
        "In": key in carried and listed,
        "NotIn": not listed,
        "Exists": key in carried,
        "DoesNotExist": key not in carried,
    }.get(operator, False)


def limit_of(thing: Object, resources: Iterable[str]) -> int | None:
    """Return how many GPUs a ResourceQuota lets a namespace's pods ask for; None: it does not say.

    One that counts only some of the pods (scopes) says nothing of ours.
    """
    spec = part(thing, "spec")
    if items(spec, "scopeSelector", "matchExpressions") or spec.get("scopes"):
        return None
    hard = part(spec, "hard")
    told = [hard[key] for one in resources for key in (f"requests.{one}",) if key in hard]
    return sum(map(count, told)) if told else None


def quotas(
    limits: Mapping[str, Sequence[int]], spaces: Iterable[str], foreign: Mapping[str, int]
) -> tuple[Quota, ...]:
    """Return what may be held in all by us.

    Args:
        limits: The limits of each namespace.
        spaces: Namespaces that we launch in.
        foreign: GPUs that others ask for there.

    """
    wanted = sorted(set(spaces))
    if not wanted or any(not limits.get(space) for space in wanted):
        return ()  # one without a limit: there is none in all
    free = sum(max(0, min(limits[space]) - foreign.get(space, 0)) for space in wanted)
    return (Quota("", free),)
