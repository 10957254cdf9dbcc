"""Choose which instances a scale-in takes.

One after another, each time the first by this order:

1. withdrawn already: it serves nothing;
2. one whose loss leaves no stump, a group with one role only that this step cannot empty: a group is
   emptied whole, or keeps P ≥ 1 and D ≥ 1;
3. on a sick, unusable or cordoned node, or a cordoned GPU;
4. without a peer in its group: it is a stump already;
5. the role that its group has most of, against the ratio;
6. on the highest subgroup class: high-class resources are freed first (heteroscale.md §4);
7. in the smallest group: whole groups become empty;
8. the fewest requests running and waiting; unknown counts as busy;
9. the oldest: the youngest stay. Then by id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.rank import peer_of
from heteroscale_coordinator.core.placement.values import NodeView, Standing, Victims
from heteroscale_coordinator.core.spec import RatioSpec
from heteroscale_coordinator.core.topology import Tree

_Key = tuple[bool, bool, bool, bool, float, int, int, float, float, str]


def choose_victims(
    delta: Counts, standing: Sequence[Standing], nodes: Sequence[NodeView], ratio: RatioSpec
) -> Victims:
    """Return exactly ``delta`` (positive counts to take) of ``standing``, or none and why.

    P and D of a step are one transaction: when one role has too few that may be taken, nothing is.
    ``standing`` should hold only instances that may be withdrawn now.
    """
    left = {role: count for role, count in delta.items() if count > 0}
    for role, count in left.items():
        have = sum(one.role is role for one in standing)
        if have < count:
            return Victims((), f"wanted {count} {role}, only {have} may be taken")
    choice = _Choice(standing, nodes, ratio)
    taken: list[Standing] = []
    while any(left.values()):
        victim = choice.first(left)
        left[victim.role] -= 1
        choice.take(victim)
        taken.append(victim)
    reason = "; ".join(choice.said) or "nothing asked"
    return Victims(tuple(one.instance_id for one in taken), reason)


@dataclass(slots=True)
class _Group:
    """Instances of a group that serve."""

    counts: dict[Role, int]

    def of(self, role: Role | None) -> int:
        return self.counts.get(role, 0) if role is not None else 0

    def excess(self, role: Role, ratio: RatioSpec) -> float:
        """How many too many the group has of a role, in prefill instances; negative: too few."""
        # Where prefill is split, its attention is what decode is counted against.
        prefill, decode = self.of(Role.PREFILL) + self.of(Role.ATTENTION), self.of(Role.DECODE)
        if role in (Role.PREFILL, Role.ATTENTION):
            return prefill - ratio.max * decode
        return ratio.min * decode - prefill if role is Role.DECODE else 0.0


class _Choice:
    """The instances not yet taken, and their groups as they would then stand."""

    def __init__(
        self, standing: Sequence[Standing], nodes: Sequence[NodeView], ratio: RatioSpec
    ) -> None:
        self.said: list[str] = []
        self._open = {one.instance_id: one for one in standing}
        self._ratio = ratio
        parts = {Role.ATTENTION, Role.FFN}
        split = any(one.role in parts for one in standing)
        self._roles = {*(parts if split else {Role.PREFILL}), Role.DECODE}
        self._tree = Tree(nodes)
        self._nodes: Mapping[str, NodeView] = {node.agent_id: node for node in nodes}
        self._groups: dict[str, _Group] = {}
        for one in standing:
            group = self._groups.setdefault(one.group, _Group({}))
            if not one.withdrawn:
                group.counts[one.role] = group.of(one.role) + 1

    def first(self, left: Counts) -> Standing:
        """Return the first to go among the roles still wanted."""
        wanted = (one for one in self._open.values() if left.get(one.role, 0) > 0)
        return min(wanted, key=lambda one: self._key(one, left))

    def take(self, victim: Standing) -> None:
        """Take it out of its group, and note why it was the one."""
        self.said.append(self._say(victim))
        del self._open[victim.instance_id]
        if not victim.withdrawn:
            self._groups[victim.group].counts[victim.role] -= 1

    def _key(self, one: Standing, left: Counts) -> _Key:
        group = self._groups[one.group]
        return (
            not one.withdrawn,
            self._leaves_stump(one, left),
            self._node_is_good(one),
            not self._is_stump(one),
            -group.excess(one.role, self._ratio),
            -max((self._tree.class_of(agent) for agent in one.agent_ids), default=0),
            sum(group.counts.values()),
            inf if one.idle is None else one.idle,
            -one.age,
            one.instance_id,
        )

    def _leaves_stump(self, one: Standing, left: Counts) -> bool:
        peer, group = peer_of(one.role, self._roles), self._groups[one.group]
        last = not one.withdrawn and group.of(one.role) == 1
        return peer is not None and last and group.of(peer) > left.get(peer, 0)

    def _is_stump(self, one: Standing) -> bool:
        peer = peer_of(one.role, self._roles)
        return peer is not None and not one.withdrawn and not self._groups[one.group].of(peer)

    def _node_is_good(self, one: Standing) -> bool:
        return not one.cordoned and all(
            (node := self._nodes.get(agent)) is not None and node.usable for agent in one.agent_ids
        )

    def _say(self, one: Standing) -> str:
        group = self._groups[one.group]
        why = [
            "already withdrawn" if one.withdrawn else "",
            "on what is cordoned" if one.cordoned else "",
            "" if one.cordoned or self._node_is_good(one) else "on an unusable node",
            "without a peer in its group" if self._is_stump(one) else "",
            "most of its role there" if group.excess(one.role, self._ratio) > 0 else "",
            "idle" if one.idle == 0 else "",
        ]
        words = ", ".join(filter(None, why)) or "by class, size of group and load"
        return f"{one.role} {one.instance_id} of {one.group or 'no group'}: {words}"
