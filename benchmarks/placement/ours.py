"""The coordinator's own placement behind the benchmark's port."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.placement.port import Held
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement import (
    Ask,
    Cycle,
    FleetView,
    Infeasible,
    NodeView,
    Placed,
    Request,
    Spot,
    Standing,
    choose_victims,
)
from heteroscale_coordinator.core.spec import RatioSpec

RATIO = RatioSpec(min=0.1, max=10.0)


class Ours:
    """The view of the fleet, and what it holds."""

    name = "heteroscale"

    def __init__(self, nodes: Sequence[NodeView]) -> None:
        self._view = FleetView(nodes)

    def place(self, ask: Ask, standing: Sequence[Held], now: float) -> tuple[Spot, ...] | None:
        """Take room for a whole step, or none."""
        found = self._view.place(ask, [_standing(held, now) for held in standing])
        if isinstance(found, Infeasible):
            return None
        for spot in found.spots:
            for rank in spot.ranks:
                self._view.hold(rank.agent_id, rank.gpu_indices)
        return found.spots

    def cycle(self, asks: Sequence[Ask], *, ordered: bool) -> list[tuple[Spot, ...] | None]:
        """Place all asks in one cycle: by priority in their order, or all of one priority."""
        requests = [
            Request(ask, priority=-number if ordered else 0) for number, ask in enumerate(asks)
        ]
        cycle = Cycle(self._view, requests)
        cycle.advance(len(requests))
        placed = {one.request.ask.service: one.placed for one in cycle.outcomes}
        cycle.end()
        found = [placed[ask.service] for ask in asks]
        return [one.spots if isinstance(one, Placed) else None for one in found]

    def victims(self, delta: Counts, standing: Sequence[Held], now: float) -> Sequence[Held]:
        """Return the coordinator's choice; all are taken to be equally busy."""
        ones = [_standing(held, now) for held in standing]
        chosen = choose_victims(delta, ones, self._view, RATIO)
        by_id = {held.instance_id: held for held in standing}
        return [by_id[instance_id] for instance_id in chosen.instance_ids]

    def give(self, spot: Spot) -> None:
        """Take back an instance's room."""
        for rank in spot.ranks:
            self._view.release(rank.agent_id, rank.gpu_indices)


def _standing(held: Held, now: float) -> Standing:
    return Standing(
        held.instance_id,
        held.spot.role,
        tuple(rank.agent_id for rank in held.spot.ranks),
        held.spot.group,
        gpu_type=held.spot.gpu_type,
        age=now - held.born,
    )
