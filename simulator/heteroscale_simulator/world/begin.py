"""How a run begins: counts in service at second 0, and where they stand; alike for every policy."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from heteroscale.words import Role
from heteroscale_coordinator.core.placement import Ask, Infeasible, NodeView, Spot, place
from heteroscale_coordinator.core.policy import bounds, ratio
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.fleet import FleetTooSmallError, Host
from heteroscale_simulator.traffic.load import Load
from heteroscale_simulator.world.twin import Order, Post
from heteroscale_simulator.world.yard import Tenant, Yard

FIRST = 5
"""Minutes that the run is provided for at its start."""
_ASKS = {Role.PREFILL: "input_tokens", Role.DECODE: "output_tokens"}


def initial_counts(
    spec: ServiceSpec, load: Load, fleet_types: Mapping[str, int]
) -> dict[Role, int]:
    """Return the counts that carry the busiest of the first five minutes at the roles' targets.

    Tokens that arrive ÷ the target of the first preferred GPU type that the fleet has, rounded up,
    inside minimum, maximum, ratio and budget.
    """
    wish = {}
    for role, column in _ASKS.items():
        asked = spec.roles[role]
        there = [name for name in asked.gpu_types or fleet_types if name in fleet_types]
        target = asked.target_of(there[0] if there else "")
        busiest = float(load.by_minute(column)[:FIRST].max(initial=0.0))
        wish[role] = max(1, ceil(busiest / target))
    least = {role: max(wish[role], spec.roles[role].min) for role in wish}
    # A prefill that needs more than the ratio allows takes decode along.
    least[Role.DECODE] = max(least[Role.DECODE], ratio.decode_for(least[Role.PREFILL], spec.ratio))
    return bounds.fit_out(bounds.starting_counts(spec), least, spec)


def stand_up(yard: Yard, tenant: Tenant, counts: Mapping[Role, int]) -> None:
    """Put the initial instances where the coordinator's own placement would put them.

    Raises:
        FleetTooSmallError: they have no place.

    """
    spec = tenant.spec
    nodes = [_view(yard, host, spec) for host in yard.hosts.values()]
    found = place(Ask(tenant.name, spec.roles, counts, spec.placement), nodes, ())
    if isinstance(found, Infeasible):
        wanted = ", ".join(f"{n} {role.value}" for role, n in counts.items())
        why = "; ".join(found.reasons[:3])
        raise FleetTooSmallError(f"{tenant.name}: no place for its first {wanted}: {why}")
    for number, spot in enumerate(found.spots):
        yard.stand(_order(tenant, f"{tenant.name}-first-{number:04d}", spot))


def _view(yard: Yard, host: Host, spec: ServiceSpec) -> NodeView:
    return NodeView(
        agent_id=host.name,
        hostname=host.name,
        topology=host.topology,
        gpu_types=dict.fromkeys(range(host.gpus), host.gpu_type),
        free=tuple(sorted(yard.free[host.name])),
        templates=frozenset(role.template for role in spec.roles.values()),
    )


def _order(tenant: Tenant, instance_id: str, spot: Spot) -> Order:
    posts = tuple(Post(rank.agent_id, rank.gpu_indices) for rank in spot.ranks)
    return Order(instance_id, tenant.name, spot.role, spot.gpu_type, posts, spot.group)
