"""The cycle: the requests of many services on one view, the highest priority first (heteroscale.md §4).

A scale-out is placed whole or not at all, and what it takes is held in the view for the rest of the
cycle. Among equals the small come first. For one that finds no place others are placed anew
(``rethink``): an equal may land elsewhere, a higher priority only where it stands as well. A
scale-in chooses who leaves; what that frees is not used again within the cycle. The cycle is advanced
piece by piece, reports may change the view in between, and when it is committed, which may be in pieces
too, every place is checked against the view as it is then: from the first that no longer holds, the cycle
is done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import inf

from heteroscale_coordinator.core.placement.kind import Terms
from heteroscale_coordinator.core.placement.ledger import taken
from heteroscale_coordinator.core.placement.request import Outcome, Request
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
    Victims,
)
from heteroscale_coordinator.core.placement.victims import choose_victims
from heteroscale_coordinator.core.placement.view import FleetView
from heteroscale_coordinator.core.topology import sub_cluster_of


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
        self._given = 0
        """So many outcomes were committed: they stay what they are."""
        self.places = 0
        """Places sought so far, and two for each that was let go and taken again: the work done."""
        self.at = ""
        """The service that was looked at last."""
        self._open: Iterator[None] | None = None
        """A request that is being looked at: the last of ``_done``."""

    @property
    def left(self) -> int:
        """Return how many requests are still to be looked at."""
        return len(self._requests) - len(self._done) + (self._open is not None)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Return what came of the requests so far, in the order in which they were served."""
        return tuple(one.outcome for one in self._done)

    @property
    def over(self) -> bool:
        """Return whether everything was committed."""
        return self._given == len(self._requests)

    def advance(self, requests: int = 1, places: float = inf) -> bool:
        """Look at so many requests more, and return whether that was all.

        No further one is begun, nor an order of second thoughts about one, when so many places were
        sought: the size of a piece in work.
        """
        until = self.places + places
        for _ in range(min(requests, self.left)):
            if self.places >= until:
                break
            self._open = self._open or self._look()
            if any(self.places >= until for _ in self._open):
                break  # It goes on where it paused.
            self._open = None
        return not self.left

    def commit(self, most: int | None = None) -> tuple[Outcome, ...] | None:
        """Return what came of all requests, every place checked against the view as it is now.

        None: the cycle is not done, or no more: the first place that does not hold, and whatever was
        decided after it, was taken back, for a lower priority must not keep what a higher one needs.
        What is held stays held until ``end``. ``most``: only so many, the first that were not
        committed before; those ahead of one that does not hold are committed all the same.
        """
        if self.left:
            return None
        first, end = self._given, len(self._done)
        if most is not None:
            end = min(first + most, end)
        for number in range(first, end):
            if not self._holds_still(self._done[number]):
                self._take_back(number)
                if most is None or number == first:
                    return None
                end = number
                break
        for done in self._done[first:end]:
            self._promise(done, -1)  # Whoever takes it writes it: from then on it is used.
        self._given = end
        return tuple(one.outcome for one in self._done[first:end])

    def end(self) -> None:
        """Let go all that is held: what was committed is in the view by now, or is given up."""
        self._take_back(0)

    # ---- one request -------------------------------------------------------------------------

    def _look(self) -> Iterator[None]:
        """Look at the next request; pauses where the view is as it would be if it had no place."""
        number, request = len(self._done), self._requests[len(self._done)]
        self._done.append(self._serve(request))
        if self._refused(number):
            yield from self._make_room(number)
        if self._refused(number) and request.parts:
            self._done[number] = self._part(self._done[number])

    def _serve(self, request: Request) -> _Done:
        self.at = request.ask.service
        leaving = {role: -count for role, count in request.ask.delta.items() if count < 0}
        coming = any(count > 0 for count in request.ask.delta.values())
        placed = self._seek(request, request.ask) if coming else None
        victims, holds = None, list[tuple[str, frozenset[int]]]()
        if leaving:
            rule = request.ask.placement.spread
            victims = choose_victims(
                leaving,
                request.standing,
                self._view,
                request.ratio,
                spread=rule,
                stays=request.stays,
            )
            holds += self._frozen(request, victims)
        return self._taken(Outcome(request, placed, victims), holds)

    def _seek(self, request: Request, ask: Ask) -> Placed | Infeasible:
        found: Placed | Infeasible = Infeasible(("nothing may be used",))
        for limits in request.limits:
            self.places += 1
            with limits.within(self._view) as view:
                found = view.place(ask, request.standing, said=request.said)
            if isinstance(found, Placed):
                break
        return found

    def _part(self, whole: _Done) -> _Done:
        """Return what is placed of a step that has no place as a whole; the same where nothing is."""
        request, why = whole.outcome.request, whole.outcome.placed
        if not isinstance(why, Infeasible):
            return whole
        for ask in request.parts:
            found = self._seek(request, ask)
            if isinstance(found, Placed):
                return self._taken(Outcome(request, found, part=ask, refused=why), [])
        return whole

    def _taken(self, outcome: Outcome, holds: list[tuple[str, frozenset[int]]]) -> _Done:
        """Hold what an outcome takes."""
        stood: dict[str, NodeView] = {}
        if isinstance(outcome.placed, Placed):
            for rank in (rank for spot in outcome.placed.spots for rank in spot.ranks):
                holds.append((rank.agent_id, frozenset(rank.gpu_indices)))
                if (node := self._view.node(rank.agent_id)) is not None:
                    stood[rank.agent_id] = node
        done = _Done(outcome, stood, tuple(holds))
        self._hold(done)
        return done

    def _refused(self, number: int) -> bool:
        outcome = self._done[number].outcome
        return isinstance(outcome.placed, Infeasible) and outcome.victims is None

    # ---- second thoughts ---------------------------------------------------------------------

    def _make_room(self, refused: int) -> Iterator[None]:
        """Place others anew, the refused one first; it stays refused if one of them lost by it."""
        asks = [self._requests[refused].ask]
        asks += [self._requests[n].ask for n in self._in_the_way(refused, asks)]
        if near := sorted(self._in_the_way(refused, asks)):
            for sought in in_some_order(refused, near, self._all_in, self.moves_left):
                self.moves_left -= sought
                yield

    def _in_the_way(self, refused: int, asks: Sequence[Ask]) -> list[int]:
        """Return the last requests before the refused one that have GPUs these asks could use."""
        types = types_of(asks)
        mine = (
            n for n in reversed(range(self._given, refused)) if self._may_move(n, refused, types)
        )
        return list(islice(mine, REACH))

    def _may_move(self, number: int, refused: int, types: frozenset[str]) -> bool:
        """Whether a request has a place on one of these types (none: any), and may leave it."""
        outcome, other = self._done[number].outcome, self._requests[refused]
        if outcome.victims or outcome.part or not isinstance(outcome.placed, Placed):
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
        self.places += 2 * len(before)
        for done in before.values():
            self._release(done)
        found: dict[int, _Done] = {}
        try:
            for number in order:
                found[number] = self._serve(self._requests[number])
                if not self._content(found[number], before.get(number)):
                    return Attempt(number, len(found))
            self._done = [found.get(number, done) for number, done in enumerate(self._done)]
            before = {}
            return Attempt(None, len(found))
        finally:  # also where placement raises on one of them
            if before:
                for done in found.values():
                    self._release(done)
                for done in before.values():
                    self._hold(done)

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
        self._open = None
        held: dict[str, set[int]] = {}
        for done in self._done[max(number, self._given) :]:
            self._promise(done, -1)
        for done in self._done[number:]:
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
