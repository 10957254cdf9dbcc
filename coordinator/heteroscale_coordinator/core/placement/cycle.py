"""The cycle: the requests of many services on one view, the highest priority first (heteroscale.md §4).

A scale-out is placed whole or not at all, and what it takes is held in the view for the rest of the
cycle. Among equals the small come first. For one that finds no place others are placed anew
(``rethink``): an equal may land elsewhere, a higher priority only where it stands as well. A
scale-in chooses who leaves; what that frees is not used again within the cycle. The cycle is advanced
piece by piece, reports may change the view in between, and at its end every place is checked against the
view as it is then: from the first that no longer holds, the cycle is done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from heteroscale_coordinator.core.placement.kind import Terms
from heteroscale_coordinator.core.placement.ledger import taken
from heteroscale_coordinator.core.placement.rethink import (
    MOVES,
    REACH,
    Attempt,
    in_some_order,
    no_worse,
    types_of,
)
from heteroscale_coordinator.core.placement.values import (
    Ask,
    Infeasible,
    NodeView,
    Placed,
    Spot,
    Standing,
    Victims,
)
from heteroscale_coordinator.core.placement.victims import choose_victims
from heteroscale_coordinator.core.placement.view import FleetView
from heteroscale_coordinator.core.spec import RatioSpec
from heteroscale_coordinator.core.topology import sub_cluster_of

_ANY = RatioSpec(min=0.5, max=0.5)


@dataclass(frozen=True, slots=True)
class Request:
    """What one service asks of a cycle."""

    ask: Ask
    """Counts above zero are to be placed, counts below are to leave."""
    standing: Sequence[Standing] = ()
    """The service's instances; for a scale-in, those that may leave."""
    priority: int = 0
    """Higher goes first."""
    share: float = 0.0
    """Among equals the smallest goes first: what part of its wish a service has already, say."""
    ratio: RatioSpec = _ANY
    """By which a scale-in keeps its groups in balance."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request."""

    request: Request
    placed: Placed | Infeasible | None = None
    """None: nothing was to be placed."""
    victims: Victims | None = None
    """None: nothing was to leave."""


@dataclass(frozen=True, slots=True)
class _Done:
    outcome: Outcome
    stood: dict[str, NodeView] = field(default_factory=dict)
    """The nodes of its place as they were."""
    holds: tuple[tuple[str, frozenset[int]], ...] = ()


