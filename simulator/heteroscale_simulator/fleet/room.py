"""Whether a fleet has room for what a service asks at least; if not, said by GPU type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from heteroscale.words import Role
from heteroscale_coordinator.core.spec import RoleSpec, ServiceSpec
from heteroscale_simulator.fleet.hosts import Host


class FleetTooSmallError(ValueError):
    """A fleet cannot hold what is asked of it; the text names types, what is wanted and what is there."""


def check_room(
    services: Mapping[str, tuple[ServiceSpec, Mapping[Role, int]]], fleet: Sequence[Host]
) -> None:
    """Refuse a fleet on which these counts of each service cannot stand at once.

    Necessary conditions only: every role fits a node of its types, and every set of types has the
    GPUs that the roles confined to it want together. Placement itself may still find no seats.

    Raises:
        FleetTooSmallError: with every lack, one a line.

    """
    there = _by_type(fleet)
    lacks = list(_unfit(services, fleet, there))
    wants: Counter[frozenset[str]] = Counter()
    names: dict[frozenset[str], list[str]] = {}
    for name, (spec, counts) in services.items():
        for role, count in counts.items():
            asked = spec.roles[role]
            types = frozenset(there.keys() & set(asked.gpu_types)) or frozenset(there)
            wants[types] += count * asked.gpus * asked.ranks
            names.setdefault(types, []).append(f"{count} {role.value} of {name}")
    for types in () if lacks else list(wants):
        wanted = sum(number for other, number in wants.items() if other <= types)
        have = sum(there[one] for one in types)
        if wanted > have:
            who = ", ".join(w for other in names if other <= types for w in names[other])
            lacks.append(f"{_say(types)}: {wanted} GPUs wanted ({who}), {have} there")
    if lacks:
        raise FleetTooSmallError("the fleet is too small: " + "; ".join(lacks))


def _by_type(fleet: Iterable[Host]) -> Counter[str]:
    there: Counter[str] = Counter()
    for host in fleet:
        there[host.gpu_type] += len(host.sound)
    return there


def _unfit(
    services: Mapping[str, tuple[ServiceSpec, Mapping[Role, int]]],
    fleet: Sequence[Host],
    there: Mapping[str, int],
) -> Iterable[str]:
    """Yield what no node of the fleet could ever hold."""
    for name, (spec, counts) in services.items():
        for role, asked in spec.roles.items():
            if counts.get(role, 0) and (lack := _lack(asked, fleet, there)):
                yield f"{role.value} of {name}: {lack}"


def _lack(asked: RoleSpec, fleet: Sequence[Host], there: Mapping[str, int]) -> str:
    types = set(asked.gpu_types) or set(there)
    if not types & there.keys():
        return f"wants {_say(types)}, the fleet has {_say(there)}"
    fits = [h for h in fleet if h.gpu_type in types and len(h.sound) >= asked.gpus]
    if not fits:
        most = max(len(h.sound) for h in fleet if h.gpu_type in types)
        return f"{asked.gpus} {_say(types)} GPUs on one node wanted, {most} there at most"
    alike = max(Counter(h.gpu_type for h in fits).values())
    if asked.ranks > 1 and alike < asked.ranks:
        return f"{asked.ranks} nodes of one type wanted, one for each rank, {alike} there"
    return ""


def _say(types: Iterable[str]) -> str:
    return " or ".join(sorted(types))
