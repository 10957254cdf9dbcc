"""Shapes: what nodes that look alike to placement have in common.

A domain of hundreds of nodes has a few dozen shapes. Placement works on shapes with counts, and takes
the concrete nodes last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from heteroscale_coordinator.core.placement.kind import Kind, Terms
from heteroscale_coordinator.core.topology import SubgroupClass

Free = tuple[tuple[str, int], ...]
"""Free GPUs by type, in the order of the types' names."""

Strain = tuple[SubgroupClass, Terms, tuple[str, ...]]
"""A shape without its numbers: class, terms, types that have a GPU free."""


class Choice(NamedTuple):
    """A GPU type of a node on which one rank of a kind fits. The smallest is the best."""

    shunned: bool
    """The node would rather not take it."""
    preference: int
    gpu_type: str
    left_over: int
    """GPUs of the type that the rank leaves free on the node."""


class Shape:
    """One object for each shape of a registry, so that shapes are compared and hashed by identity."""

    __slots__ = (
        "_choices",
        "_joint",
        "_less",
        "_registry",
        "_room",
        "free",
        "gpus",
        "strain",
        "subgroup",
        "terms",
    )

    def __init__(self, registry: Shapes, subgroup: SubgroupClass, terms: Terms, free: Free) -> None:
        self._registry = registry
        self._less: dict[tuple[str, int], Shape] = {}
        self._choices: dict[Kind, tuple[Choice, ...]] = {}
        self._room: dict[Kind, int] = {}
        self._joint: dict[tuple[Kind, ...], int] = {}
        self.subgroup, self.terms, self.free = subgroup, terms, free
        self.gpus = sum(count for _, count in free)
        self.strain: Strain = (subgroup, terms, tuple(kind for kind, count in free if count))

    def less(self, gpu_type: str, gpus: int) -> Shape:
        """Return the shape of such a node once GPUs of a type are taken; negative: given back."""
        key = gpu_type, gpus
        found = self._less.get(key)
        if found is None:
            left = tuple((k, n - gpus if k == gpu_type else n) for k, n in self.free)
            found = self._less[key] = self._registry.get(self.subgroup, self.terms, left)
        return found

    def choices(self, kind: Kind) -> tuple[Choice, ...]:
        """Return the GPU types on which one rank fits on such a node."""
        found = self._choices.get(kind)
        if found is None:
            found = ()
            if kind.admitted(self.terms):
                shunned = kind.shunned(self.terms)
                found = tuple(
                    Choice(shunned, rank, gpu_type, count - kind.gpus)
                    for gpu_type, count in self.free
                    if count >= kind.gpus and (rank := kind.preference(gpu_type)) is not None
                )
            self._choices[kind] = found
        return found

    def room(self, kind: Kind) -> int:
        """Return how many ranks of one kind alone fit on such a node."""
        found = self._room.get(kind)
        if found is None:
            found = sum(1 + one.left_over // kind.gpus for one in self.choices(kind))
            self._room[kind] = found
        return found

    def joint(self, kinds: tuple[Kind, ...]) -> int:
        """Return the free GPUs of such a node that some of the kinds could use, one by one."""
        found = self._joint.get(kinds)
        if found is None:
            able = [kind for kind in kinds if kind.admitted(self.terms)]
            found = self._joint[kinds] = sum(
                count
                for gpu_type, count in self.free
                if any(kind.preference(gpu_type) is not None for kind in able)
            )
        return found

    def __repr__(self) -> str:
        return f"Shape({self.subgroup.name}, {self.terms}, {dict(self.free)})"


class Shapes:
    """A registry: equal facts give the same object. There are as many as a fleet has ways to look."""

    def __init__(self) -> None:
        self._known: dict[tuple[SubgroupClass, Terms, Free], Shape] = {}

    def get(self, subgroup: SubgroupClass, terms: Terms, free: Free) -> Shape:
        """Return the shape of these facts."""
        key = subgroup, terms, free
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Shape(self, subgroup, terms, free)
        return found

    def of_node(
        self,
        subgroup: SubgroupClass,
        terms: Terms,
        free: Mapping[str, tuple[int, ...]],
    ) -> Shape | None:
        """Return the shape of a usable node with these free GPUs; None when it has none."""
        if not free:
            return None
        return self.get(subgroup, terms, tuple((k, len(free[k])) for k in sorted(free)))
