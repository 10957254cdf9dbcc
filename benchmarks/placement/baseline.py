"""What the baselines share: an instance after the other on the best node, all of a step or nothing.

All or nothing, the order of GPU types, and the walls of a required domain are favours: plain schedulers
know none of the three. No service reaches over its logical cluster: there is no network for its KV cache.
Each baseline says only which node is best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from benchmarks.placement.port import Codes, Flags, Held, Room, Values
from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts, Rank
from heteroscale_coordinator.core.placement import Ask, NodeView, Spot
from heteroscale_coordinator.core.spec import RoleSpec


class Scores(Protocol):
    """Says which node is best."""

    @property
    def name(self) -> str:
        """As the tables call it."""

    def of(self, room: Room, nodes: Codes, item: Item) -> Values:
        """Return a score for each of ``nodes``, all of which have room; the lowest wins."""


class Item:
    """One instance to be placed, and the service's instances so far."""

    def __init__(self, role: Role, spec: RoleSpec, ask: Ask, mates: Sequence[Spot]) -> None:
        self.role, self.spec, self.ask, self.mates = role, spec, ask, mates


class Baseline:
    """A placer that knows no network but the walls of a required domain."""

    def __init__(self, scores: Scores, nodes: Sequence[NodeView]) -> None:
        self.name = scores.name
        self._scores = scores
        self._room = Room(nodes)

    def place(self, ask: Ask, standing: Sequence[Held], now: float) -> tuple[Spot, ...] | None:
        """Take room for a whole step, or none."""
        del now
        mates = [held.spot for held in standing]
        spots: list[Spot] = []
        for unit in units(ask):
            found = self._unit(ask, unit, [*mates, *spots])
            if found is None:
                for spot in spots:
                    self._room.give(spot)
                return None
            spots.extend(found)
        return tuple(spots)

    def victims(self, delta: Counts, standing: Sequence[Held], now: float) -> Sequence[Held]:
        """Return the newest: what a ReplicaSet takes when all else is equal."""
        del now
        newest = sorted(standing, key=lambda held: (-held.born, held.instance_id))
        return [
            held
            for role, count in delta.items()
            for held in [one for one in newest if one.spot.role is role][:count]
        ]

    def give(self, spot: Spot) -> None:
        """Take back an instance's room."""
        self._room.give(spot)

    def _unit(self, ask: Ask, unit: Counts, mates: Sequence[Spot]) -> list[Spot] | None:
        for wall in self._walls(ask, unit, mates):
            spots: list[Spot] = []
            for role, count in unit.items():
                for _ in range(count):
                    item = Item(role, ask.roles[role], ask, [*mates, *spots])
                    spot = self._instance(item, wall)
                    if spot is None:
                        break
                    spots.append(spot)
            if len(spots) == sum(unit.values()):
                return spots
            for spot in spots:
                self._room.give(spot)
        return None

    def _walls(self, ask: Ask, unit: Counts, mates: Sequence[Spot]) -> Iterator[Flags]:
        """Yield the nodes that a unit may use: one domain after the other, the best first."""
        room = self._room
        domain = room.domain[wall_of(ask)]
        allowed = self._beside(unit, mates, domain)
        role = next(iter(unit))
        item = Item(role, ask.roles[role], ask, mates)
        fits = np.flatnonzero(self._fits(item.spec, None) & allowed)
        order = fits[np.argsort(self._scores.of(room, fits, item), kind="stable")]
        for code in dict.fromkeys(domain[order].tolist()):
            yield domain == code

    def _beside(self, unit: Counts, mates: Sequence[Spot], domain: Codes) -> Flags:
        """Return where a lone role may go: where another role of the service stands, if any does."""
        others = [spot for spot in mates if spot.role not in unit]
        if not others:
            return np.ones(len(domain), dtype=np.bool_)
        codes = {int(domain[self._room.number[spot.ranks[0].agent_id]]) for spot in others}
        return np.isin(domain, list(codes))

    def _fits(self, spec: RoleSpec, gpu_type: str | None) -> Flags:
        room = self._room
        fits: Flags = room.free >= spec.gpus
        types = (gpu_type,) if gpu_type is not None else spec.gpu_types
        if types:
            fits &= np.isin(room.kind, [room.kinds.get(name, -1) for name in types])
        return fits

    def _instance(self, item: Item, wall: Flags) -> Spot | None:
        room, spec = self._room, item.spec
        for gpu_type in spec.gpu_types or tuple(room.kinds):
            nodes = np.flatnonzero(self._fits(spec, gpu_type) & wall)
            if len(nodes) < spec.ranks:
                continue
            scores = self._scores.of(room, nodes, item)
            # The lowest number wins among equals, either way; one is found faster than an order.
            best = [scores.argmin()] if spec.ranks == 1 else np.argsort(scores, kind="stable")
            chosen = nodes[best[: spec.ranks]].tolist()
            ranks = tuple(Rank(room.ids[node], room.take(node, spec.gpus)) for node in chosen)
            return Spot(item.role, ranks, item.ask.service, gpu_type)
        return None


def wall_of(ask: Ask) -> str:
    """Return the level of the domain that no unit of a step may leave."""
    return ask.placement.affinity if ask.placement.required else "cluster"


def units(ask: Ask) -> list[dict[Role, int]]:
    """Return the parts of a step that must each stay inside one wall: balanced, with both roles."""
    counts = {role: count for role, count in ask.delta.items() if count > 0}
    if len(counts) == 1:
        ((role, count),) = counts.items()
        return [{role: 1}] * count
    pieces = min(counts.values())
    shares = {role: divmod(count, pieces) for role, count in counts.items()}
    return [
        {role: each + (number < extra) for role, (each, extra) in shares.items()}
        for number in range(pieces)
    ]
