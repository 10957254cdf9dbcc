"""A plan: services placed one after the other on a fleet, as the coordinator would, and why there.

Pure. In order of priority; what one takes the next cannot have. Nothing is changed by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from heteroscale.words import Role
from heteroscale_cli.placing.inventory import Holder, Inventory, Node
from heteroscale_cli.placing.subclusters import told
from heteroscale_cli.placing.trials import kept_back
from heteroscale_coordinator.core.placement import (
    Ask,
    FleetView,
    Infeasible,
    Move,
    NodeView,
    Placed,
    Remedy,
    Spot,
    Standing,
    remedies,
    repair,
    unwelcome,
)
from heteroscale_coordinator.core.placement.emptying import Emptied, Tenant, defragment
from heteroscale_coordinator.core.spec import PlacementSpec, ServiceSpec

Counts = Mapping[Role, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """A service of which some instances are to be placed."""

    name: str
    spec: ServiceSpec
    counts: Counts | None = None
    """New instances by role; None: what its `min` still lacks."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What came of one service."""

    asked: Asked
    counts: Counts
    """What was placed, or was to be."""
    standing: tuple[Standing, ...]
    found: Placed | Infeasible
    before: tuple[Node, ...]
    """The fleet as this service found it."""
    remedies: tuple[Remedy, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def spots(self) -> tuple[Spot, ...]:
        """New instances; none when it has no place."""
        return self.found.spots if isinstance(self.found, Placed) else ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All services, and the fleet once they stand."""

    fleet: str
    services: tuple[Planned, ...]
    after: Inventory = field(repr=False)

    @property
    def feasible(self) -> bool:
        """Whether every service has its place."""
        return all(isinstance(one.found, Placed) for one in self.services)


def make(inventory: Inventory, services: Sequence[Asked], *, helpful: bool = True) -> Plan:
    """Return the plan; services of higher priority come first, equal ones as they were given.

    ``helpful``: look for what would help where there is no place.
    """
    nodes = inventory.nodes
    if inventory.any_template:
        every = frozenset(role.template for one in services for role in one.spec.roles.values())
        nodes = tuple(replace(node, view=replace(node.view, templates=every)) for node in nodes)
    planned, view = [], FleetView(node.view for node in nodes)
    for asked in sorted(services, key=lambda one: -one.spec.priority):
        one = _plan(asked, replace(inventory, nodes=nodes), view, helpful=helpful)
        planned.append(one)
        nodes = taken(nodes, one.spots)
        for node in nodes if one.spots else ():
            view.put(node.view)
    return Plan(inventory.name, tuple(planned), replace(inventory, nodes=nodes))


def taken(nodes: Sequence[Node], spots: Sequence[Spot]) -> tuple[Node, ...]:
    """Return the nodes with the GPUs of new instances held."""
    gpus: dict[str, set[int]] = {}
    for spot in spots:
        for rank in spot.ranks:
            gpus.setdefault(rank.agent_id, set()).update(rank.gpu_indices)
    return tuple(_less(node, gpus.get(node.view.agent_id)) for node in nodes)


def _less(node: Node, gpus: set[int] | None) -> Node:
    if not gpus:
        return node
    free = tuple(index for index in node.view.free if index not in gpus)
    return replace(node, view=replace(node.view, free=free), held=node.held | gpus)


def _plan(asked: Asked, inventory: Inventory, view: FleetView, *, helpful: bool) -> Planned:
    spec, nodes = asked.spec, inventory.nodes
    standing: tuple[Standing, ...] = inventory.standing.get(asked.name, ())
    here = Counter(one.role for one in standing if not one.withdrawn)
    counts = asked.counts
    if counts is None:
        counts = {role: max(0, rules.min - here[role]) for role, rules in spec.roles.items()}
    ask = Ask(
        asked.name,
        spec.roles,
        counts,
        spec.placement,
        inventory.vendors,
        inventory.prices,
        told(inventory, asked.name, standing),
    )
    # A trial is one instance of each role: one role alone may not be allowed by the ratio.
    trial = sum(
        spec.roles[role].gpus for role, count in counts.items() if count and role in spec.roles
    )
    with view.less({}, kept_back(nodes, trial)) as offered:
        found = offered.place(ask, standing)
        wanting = helpful and isinstance(found, Infeasible)
        would_help = remedies(ask, offered, standing) if wanting else ()
    notes = (
        *_unknown_types(spec, list(view)),
        *_bounds(spec, counts, here),
        *(f"breaker: {what}: {why}" for what, why in inventory.breakers.items()),
    )
    return Planned(asked, counts, standing, found, nodes, would_help, notes)


def _unknown_types(spec: ServiceSpec, nodes: Sequence[NodeView]) -> Iterator[str]:
    there = sorted({kind for node in nodes for kind in node.gpu_types.values()})
    for role, rules in spec.roles.items():
        strange = [kind for kind in rules.gpu_types if kind not in there]
        if strange:
            yield (
                f"spec.roles.{role}.gpuTypes: the fleet has no {' and no '.join(strange)}; "
                f"it has {', '.join(there) or 'no GPUs'}"
            )


def _bounds(spec: ServiceSpec, counts: Counts, here: Counter[Role]) -> Iterator[str]:
    """Say where the coordinator would not go so far: placement knows no bounds."""
    after = {role: here[role] + counts.get(role, 0) for role in spec.roles}
    for role, count in after.items():
        if count > (most := spec.roles[role].max):
            yield f"spec.roles.{role}.max is {most}: {count} would be above it"
    gpus = sum(spec.roles[r].gpus * spec.roles[r].ranks * n for r, n in after.items())
    if spec.max_gpus is not None and gpus > spec.max_gpus:
        yield f"spec.maxGpus is {spec.max_gpus}: {gpus} GPUs would be above it"
    prefill, decode = after.get(Role.PREFILL, 0), after.get(Role.DECODE, 0)
    if prefill and decode:
        band = spec.ratio.limits(decode)
        if not band.low <= prefill <= band.high:
            yield (
                f"spec.ratio allows {_range(band.low, band.high)} prefill beside {decode} decode; "
                f"it would be {prefill}"
            )


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def healing(inventory: Inventory, asked: Asked) -> Move | str:
    """Return the move that repair would make for a service now, or why there is none; empty: all is well.

    That it is quiet enough for a move is the coordinator's to say.
    """
    spec, view = asked.spec, FleetView(node.view for node in inventory.nodes)
    standing = tuple(
        replace(one, unwelcome=_unwelcome(one, view, spec))
        for one in inventory.standing.get(asked.name, ())
    )

    def placer(one: Standing, placement: PlacementSpec) -> Placed | Infeasible:
        if one.instance_id in inventory.foreign:
            return Infeasible(("it was not launched by us",))
        delta, rest = {one.role: 1}, [other for other in standing if other is not one]
        ask = Ask(
            asked.name,
            spec.roles,
            delta,
            placement,
            inventory.vendors,
            inventory.prices,
            told(inventory, asked.name, rest),
        )
        with view.less({}, kept_back(inventory.nodes, spec.roles[one.role].gpus)) as offered:
            return offered.place(ask, rest)

    inner = spec.inner_ratio
    return repair(standing, view, spec.ratio, spec.placement, placer, inner=inner)


def _unwelcome(one: Standing, view: FleetView, spec: ServiceSpec) -> str:
    """Return the taint that has an instance leave its node, in words; empty: none."""
    for node in filter(None, map(view.node, one.agent_ids)):
        if why := unwelcome(node.agent_id, node.taints, spec.placement.tolerations):
            return why
    return ""


def emptied(inventory: Inventory, holders: Sequence[Holder]) -> tuple[Emptied, ...]:
    """Return the nodes that moves inside S1s would empty; what nobody is known to hold stays."""
    known: dict[str, set[int]] = {}
    for holder in holders:
        known.setdefault(holder.tenant.agent_id, set()).update(holder.tenant.gpus)
    strange = [
        Tenant("", node.view.agent_id, tuple(sorted(rest)), movable=False)
        for node in inventory.nodes
        if (rest := node.held - known.get(node.view.agent_id, set()))
    ]
    views = [node.view for node in inventory.nodes]
    return defragment(views, [*(holder.tenant for holder in holders), *strange])


def moved(inventory: Inventory, found: Sequence[Emptied]) -> Inventory:
    """Return the fleet once these nodes are empty."""
    to: dict[str, set[int]] = {}
    agents: dict[str, str] = {}
    for one in found:
        for shift in one.shifts:
            to.setdefault(shift.agent_id, set()).update(shift.gpus)
            agents[shift.instance_id] = shift.agent_id
    empty = {one.agent_id for one in found}
    nodes = tuple(
        _emptied(node) if node.view.agent_id in empty else _less(node, to.get(node.view.agent_id))
        for node in inventory.nodes
    )
    standing = {
        service: tuple(
            replace(one, agent_ids=(agents[one.instance_id],)) if one.instance_id in agents else one
            for one in some
        )
        for service, some in inventory.standing.items()
    }
    return replace(inventory, nodes=nodes, standing=standing)


def _emptied(node: Node) -> Node:
    return Node(replace(node.view, free=tuple(sorted(node.view.gpu_types))), frozenset())


def helped_by_moves(
    inventory: Inventory, one: Planned, found: Sequence[Emptied]
) -> tuple[Emptied, ...]:
    """Return the fewest of the nodes found that, once empty, give a service its place; empty: none."""

    def fits(count: int) -> bool:
        there = moved(replace(inventory, nodes=one.before), found[:count])
        asked = replace(one.asked, counts=one.counts)
        return isinstance(make(there, [asked], helpful=False).services[0].found, Placed)

    if not found or not fits(len(found)):
        return ()
    low, high = 0, len(found)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return tuple(found[:high])
