"""The sub-cluster of a step: which of several worlds takes it, and why the others do not.

First who is left out (silent, refusing, not wanted, its quota used up), then where the step would go in
each that is left, then the best of these answers. A step that none holds alone is cut over several,
group by group: the paths of domains part at the sub-cluster, so that no group ever straddles two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.kind import disliked
from heteroscale_coordinator.core.placement.ledger import taken
from heteroscale_coordinator.core.placement.rank import peer_of
from heteroscale_coordinator.core.placement.values import (
    Ask,
    Infeasible,
    Placed,
    Spot,
    Standing,
    SubCluster,
)
from heteroscale_coordinator.core.spec import RoleSpec
from heteroscale_coordinator.core.topology import (
    AFFINITY_LEVELS,
    SubgroupClass,
    sub_cluster_in,
    sub_cluster_of,
)

if TYPE_CHECKING:
    from heteroscale_coordinator.core.placement.view import FleetView

Search = Callable[[Ask], Placed | Infeasible]
"""Places an ask under the rules of its service, in the sub-clusters ``within``."""

_NOTHING = SubCluster()


def federate(
    ask: Ask, view: FleetView, standing: Sequence[Standing], search: Search
) -> Placed | Infeasible:
    """Return where the step goes, with its sub-cluster chosen, or why it goes nowhere.

    Where nothing is told of sub-clusters, and nothing wished, ``search`` alone decides.
    """
    wish = ask.placement.sub_cluster
    if not (ask.sub_clusters or wish.require or wish.prefer):
        return search(ask)
    counts = {role: n for role, n in ask.delta.items() if n > 0}
    names = view.ledger.names()
    if not counts or not names:
        return search(ask)
    out = _left_out(ask, names, counts)
    left = sorted(names - out.keys())
    if not left:
        return Infeasible(_lines(out))
    found = _Choice(ask, view, standing, search, counts).of(left)
    if isinstance(found, Infeasible):
        return Infeasible((*_lines(out), *found.reasons))
    if not out:
        return found
    said = ", ".join(f"{_named(name)} ({why})" for name, why in sorted(out.items()))
    return replace(
        found,
        reason=f"{found.reason}; left out: {said}",
        rejected=(*found.rejected, *_lines(out)),
    )


def _lines(out: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"sub-cluster {_named(name)}: {why}" for name, why in sorted(out.items()))


def _named(name: str) -> str:
    return name or "without a name"


def _left_out(ask: Ask, names: frozenset[str], counts: Counts) -> dict[str, str]:
    """Return the sub-clusters that this step may not use, and why."""
    require = ask.placement.sub_cluster.require
    out = {}
    for name in sorted(names | {*require}):
        told = ask.sub_clusters.get(name, _NOTHING)
        if name not in names:
            there = ", ".join(_named(one) for one in sorted(names))
            why = f"placement.subCluster.require names it, but no node is of it; there are {there}"
        elif require and name not in require:
            why = f"placement.subCluster.require is {', '.join(require)}"
        elif told.left_out:
            why = told.left_out
        elif told.trial and min(counts.values()) > 1:
            why = told.trial
        elif told.quota is not None and told.used >= told.quota:
            why = f"its quota for {ask.service} is {told.quota} GPUs, {told.used} are in use"
        else:
            continue
        out[name] = why
    return out


class Order(NamedTuple):
    """Fields in order of weight; the smallest wins."""

    prefer: int
    """Place in the service's own order of sub-clusters."""
    wider: int
    """How far beyond S1 its groups reach."""
    shunned: int
    """GPUs taken on nodes that would rather not (a taint PreferNoSchedule)."""
    off_type: int
    """Places lost in the roles' listed orders of GPU types, over all instances."""
    high: int
    """GPUs taken on high-class nodes (heteroscale.md §4)."""
    medium: int
    price: float
    """Of the step for an hour; infinite where a price is not known."""
    opens: int
    """New groups."""
    full: int
    """Minus its free GPUs."""
    name: str


_WORDS = {
    "prefer": "is preferred less",
    "wider": "could hold its groups only in a wider domain",
    "shunned": "would use nodes whose taint says PreferNoSchedule",
    "off_type": "has less preferred GPU types",
    "high": "would use more high-class GPUs",
    "medium": "would use more medium-class GPUs",
    "price": "costs more",
    "opens": "would open more groups",
    "full": "has fewer GPUs free",
    "name": "is equal, later by name",
}


