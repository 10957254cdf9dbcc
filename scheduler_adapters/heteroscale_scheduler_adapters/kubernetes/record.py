"""What we keep on an object that we scale: how many pods it is to have, and which steps are under way.

It stands in one annotation, so that a change of it is one write that fails if anybody was quicker. The
number of pods is written here first, and only then into the scale subresource: whoever finds the two
apart (after a crash) knows what to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.objects import part, text
from heteroscale_scheduler_adapters.kubernetes.resources import Object
from heteroscale_scheduler_adapters.port import GateWish, Launch

RECORD = names.PREFIX + "record"
"""Annotation of an object that we scale."""
REMEMBERED = 32
"""Steps that have started are remembered, so that asking for one again does not start it again."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One instance of a step, which gets the next of the object's pods (or groups of pods)."""

    instance: str
    nodes: tuple[str, ...] = ()
    """Where placement put its ranks."""
    group: str = ""
    gate: GateWish = field(default_factory=lambda: GateWish(open=True))


@dataclass(frozen=True, slots=True)
class Open:
    """The part of a step under way that this object gives."""

    cause: str
    size: int
    """Pods of the whole step, those of other objects included."""
    until: float
    """Seconds since 1970 at which it is taken back if it is not whole."""
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """See the module."""

    replicas: int
    """As it should be."""
    was: int
    """As it was before; equal to ``replicas`` once the scale subresource has been written."""
    steps: Mapping[str, Open] = field(default_factory=dict)
    done: tuple[str, ...] = ()
    """Steps that have started whole, oldest first."""
    leaving: Mapping[str, int] = field(default_factory=dict)
    """Instances that were told to end, and how many are to be there without them."""
    empty: float = 0.0
    """Since when there has been nothing; 0: there is something."""

    def opened(self, request: str, step: Open) -> Record:
        """Return it with a step under way; as it is, if it is known already."""
        if request in self.steps or request in self.done:
            return self
        more = self.replicas + len(step.seats)
        return replace(self, replicas=more, steps={**self.steps, request: step}, empty=0.0)

    def finished(self, request: str) -> Record:
        """Return it after a step has started whole."""
        if request not in self.steps:
            return self
        rest = {key: value for key, value in self.steps.items() if key != request}
        return replace(self, steps=rest, done=(*self.done, request)[-REMEMBERED:])

    def taken_back(self, request: str) -> Record:
        """Return it as if a step had never been."""
        if request not in self.steps:
            return self
        rest = {key: value for key, value in self.steps.items() if key != request}
        fewer = max(0, self.replicas - len(self.steps[request].seats))
        return replace(self, replicas=fewer, steps=rest)

    def left(self, instance: str) -> Record:
        """Return it with one instance fewer; as it is, if that one is leaving already."""
        if instance in self.leaving:
            return self
        fewer = max(0, self.replicas - 1)
        return replace(self, replicas=fewer, leaving={**self.leaving, instance: fewer})

    def gone(self, instances: set[str]) -> Record:
        """Return it without those that have left."""
        rest = {key: value for key, value in self.leaving.items() if key not in instances}
        return replace(self, leaving=rest) if len(rest) != len(self.leaving) else self

    def settled(self, replicas: int) -> Record:
        """Return it once the scale subresource says ``replicas``."""
        return replace(self, was=replicas) if replicas == self.replicas else self

    def dump(self) -> str:
        """Return it as the annotation has it."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)


def read_record(thing: Object) -> Record | None:
    """Return what an object's annotation says; None: nothing, or nothing that can be read."""
    try:
        said = json.loads(text(part(thing, "metadata", "annotations"), RECORD) or "null")
        return _record(said) if isinstance(said, dict) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _record(said: Mapping[str, Any]) -> Record:
    steps = {
        request: Open(
            str(one["cause"]),
            int(one["size"]),
            float(one["until"]),
            tuple(_seat(seat) for seat in one["seats"]),
        )
        for request, one in said.get("steps", {}).items()
    }
    return Record(
        int(said["replicas"]),
        int(said["was"]),
        steps,
        tuple(map(str, said.get("done", ()))),
        {key: int(value) for key, value in said.get("leaving", {}).items()},
        float(said.get("empty", 0.0)),
    )


def _seat(said: Mapping[str, Any]) -> Seat:
    gate = said.get("gate", {})
    wish = GateWish(bool(gate.get("open", True)), gate.get("reason", ""), gate.get("until"))
    return Seat(str(said["instance"]), tuple(said.get("nodes", ())), said.get("group", ""), wish)


def seat(launch: Launch) -> Seat:
    """Return the seat of a launch."""
    nodes = tuple(spot.node for spot in launch.ranks)
    return Seat(launch.instance_id, nodes, launch.group, launch.gate)