class Cycle:
    """One cycle over a view that others go on writing. Ends by ``end``, whatever came of it."""

    def __init__(self, view: FleetView, requests: Iterable[Request], *, moves: int = MOVES) -> None:
        self._view = view
        self.moves_left = moves
        """Places that may still be sought anew."""
        self._requests = sorted(
            requests,
            key=lambda one: (-one.priority, one.share, _gpus(one.ask), one.ask.service),
        )
        self._done: list[_Done] = []

    @property
    def left(self) -> int:
        """Return how many requests are still to be looked at."""
        return len(self._requests) - len(self._done)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Return what came of the requests so far, in the order in which they were served."""
        return tuple(one.outcome for one in self._done)

    def advance(self, requests: int = 1) -> bool:
        """Look at so many requests more, and return whether that was all."""
        for _ in range(min(requests, self.left)):
            done = self._serve(self._requests[len(self._done)])
            self._done.append(done)
            if isinstance(done.outcome.placed, Infeasible) and done.outcome.victims is None:
                self._make_room(len(self._done) - 1)
        return not self.left

    def commit(self) -> tuple[Outcome, ...] | None:
        """Return what came of all requests, every place checked against the view as it is now.

        None: the cycle is not done, or no more: the first place that does not hold, and whatever was
        decided after it, was taken back, for a lower priority must not keep what a higher one needs.
        What is held stays held until ``end``.
        """
        for number, done in enumerate(self._done):
            if not self._holds_still(done):
                self._take_back(number)
                return None
        return None if self.left else self.outcomes

    def end(self) -> None:
        """Let go all that is held: what was committed is in the view by now, or is given up."""
        self._take_back(0)

    # ---- one request -------------------------------------------------------------------------

    def _serve(self, request: Request) -> _Done:
        leaving = {role: -count for role, count in request.ask.delta.items() if count < 0}
        coming = any(count > 0 for count in request.ask.delta.values())
        placed = self._view.place(request.ask, request.standing, said=0) if coming else None
        victims, holds = None, []
        if leaving:
            rule = request.ask.placement.spread
            victims = choose_victims(
                leaving, request.standing, self._view, request.ratio, spread=rule
            )
            holds += self._frozen(request, victims)
        stood: dict[str, NodeView] = {}
        if isinstance(placed, Placed):
            for rank in (rank for spot in placed.spots for rank in spot.ranks):
                holds.append((rank.agent_id, frozenset(rank.gpu_indices)))
                if (node := self._view.node(rank.agent_id)) is not None:
                    stood[rank.agent_id] = node
        done = _Done(Outcome(request, placed, victims), stood, tuple(holds))
        self._hold(done)
        return done

    # ---- second thoughts ---------------------------------------------------------------------

    def _make_room(self, refused: int) -> None:
        """Place others anew, the refused one first; it stays refused if one of them lost by it."""
        asks = [self._requests[refused].ask]
        asks += [self._requests[n].ask for n in self._in_the_way(refused, asks)]
        if near := sorted(self._in_the_way(refused, asks)):
            self.moves_left -= in_some_order(refused, near, self._all_in, self.moves_left)

    def _in_the_way(self, refused: int, asks: Sequence[Ask]) -> list[int]:
        """Return the last requests before the refused one that have GPUs these asks could use."""
        types = types_of(asks)
        mine = (n for n in reversed(range(refused)) if self._may_move(n, refused, types))
        return list(islice(mine, REACH))

    def _may_move(self, number: int, refused: int, types: frozenset[str]) -> bool:
        """Whether a request has a place on one of these types (none: any), and may leave it."""
        outcome, other = self._done[number].outcome, self._requests[refused]
        if outcome.victims is not None or not isinstance(outcome.placed, Placed):
            return False
        if types and all(spot.gpu_type not in types for spot in outcome.placed.spots):
            return False
        # Of a limit, and of a lone role's lack beside its peers, a place does not say how well it does.
        ask = outcome.request.ask
        whole = all(ask.delta.get(role, 0) > 0 for role in ask.roles)
        return (
            whole and ask.placement.spread is None
        ) or outcome.request.priority == other.priority

    def _all_in(self, order: Sequence[int]) -> Attempt:
        """Place these anew in this order; if one is worse off by it, all is as before."""
        before = {n: self._done[n] for n in order if n < len(self._done) - 1}
        for done in before.values():
            self._release(done)
        found: dict[int, _Done] = {}
        for number in order:
            found[number] = self._serve(self._requests[number])
            if not self._content(found[number], before.get(number)):
                break
        else:
            self._done = [found.get(number, done) for number, done in enumerate(self._done)]
            return Attempt(None, len(found))
        for done in found.values():
            self._release(done)
        for done in before.values():
            self._hold(done)
        return Attempt(number, len(found))

    def _content(self, done: _Done, before: _Done | None) -> bool:
        """Whether a request has its place; one of a higher priority than the refused, one as good."""
        placed = done.outcome.placed
        if not isinstance(placed, Placed) or before is None:
            return isinstance(placed, Placed)
        had, last = before.outcome.placed, self._done[-1].outcome.request
        if done.outcome.request.priority == last.priority or not isinstance(had, Placed):
            return True
        return _homes(done) == _homes(before) and no_worse(placed, had)

    def _hold(self, done: _Done) -> None:
        for agent_id, indices in done.holds:
            self._view.hold(agent_id, indices)
        self._promise(done, +1)

    def _release(self, done: _Done) -> None:
        for agent_id, indices in done.holds:
            self._view.release(agent_id, indices)
        self._promise(done, -1)

    def _promise(self, done: _Done, sign: int) -> None:
        """Count what a place takes in the quotas of sub-clusters, or no more."""
        if isinstance(done.outcome.placed, Placed):
            homes = {agent: sub_cluster_of(node.topology) for agent, node in done.stood.items()}
            self._view.ledger.promise(taken(done.outcome.placed.spots, homes), sign)

    def _frozen(self, request: Request, victims: Victims) -> list[tuple[str, frozenset[int]]]:
        """Return what is in use on the victims' nodes: it may become free, but not for this cycle."""
        leaving = set(victims.instance_ids)
        agents = {
            a for one in request.standing if one.instance_id in leaving for a in one.agent_ids
        }
        nodes = [node for agent in sorted(agents) if (node := self._view.node(agent)) is not None]
        found = []
        for node in nodes:
            used = node.gpu_types.keys() - set(node.free) - self._view.held(node.agent_id)
            found.append((node.agent_id, frozenset(used)))
        return found

    def _holds_still(self, done: _Done) -> bool:
        placed = done.outcome.placed
        spots = placed.spots if isinstance(placed, Placed) else ()
        return all(self._stands(done, spot) for spot in spots)

    def _stands(self, done: _Done, spot: Spot) -> bool:
        """Whether every rank of a spot could still be launched where it was placed."""
        ask = done.outcome.request.ask
        kind = self._view.kinds.of(ask.roles[spot.role], ask.placement.tolerations)
        for rank in spot.ranks:
            now, then = self._view.node(rank.agent_id), done.stood[rank.agent_id]
            if now is then:
                continue
            if now is None or not now.usable:
                return False
            if not kind.admitted(Terms(now.templates, now.taints)):
                return False
            if now.topology != then.topology or not set(rank.gpu_indices) <= set(now.free):
                return False
            if any(now.gpu_types.get(index) != spot.gpu_type for index in rank.gpu_indices):
                return False
        return True

    def _take_back(self, number: int) -> None:
        held: dict[str, set[int]] = {}
        for done in self._done[number:]:
            self._promise(done, -1)
            for agent_id, indices in done.holds:
                held.setdefault(agent_id, set()).update(indices)
        for agent_id, every in held.items():
            self._view.release(agent_id, every)
        del self._done[number:]


def _homes(done: _Done) -> set[str]:
    """Return the sub-clusters of a place: which one, was chosen by price, quota and more."""
    return {sub_cluster_of(node.topology) for node in done.stood.values()}


def _gpus(ask: Ask) -> int:
    """Return the GPUs that an ask takes: among equals the small go first, so that more find a place."""
    return sum(
        count * ask.roles[role].gpus * ask.roles[role].ranks
        for role, count in ask.delta.items()
        if count > 0 and role in ask.roles
    )
