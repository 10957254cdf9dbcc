"""From a node as the cluster has it to the port's node."""

from __future__ import annotations

from dataclasses import dataclass, replace

from heteroscale_scheduler_adapters.kubernetes.gpus import (
    SHARED,
    UNKNOWN,
    mig_of,
    resource_of,
    type_of,
)
from heteroscale_scheduler_adapters.kubernetes.objects import (
    condition,
    items,
    labels,
    name,
    part,
    text,
)
from heteroscale_scheduler_adapters.kubernetes.resources import Object
from heteroscale_scheduler_adapters.kubernetes.settings import KubernetesSettings
from heteroscale_scheduler_adapters.port import Gpu, Holding, Node, Taint

SYSTEM = "node.kubernetes.io/"
"""Taints of this prefix follow conditions, which `closed` tells; nobody tolerates or means them."""
_PRESSURES = {
    "MemoryPressure": "short of memory",
    "DiskPressure": "short of disk space",
    "PIDPressure": "short of process ids",
    "NetworkUnavailable": "its network is not set up",
}


@dataclass(frozen=True, slots=True)
class SeenNode:
    """A node without what stands on it, and what an operator should know of its GPUs."""

    node: Node
    gpus: int
    """Allocatable; a kubelet that has just started tells fewer than there are, or none."""
    type: str
    vendor: str
    known: bool
    """It has GPUs, or a label says so."""
    notes: tuple[str, ...] = ()


def seen_node(thing: Object, settings: KubernetesSettings) -> SeenNode:
    """Read a node."""
    allocatable = part(thing, "status", "allocatable")
    resource, number = resource_of(allocatable, settings.gpus)
    kind = type_of(thing, settings.gpus)
    topology, sources = _topology(thing, settings)
    closed = _closed(thing)
    if not number and kind != UNKNOWN:
        closed = "; ".join(
            filter(None, (closed, "none of its GPUs can be had: no device plugin tells any"))
        )
    bare = Node(
        name(thing),
        (),
        topology=topology,
        topology_sources=sources,
        labels=labels(thing),
        taints=_taints(thing, settings),
        closed=closed,
        address=_address(thing),
    )
    vendor = settings.gpus.resources.get(resource, "")
    known = bool(number) or kind != UNKNOWN
    return SeenNode(
        bare, number, kind, vendor, known, _notes(thing, resource, number, kind, settings)
    )


def with_holdings(seen: SeenNode, holdings: tuple[Holding, ...]) -> Node:
    """Return the node with what is held, and its GPUs: what is held is there, told or not."""
    number = max(seen.gpus, sum(one.gpus for one in holdings))
    gpus = tuple(Gpu(index, seen.type, seen.vendor) for index in range(number))
    return replace(seen.node, gpus=gpus, holdings=holdings)


def _topology(thing: Object, settings: KubernetesSettings) -> tuple[dict[str, str], dict[str, str]]:
    carried = labels(thing)
    found: dict[str, str] = {}
    sources: dict[str, str] = {}
    for level, keys in settings.levels().items():
        for key in keys:
            if carried.get(key):
                found[level] = carried[key]
                sources[level] = f"label {key}"
                break
    return found, sources


def _taints(thing: Object, settings: KubernetesSettings) -> tuple[Taint, ...]:
    told = [
        Taint(text(one, "key"), text(one, "value"), text(one, "effect"))
        for one in items(thing, "spec", "taints")
    ]
    # A taint of the GPUs' own name keeps away who wants none; our templates tolerate it.
    return tuple(
        one
        for one in told
        if not one.key.startswith(SYSTEM) and one.key not in settings.gpus.resources
    )


def _closed(thing: Object) -> str:
    why: list[str] = []
    if text(thing, "metadata", "deletionTimestamp"):
        why.append("being deleted")
    if part(thing, "spec").get("unschedulable") is True:
        why.append("cordoned")
    ready = condition(thing, "Ready")
    if ready.get("status") != "True":
        said = text(ready, "message") or text(ready, "reason")
        why.append(f"not ready: {said}" if said else "not ready")
    for kind, words in _PRESSURES.items():
        if condition(thing, kind).get("status") == "True":
            why.append(words)
    return "; ".join(why)


def _address(thing: Object) -> str:
    told = {text(one, "type"): text(one, "address") for one in items(thing, "status", "addresses")}
    return told.get("InternalIP") or told.get("Hostname") or ""


def _notes(
    thing: Object, resource: str, number: int, kind: str, settings: KubernetesSettings
) -> tuple[str, ...]:
    where = f"node {name(thing)}"
    found: list[str] = []
    slices = mig_of(part(thing, "status", "allocatable"))
    if slices:
        told = ", ".join(f"{count} of {key}" for key, count in sorted(slices.items()))
        found.append(f"{where}: slices of GPUs (MIG) are not used: {told}")
    _, there = resource_of(part(thing, "status", "capacity"), settings.gpus)
    if number < there:
        found.append(
            f"{where}: {there - number} of {there} GPUs are not healthy ({resource or 'none is'})"
        )
    if number and kind == UNKNOWN:
        keys = ", ".join(settings.gpus.type_labels[:1]) or "none is configured"
        found.append(f"{where}: no label tells the type of its {number} GPUs ({keys})")
    carried = labels(thing)
    if any(carried.get(key, "").endswith(SHARED) for key in settings.gpus.type_labels):
        found.append(
            f"{where}: its {number} GPUs are shares, of which several are one GPU (time-slicing)"
        )
    return tuple(found)
