"""Balance of a deployment group: how far its P:D is outside the band, and what a loss does to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.spec import RatioSpec

_PREFILL = (Role.PREFILL, Role.ATTENTION)
"""Where prefill is split, its attention is what decode is counted against."""


@dataclass(slots=True)
class Group:
    """Instances of a group that serve."""

    counts: dict[Role, int]

    def of(self, role: Role | None) -> int:
        """Return how many of a role there are."""
        return self.counts.get(role, 0) if role is not None else 0

    @property
    def size(self) -> int:
        """Return how many of any role there are."""
        return sum(self.counts.values())

    def excess(self, role: Role, ratio: RatioSpec) -> float:
        """Return how many too many it has of a role, in prefill instances; 0 inside the band."""
        prefill, decode = _pair(self.counts)
        if role in _PREFILL:
            return max(0.0, prefill - ratio.max * decode)
        return max(0.0, ratio.min * decode - prefill) if role is Role.DECODE else 0.0

    def harm(self, role: Role, ratio: RatioSpec, left: Counts) -> float:
        """Return how far outside the band the loss of one of ``role`` leaves it, at best.

        In prefill instances. At best: what else the step may still take, ``left``, may be taken here
        too, so that a step that is in the ratio itself can empty one group without harm.
        """
        if role not in _PREFILL and role is not Role.DECODE:
            return 0.0
        prefill, decode = _pair(self.counts)
        more_p, more_d = _pair(left)
        if role is Role.DECODE:
            decode, more_d = decode - 1, more_d - 1
        else:
            prefill, more_p = prefill - 1, more_p - 1
        too_many = prefill - min(more_p, prefill) - ratio.max * decode
        too_few = ratio.min * (decode - min(more_d, decode)) - prefill
        return max(0.0, too_many, too_few)


def groups_of(members: Iterable[tuple[str, Role, bool]]) -> dict[str, Group]:
    """Return groups by name, of (group, role, whether it serves); those that do not serve add nothing."""
    groups: dict[str, Group] = {}
    for name, role, serves in members:
        group = groups.setdefault(name, Group({}))
        if serves:
            group.counts[role] = group.of(role) + 1
    return groups


def _pair(counts: Counts) -> tuple[int, int]:
    return sum(counts.get(role, 0) for role in _PREFILL), counts.get(Role.DECODE, 0)
