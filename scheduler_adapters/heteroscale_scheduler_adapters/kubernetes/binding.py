"""Which pods of an object get which instances of a step. Equal lists give equal answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.leaving import ordinal, unit
from heteroscale_scheduler_adapters.kubernetes.marks import (
    STEP_SIZE,
    instance_of,
    lives,
    number,
    request_of,
    waits,
)
from heteroscale_scheduler_adapters.kubernetes.objects import labels, name, part, text
from heteroscale_scheduler_adapters.kubernetes.record import Record, Seat
from heteroscale_scheduler_adapters.kubernetes.resources import Object

HELD = names.PREFIX + "held"
"""Annotation of a pod that waited for its step when it was bound: without its gate it has been let go."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is one instance: a pod, or a group of pods."""

    key: str
    pods: tuple[Object, ...]
    """Rank 0 first."""
    size: int

    @property
    def whole(self) -> bool:
        """All its pods are there."""
        return len(self.pods) >= self.size

    @property
    def instance(self) -> str:
        """The instance it is bound to, or nothing."""
        return next((instance_of(pod) for pod in self.pods if instance_of(pod)), "")

    @property
    def bound(self) -> bool:
        """Whether all its pods are bound."""
        return all(instance_of(pod) for pod in self.pods)


@dataclass(frozen=True, slots=True)
class Binding:
    """A unit is to be this instance of that step; no seat: it came by itself and is adopted."""

    unit: Unit
    request: str
    seat: Seat | None


def units(pods: Iterable[Object]) -> list[Unit]:
    """Return the live units among an object's pods, the oldest first."""
    found: dict[str, list[Object]] = {}
    for pod in pods:
        if lives(pod):
            found.setdefault(unit(pod), []).append(pod)
    made = [
        Unit(key, tuple(sorted(group, key=rank_of)), max(map(_size, group)))
        for key, group in found.items()
    ]
    return sorted(made, key=_age)


def bindings(record: Record, there: Sequence[Unit]) -> list[Binding]:
    """Return what is to be bound: seats of open steps first, in the steps' order; the rest is adopted."""
    free = [one for one in there if not one.instance and one.whole]
    taken = {one.instance: one for one in there if one.instance}
    found = []
    for request, step in sorted(record.steps.items(), key=lambda item: (item[1].until, item[0])):
        for seat in step.seats:
            if (half := taken.get(seat.instance)) is not None:
                if not half.bound:
                    found.append(Binding(half, request, seat))
            elif free:
                found.append(Binding(free.pop(0), request, seat))
    return found + [Binding(one, "", None) for one in free]


def doubles(there: Sequence[Unit]) -> list[Unit]:
    """Return waiting units whose instance another unit has too; they are to be made free again."""
    seen: set[str] = set()
    found = []
    for one in sorted(there, key=lambda one: waits(one.pods[0])):
        if one.instance and one.instance in seen and all(map(waits, one.pods)):
            found.append(one)
        elif one.instance:
            seen.add(one.instance)
    return found


@dataclass(frozen=True, slots=True)
class Muster:
    """How many pods of a step are there."""

    there: int
    size: int
    committed: bool
    """Some have been let go already, so all are to be."""

    @property
    def whole(self) -> bool:
        """Whether all may start."""
        return self.committed or (self.size > 0 and self.there >= self.size)


def muster(request: str, pods: Iterable[Object]) -> Muster:
    """Count the pods of a step."""
    ours = [pod for pod in pods if request_of(pod) == request]
    live = {(instance_of(pod), labels(pod).get(names.RANK, "0")) for pod in ours if lives(pod)}
    size = max((int(number(pod, STEP_SIZE, 0)) for pod in ours), default=0)
    gone_on = any(
        not waits(pod) and bool(text(part(pod, "metadata", "annotations"), HELD)) for pod in ours
    )
    return Muster(len(live), size, gone_on)


def nodes_of(seat: Seat, rank: int) -> str:
    """Return the node that placement chose for a rank, or nothing."""
    return seat.nodes[rank] if rank < len(seat.nodes) else ""


def rank_of(pod: Object) -> int:
    """Return a pod's rank within its unit."""
    said = labels(pod).get(names.LWS_WORKER) or labels(pod).get(names.RANK) or "0"
    return int(said) if said.isdigit() else 0


def _size(pod: Object) -> int:
    notes: Mapping[str, object] = part(pod, "metadata", "annotations")
    if names.LWS_NAME not in labels(pod):
        return 1
    said = str(notes.get(names.LWS_SIZE, "1"))
    return int(said) if said.isdigit() else 1


def _age(one: Unit) -> tuple[str, int, str]:
    first = one.pods[0]
    return text(first, "metadata", "creationTimestamp"), ordinal(first), name(first)
