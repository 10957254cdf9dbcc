"""Choose which instances a scale-in takes.

One after another, each time the first by this order:

1. withdrawn already: it serves nothing;
2. one whose loss leaves no stump, a group with one role only that this step cannot empty: a group is
   emptied whole, or keeps P ≥ 1 and D ≥ 1;
3. on a sick, unusable or cordoned node, or a cordoned GPU, or where a taint (NoExecute) has it leave;
4. without a peer in its group: it is a stump already;
5. whose loss throws its group least out of the ratio's band, once the whole step is taken;
6. the role that its group has too many of, against the ratio;
7. where its service has a spread limit: in a failure domain that would be above it after the step,
   the one furthest above first;
8. on the highest subgroup class: high-class resources are freed first (heteroscale.md §4);
9. with a spread limit: in the fullest failure domain of its role;
10. in the smallest group: whole groups become empty;
11. on nodes that this step can empty, those with least left on them: whole nodes become empty;
12. idle, then busy, then those of which that is unknown;
13. cold in cache, as far as that is known; unknown is not cold;
14. the fewest requests running and waiting;
15. on the nodes with least left on them, then the oldest: the youngest stay. Then by id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import NamedTuple

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.balance import groups_of
from heteroscale_coordinator.core.placement.crowds import Crowds
from heteroscale_coordinator.core.placement.rank import peer_of
from heteroscale_coordinator.core.placement.values import NodeView, Standing, Victims
from heteroscale_coordinator.core.placement.view import FleetView
from heteroscale_coordinator.core.spec import RatioSpec, SpreadSpec
from heteroscale_coordinator.core.topology import SubgroupClass


class _Key(NamedTuple):
    """Why one goes before another; the smallest goes first, field by field."""

    serves: bool
    leaves_stump: bool
    node_is_good: bool
    has_peer: bool
    harm: float
    excess: float
    over: int
    subgroup: int
    crowd: int
    group: int
    node: float
    load_known: int
    warmth: float
    load: float
    node_left: int
    age: float
    name: str


_Front = tuple[bool, bool, bool, bool, float, float, int, int, int, int]
_Rest = tuple[float, int, float, float, int, float, str]
_Kind = tuple[Role, str, bool, bool, int, frozenset[str]]
"""Role, group, whether withdrawn, whether its nodes are good, its class, and its failure domains."""


def choose_victims(
    delta: Counts,
    standing: Sequence[Standing],
    nodes: FleetView | Iterable[NodeView],
    ratio: RatioSpec,
    *,
    spread: SpreadSpec | None = None,
    stays: Sequence[Standing] = (),
) -> Victims:
    """Return exactly ``delta`` (positive counts to take) of ``standing``, or none and why.

    P and D of a step are one transaction: when one role has too few that may be taken, nothing is.
    ``standing`` should hold only instances that may be withdrawn now. ``spread``: the service's limit
    for failure domains, and ``stays``: what else of it stands there.
    """
    left = {role: count for role, count in delta.items() if count > 0}
    for role, count in left.items():
        have = sum(one.role is role for one in standing)
        if have < count:
            return Victims((), f"wanted {count} {role}, only {have} may be taken")
    view = nodes if isinstance(nodes, FleetView) else FleetView(nodes)
    crowds = Crowds.of(spread, view, [*standing, *stays]) if spread is not None else None
    choice = _Choice(standing, view, ratio, left, crowds)
    taken: list[Standing] = []
    while any(choice.left.values()):
        taken.append(choice.take())
    reason = "; ".join(choice.said) or "nothing asked"
    return Victims(tuple(one.instance_id for one in taken), reason)


class _Choice:
    """The instances not yet taken, and their groups and nodes as they would then stand."""

    def __init__(
        self,
        standing: Sequence[Standing],
        view: FleetView,
        ratio: RatioSpec,
        left: Mapping[Role, int],
        crowds: Crowds | None,
    ) -> None:
        self.said: list[str] = []
        self.left = dict(left)
        """What the step may still take."""
        self._ratio = ratio
        self._crowds = crowds
        out = Counter(one.role for one in standing if one.withdrawn)
        self._leaving = {role: max(0, count - out[role]) for role, count in left.items()}
        """Of those that serve; the withdrawn go first."""
        parts = {Role.ATTENTION, Role.FFN}
        split = any(one.role in parts for one in standing)
        self._roles = {*(parts if split else {Role.PREFILL}), Role.DECODE}
        self._view = view
        self._alike: dict[_Kind, dict[str, Standing]] = {}
        """Those not yet taken, by what the front of their keys hangs on: a fleet has few such kinds."""
        for one in standing:
            self._alike.setdefault(self._kind(one), {})[one.instance_id] = one
        self._groups = groups_of((one.group, one.role, not one.withdrawn) for one in standing)
        ours: Counter[str] = Counter()
        for one in standing:
            ours.update(dict.fromkeys(one.agent_ids, one.gpus))
        self._in_use = {agent: max(count, self._used(agent)) for agent, count in ours.items()}
        self._takeable = Counter(
            (agent, one.role) for one in standing for agent in one.agent_ids if left.get(one.role)
        )
        self._sizes = {(agent, one.role): one.gpus for one in standing for agent in one.agent_ids}

    def take(self) -> Standing:
        """Take the first to go among the roles still wanted, and note why it was the one."""
        fronts = [
            (self._front(next(iter(alike.values()))), alike)
            for (role, *_), alike in self._alike.items()
            if alike and self.left.get(role, 0) > 0
        ]
        best = min(front for front, _ in fronts)
        tied = (one for front, alike in fronts if front == best for one in alike.values())
        key, victim = min((_Key(*best, *self._rest(one)), one) for one in tied)
        self.said.append(self._say(victim, key))
        del self._alike[self._kind(victim)][victim.instance_id]
        self.left[victim.role] -= 1
        if not victim.withdrawn:
            self._groups[victim.group].counts[victim.role] -= 1
            if self._crowds is not None:
                self._crowds.add(victim, victim.role, -1)
                self._leaving[victim.role] -= 1
        for agent in victim.agent_ids:
            self._in_use[agent] -= victim.gpus
            self._takeable[agent, victim.role] -= 1
        return victim

    def _front(self, one: Standing) -> _Front:
        """Return what in its key all of its kind have in common."""
        group = self._groups[one.group]
        return (
            not one.withdrawn,
            self._leaves_stump(one),
            self._node_is_good(one),
            not self._is_stump(one),
            0.0 if one.withdrawn else group.harm(one.role, self._ratio, self.left),
            -group.excess(one.role, self._ratio),
            -self._over(one),
            -self._class_of(one),
            -self._crowds.fullest(one) if self._crowds is not None else 0,
            group.size,
        )

    def _rest(self, one: Standing) -> _Rest:
        left = sum(max(0, self._in_use[agent] - one.gpus) for agent in one.agent_ids)
        return (
            left if self._empties_nodes(one) else inf,
            2 if one.idle is None else int(one.idle > 0),
            inf if one.warmth is None else one.warmth,
            inf if one.idle is None else one.idle,
            left,
            -one.age,
            one.instance_id,
        )

    def _kind(self, one: Standing) -> _Kind:
        good, subgroup = self._node_is_good(one), self._class_of(one)
        domains = self._crowds.domains(one) if self._crowds is not None else frozenset[str]()
        return one.role, one.group, one.withdrawn, good, subgroup, domains

    def _over(self, one: Standing) -> int:
        return self._crowds.over(one, self._leaving) if self._crowds is not None else 0

    def _used(self, agent_id: str) -> int:
        """Return the GPUs of a node that something holds, or that are closed or sick."""
        node = self._view.node(agent_id)
        return len(node.gpu_types) - len(node.free) if node is not None else 0

    def _class_of(self, one: Standing) -> int:
        return max((self._view.class_of(agent) for agent in one.agent_ids), default=0)

    def _empties_nodes(self, one: Standing) -> bool:
        """Whether what is left of the step is enough to empty all the nodes that it stands on."""
        return all(
            agent in self._view
            and self._in_use[agent]
            <= sum(
                min(count, self._takeable[agent, role]) * self._sizes.get((agent, role), 0)
                for role, count in self.left.items()
            )
            for agent in one.agent_ids
        )

    def _leaves_stump(self, one: Standing) -> bool:
        peer, group = peer_of(one.role, self._roles), self._groups[one.group]
        last = not one.withdrawn and group.of(one.role) == 1
        return peer is not None and last and group.of(peer) > self.left.get(peer, 0)

    def _is_stump(self, one: Standing) -> bool:
        peer = peer_of(one.role, self._roles)
        return peer is not None and not one.withdrawn and not self._groups[one.group].of(peer)

    def _node_is_good(self, one: Standing) -> bool:
        return not (one.cordoned or one.sick or one.unwelcome) and all(
            (node := self._view.node(agent)) is not None and node.usable for agent in one.agent_ids
        )

    def _say(self, one: Standing, key: _Key) -> str:
        group = self._groups[one.group]
        unusable = not (one.cordoned or one.sick or one.unwelcome or key.node_is_good)
        why = [
            "already withdrawn" if one.withdrawn else "",
            "on what is cordoned" if one.cordoned else "",
            f"on sick hardware ({one.sick})" if one.sick else "",
            f"not wanted there ({one.unwelcome})" if one.unwelcome else "",
            "on an unusable node" if unusable else "",
            "without a peer in its group" if not key.has_peer else "",
            "most of its role there" if key.excess < 0 else "",
            "its failure domain is above the spread limit" if key.over < 0 else "",
            "frees high class"
            if not one.withdrawn and self._class_of(one) == SubgroupClass.HIGH
            else "",
            "the last of its group" if group.size == 1 and not one.withdrawn else "",
            "empties its node" if not one.withdrawn and key.node == 0 else "",
            "idle" if one.idle == 0 else "",
            "cold in cache" if one.warmth is not None and one.warmth < COLD else "",
        ]
        words = ", ".join(filter(None, why)) or "by class, size of group and load"
        return f"{one.role} {one.instance_id} of {one.group or 'no group'}: {words}"


COLD = 0.1
"""Warmth below which an instance is called cold in words; the order itself compares the figures."""