@dataclass(frozen=True, slots=True)
class _Choice:
    """One choice among sub-clusters that may be used."""

    ask: Ask
    view: FleetView
    standing: Sequence[Standing]
    search: Search
    counts: Counts

    def of(self, names: Sequence[str]) -> Placed | Infeasible:
        """Return the best place in one of ``names`` or, group by group, in several."""
        if not self._weighs(names):
            return self.search(replace(self.ask, within=frozenset(names)))
        # Who stands alone goes where it is lacking, and what is spread over sub-clusters over all.
        together = self._lone() or self._spread_over_them()
        first, second = self._together, self._best_alone
        ways = (first, second) if together else (second, first)
        failed: tuple[str, ...] = ()
        for way in ways:
            found = way(names)
            if isinstance(found, Placed):
                return found
            failed = (*failed, *(why for why in found.reasons if why not in failed))
        return Infeasible(failed)

    def _weighs(self, names: Iterable[str]) -> bool:
        """Return whether something other than the nodes themselves tells sub-clusters apart."""
        told = [self.ask.sub_clusters.get(name, _NOTHING) for name in names]
        limits = any(one.prices or one.quotas or one.quota is not None for one in told)
        return limits or bool(self.ask.placement.sub_cluster.prefer)

    def _lone(self) -> bool:
        role, *others = self.counts
        return not others and peer_of(role, self.ask.roles) is not None

    def _spread_over_them(self) -> bool:
        rule = self.ask.placement.spread
        return rule is not None and rule.level == "subCluster"

    # ---- in one, or in several ---------------------------------------------------------------

    def _best_alone(self, names: Sequence[str]) -> Placed | Infeasible:
        found = {name: self._alone(name) for name in names}
        placed = {name: one for name, one in found.items() if isinstance(one, Placed)}
        behind = tuple(
            f"sub-cluster {_named(name)}: {one.reasons[0] if one.reasons else 'no room'}"
            for name, one in found.items()
            if isinstance(one, Infeasible)
        )
        if not placed:
            return Infeasible(behind)
        (winner, name), *losers = sorted(
            (self._order(name, one), name) for name, one in placed.items()
        )
        best, said = placed[name], [f"sub-cluster {_named(name)}"]
        for order, other in losers:
            why = _why_behind(winner, order)
            said.append(f"{_named(other)} {why}")
            behind = (*behind, f"sub-cluster {_named(other)}: fits, but {why}")
        reason = f"{best.reason}; {', '.join(said)}"
        return replace(best, reason=reason, rejected=(*best.rejected, *behind))

    def _alone(self, name: str) -> Placed | Infeasible:
        """Place the step in one sub-cluster; GPU types whose quota it would exceed are left aside."""
        told = self.ask.sub_clusters.get(name, _NOTHING)
        prices = {**self.ask.prices, **told.prices}
        ask = replace(self.ask, within=frozenset({name}), prices=prices)
        aside, why = set[str](), ""
        while True:
            narrowed = self._without(ask, aside)
            found = Infeasible(()) if narrowed is None else self.search(narrowed)
            if isinstance(found, Infeasible):
                return Infeasible((why, *found.reasons)) if why else found
            exceeded = self._exceeded(found.spots)
            if not exceeded:
                return found
            why = "; ".join(exceeded.values())
            if (name, "") in exceeded:
                return Infeasible((why,))
            aside |= {gpu_type for _, gpu_type in exceeded}

    def _without(self, ask: Ask, aside: set[str]) -> Ask | None:
        """Return the ask without some GPU types; None: a role has no other."""
        if not aside:
            return ask
        every = tuple(sorted(self.view.root.by_type()))
        roles: dict[Role, RoleSpec] = dict(ask.roles)
        for role in self.counts:
            spec = ask.roles[role]
            types = tuple(t for t in spec.gpu_types or every if t not in aside)
            if not types:
                return None
            choice = spec.gpu_choice if spec.gpu_types else "cheapest"
            roles[role] = spec.model_copy(update={"gpu_types": types, "gpu_choice": choice})
        return replace(ask, roles=roles)

    def _together(self, names: Sequence[str]) -> Placed | Infeasible:
        """Place the step over several; one whose quota it would exceed is left aside."""
        within, whys = frozenset(names), list[str]()
        while within:
            found = self.search(replace(self.ask, within=within))
            if isinstance(found, Infeasible):
                return Infeasible((*whys, *found.reasons))
            exceeded = self._exceeded(found.spots)
            if not exceeded:
                return found
            within -= {name for name, _ in exceeded}
            whys += [f"sub-cluster {_named(name)}: {why}" for (name, _), why in exceeded.items()]
        return Infeasible(tuple(whys))

    # ---- quotas ------------------------------------------------------------------------------

    def _exceeded(self, spots: Iterable[Spot]) -> dict[tuple[str, str], str]:
        """Return the quotas that spots exceed, in words; of a service's own the GPU type is empty."""
        spots = tuple(spots)
        wanted = taken(spots, self._homes(spots))
        found, mine = {}, Counter[str]()
        for (name, gpu_type), gpus in sorted(wanted.items()):
            mine[name] += gpus
            most = self.ask.sub_clusters.get(name, _NOTHING).quotas.get(gpu_type)
            used = self.view.ledger.used(name, gpu_type)
            if most is not None and used + gpus > most:
                text = f"its quota of {gpu_type} is {most} GPUs, {used} are in use"
                found[name, gpu_type] = f"{text}, wanted {gpus} more"
        for name, gpus in mine.items():
            told = self.ask.sub_clusters.get(name, _NOTHING)
            if told.quota is not None and told.used + gpus > told.quota:
                text = (
                    f"its quota for {self.ask.service} is {told.quota} GPUs, {told.used} are in use"
                )
                found[name, ""] = f"{text}, wanted {gpus} more"
        return found

    def _homes(self, spots: Iterable[Spot]) -> dict[str, str]:
        agents = {rank.agent_id for spot in spots for rank in spot.ranks}
        nodes = ((agent, self.view.node(agent)) for agent in agents)
        return {agent: sub_cluster_of(node.topology) for agent, node in nodes if node is not None}

    # ---- the best ----------------------------------------------------------------------------

    def _order(self, name: str, found: Placed) -> Order:
        prefer = self.ask.placement.sub_cluster.prefer
        classes, off_type, shunned = Counter[SubgroupClass](), 0, 0
        for spot in found.spots:
            spec = self.ask.roles[spot.role]
            if spec.gpu_types and spec.gpu_choice == "listed":
                off_type += spec.gpu_types.index(spot.gpu_type)
            for rank in spot.ranks:
                classes[self.view.class_of(rank.agent_id)] += len(rank.gpu_indices)
                node = self.view.node(rank.agent_id)
                loath = node is not None and disliked(node.taints, self.ask.placement.tolerations)
                shunned += len(rank.gpu_indices) if loath else 0
        standing = {one.group for one in self.standing}
        return Order(
            prefer=prefer.index(name) if name in prefer else len(prefer),
            wider=AFFINITY_LEVELS.index(found.affinity_met),
            shunned=shunned,
            off_type=off_type,
            high=classes[SubgroupClass.HIGH],
            medium=classes[SubgroupClass.MEDIUM],
            price=self._price(name, found.spots),
            opens=len({spot.group for spot in found.spots} - standing),
            full=-self._free(name),
            name=name,
        )

    def _price(self, name: str, spots: Iterable[Spot]) -> float:
        """Return what the spots cost in an hour; infinite where a price is not known."""
        told = self.ask.sub_clusters.get(name, _NOTHING)
        prices = {**self.ask.prices, **told.prices}
        total = sum(
            len(rank.gpu_indices) * prices.get(spot.gpu_type, inf)
            for spot in spots
            for rank in spot.ranks
        )
        return round(total, 6)

    def _free(self, name: str) -> int:
        cells = self.view.indexes["cluster"].cells
        return sum(cell.room for path, cell in cells.items() if sub_cluster_in(path) == name)


def _why_behind(winner: Order, loser: Order) -> str:
    """Return in words the first thing that speaks against ``loser``."""
    if loser[:5] == winner[:5] and loser.price > winner.price:
        known = isfinite(loser.price)
        return (
            f"costs {loser.price:.4g} an hour, not {winner.price:.4g}" if known else "has no price"
        )
    ours: tuple[Any, ...] = winner
    theirs: tuple[Any, ...] = loser
    fields = zip(Order._fields, ours, theirs, strict=True)
    return next((_WORDS[name] for name, our, their in fields if their > our), _WORDS["name"])
