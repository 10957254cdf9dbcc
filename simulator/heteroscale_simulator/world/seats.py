"""Where a rival's new instance goes: preferred GPU type first, near the other role, first fit.

A favour to rivals: their own schedulers know no network (field.md §5.6), this one prefers the S1, then
the S2, where most of the other role stands, and fills hosts in their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from heteroscale.words import Role
from heteroscale_coordinator.core.spec import RoleSpec
from heteroscale_simulator.fleet import Host
from heteroscale_simulator.world.twin import Order, Post
from heteroscale_simulator.world.yard import Tenant, Yard

OTHER = {Role.PREFILL: Role.DECODE, Role.DECODE: Role.PREFILL}


def seat(yard: Yard, tenant: Tenant, role: Role, instance_id: str) -> Order | None:
    """Return an order for one new instance where it fits, or None: no node has room."""
    asked = tenant.spec.roles[role]
    types = asked.gpu_types or tuple(dict.fromkeys(h.gpu_type for h in yard.hosts.values()))
    for gpu_type in types:
        fits = list(_with_room(yard, gpu_type, asked))
        if len(fits) < asked.ranks:
            continue
        chosen = _nearest(fits, tenant, role, yard, asked.ranks)
        posts = tuple(
            Post(host.name, tuple(sorted(yard.free[host.name])[: asked.gpus])) for host in chosen
        )
        group = f"{tenant.name}@s1={chosen[0].topology.get('s1', chosen[0].name)}"
        return Order(instance_id, tenant.name, role, gpu_type, posts, group)
    return None


def _with_room(yard: Yard, gpu_type: str, asked: RoleSpec) -> Iterator[Host]:
    for host in yard.hosts.values():
        if host.gpu_type == gpu_type and len(yard.free[host.name]) >= asked.gpus:
            yield host


def _nearest(
    fits: Sequence[Host], tenant: Tenant, role: Role, yard: Yard, ranks: int
) -> Sequence[Host]:
    peers: Counter[tuple[str, str]] = Counter()
    for twin in tenant.twins.values():
        if twin.role is OTHER[role]:
            topology = yard.hosts[twin.host].topology
            peers.update((level, topology[level]) for level in ("s1", "s2") if level in topology)

    def near(host: Host) -> tuple[int, int]:
        s1, s2 = host.topology.get("s1", ""), host.topology.get("s2", "")
        return -peers["s1", s1], -peers["s2", s2]

    return sorted(fits, key=near)[:ranks]
