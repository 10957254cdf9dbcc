"""How a run begins: counts in service at second 0, and where they stand; alike for every policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Protocol

from heteroscale.words import Role
from heteroscale_coordinator.core.placement import Ask, Infeasible, Spot, place
from heteroscale_coordinator.core.policy import bounds, ratio
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.fleet import FleetTooSmallError, Host, check_room
from heteroscale_simulator.traffic.load import Load
from heteroscale_simulator.world.twin import Order, Post

FIRST = 5
"""Minutes that the run is provided for at its start."""
SHARES = [0.5 ** (step / 8) for step in range(161)] + [0.0]
"""Of the first minutes' load, from all to none: a fleet too small begins with the first that fits."""
_ASKS = {Role.PREFILL: "input_tokens", Role.DECODE: "output_tokens"}


class Newcomer(Protocol):
    """A service that is about to begin."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def spec(self) -> ServiceSpec:
        """What it asks for."""

    @property
    def load(self) -> Load:
        """What arrives for it."""

    @property
    def initial(self) -> Mapping[Role, int] | None:
        """Counts to begin with, if stated."""

    @property
    def yields(self) -> bool:
        """Whether it begins with less than stated where there is no room."""


Beginning = dict[str, tuple[Mapping[Role, int], tuple[Order, ...]]]
"""By service: the counts, and where each instance stands."""


def begin(newcomers: Sequence[Newcomer], hosts: Sequence[Host]) -> Beginning:
    """Return what stands at second 0.

    Stated counts are taken as they are. Others, and those that yield, are what the first minutes need;
    where the fleet has no room for that, the largest part of it that fits, alike for all services.

    Raises:
        FleetTooSmallError: minimum or stated counts have no place.

    """
    found = _try(newcomers, hosts, SHARES[0])
    if not isinstance(found, FleetTooSmallError):
        return found
    best = _try(newcomers, hosts, SHARES[-1])
    if isinstance(best, FleetTooSmallError):
        raise best
    lacks, fits = 0, len(SHARES) - 1
    while fits - lacks > 1:
        middle = (fits + lacks) // 2
        found = _try(newcomers, hosts, SHARES[middle])
        if isinstance(found, FleetTooSmallError):
            lacks = middle
        else:
            fits, best = middle, found
    return best


def _try(
    newcomers: Sequence[Newcomer], hosts: Sequence[Host], share: float
) -> Beginning | FleetTooSmallError:
    types = {host.gpu_type: 1 for host in hosts}
    counts = {one.name: _counts(one, types, share) for one in newcomers}
    free = {host.name: set(host.sound) for host in hosts}
    try:
        check_room({one.name: (one.spec, counts[one.name]) for one in newcomers}, hosts)
        return {
            one.name: (
                counts[one.name],
                _orders(one.name, one.spec, counts[one.name], hosts, free),
            )
            for one in newcomers
        }
    except FleetTooSmallError as lack:
        return lack


def _counts(one: Newcomer, types: Mapping[str, int], share: float) -> Mapping[Role, int]:
    if one.initial is None:
        return initial_counts(one.spec, one.load, types, share)
    if not one.yields:
        return one.initial
    return {role: max(1, ceil(share * n)) for role, n in one.initial.items()}


def initial_counts(
    spec: ServiceSpec, load: Load, fleet_types: Mapping[str, int], share: float = 1.0
) -> dict[Role, int]:
    """Return the counts that carry the busiest of the first five minutes at the roles' targets.

    Tokens that arrive ÷ the target of the first preferred GPU type that the fleet has, rounded up,
    inside minimum, maximum, ratio and budget. ``share`` is that of the load to provide for.
    """
    wish = {}
    for role, column in _ASKS.items():
        asked = spec.roles[role]
        there = [name for name in asked.gpu_types or fleet_types if name in fleet_types]
        target = asked.target_of(there[0] if there else "")
        busiest = float(load.by_minute(column)[:FIRST].max(initial=0.0))
        wish[role] = max(1, ceil(share * busiest / target))
    least = {role: max(wish[role], spec.roles[role].min) for role in wish}
    # A prefill that needs more than the ratio allows takes decode along.
    least[Role.DECODE] = max(least[Role.DECODE], ratio.decode_for(least[Role.PREFILL], spec.ratio))
    return bounds.fit_out(bounds.starting_counts(spec), least, spec)


def _orders(
    name: str,
    spec: ServiceSpec,
    counts: Mapping[Role, int],
    hosts: Sequence[Host],
    free: dict[str, set[int]],
) -> tuple[Order, ...]:
    """Put instances where the coordinator's own placement would, and take their GPUs from ``free``."""
    templates = frozenset(role.template for role in spec.roles.values())
    nodes = [host.view(free[host.name], templates) for host in hosts]
    found = place(Ask(name, spec.roles, counts, spec.placement), nodes, ())
    if isinstance(found, Infeasible):
        wanted = ", ".join(f"{n} {role.value}" for role, n in counts.items())
        why = "; ".join(found.reasons[:3])
        raise FleetTooSmallError(f"{name}: no place for its first {wanted}: {why}")
    for spot in found.spots:
        for rank in spot.ranks:
            free[rank.agent_id].difference_update(rank.gpu_indices)
    return tuple(
        _order(name, f"{name}-first-{number:04d}", spot, spec.roles[spot.role].template)
        for number, spot in enumerate(found.spots)
    )


def _order(service: str, instance_id: str, spot: Spot, template: str) -> Order:
    posts = tuple(Post(rank.agent_id, rank.gpu_indices) for rank in spot.ranks)
    return Order(instance_id, service, spot.role, spot.gpu_type, posts, spot.group, None, template)
