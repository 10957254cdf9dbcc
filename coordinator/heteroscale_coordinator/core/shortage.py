"""Shortage: several services want the same GPUs, and the one of lower priority gives.

Looked at once a turn, because a policy sees its own service alone. A service lacks GPUs when a step of
it found no place and fewer of the GPUs that it can use are free. After its patience those of lower
priority are asked, the lowest first, as much as it lacks and no more, down to their essential counts
and inside their hourly budgets; what is on its way out already counts. Until its step has a place, no
service of lower priority takes the GPUs that it can use. Nobody gives to an equal, and who is paused,
advisory, scaled by others, quarantined or being deleted neither gives nor takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from heteroscale.words import InstanceState, WithdrawReason
from heteroscale_coordinator.core import sites, subclusters
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.model import Instance, Service
from heteroscale_coordinator.core.placement import Cell, FleetView, Terms, intolerable
from heteroscale_coordinator.core.placement.kind import Tolerations
from heteroscale_coordinator.core.policy.give import budget, essential
from heteroscale_coordinator.core.policy.view import Short
from heteroscale_coordinator.core.spec import RoleSpec, ServiceSpec
from heteroscale_coordinator.core.subclusters import Doors
from heteroscale_coordinator.core.topology import sub_cluster_in, sub_cluster_of


@dataclass(frozen=True, slots=True)
class Lack:
    """What one service cannot place."""

    service: str
    priority: int
    ripe: bool
    """Whether it has been patient for long enough."""
    roles: tuple[RoleSpec, ...]
    """Roles it lacks GPUs for."""
    gpus: int
    """How many more of the GPUs that it can use must be free."""
    beyond: int
    """How many are free beyond what it asks for; negative: so many are lacking."""
    doors: Doors
    """Where it may take GPUs."""
    asked: Mapping[str, int] = field(default_factory=dict)
    """GPUs that services of lower priority are asked for, by name; reckoned once a turn."""
    tolerations: Tolerations = ()

    def fits(self, gpu_type: str, terms: Terms, sub_cluster: str) -> bool:
        """Return whether a GPU of that type, on a node of these terms, helps."""
        if not self.doors.own(sub_cluster) or intolerable(terms.taints, self.tolerations):
            return False
        return any(
            role.template in terms.templates and (not role.gpu_types or gpu_type in role.gpu_types)
            for role in self.roles
        )

    def shares(self, spec: ServiceSpec) -> bool:
        """Return whether the other service may launch on the same GPU types."""
        return any(
            not mine.gpu_types
            or not theirs.gpu_types
            or set(mine.gpu_types) & set(theirs.gpu_types)
            for mine in self.roles
            for theirs in spec.roles.values()
        )


def lacks(draft: Draft) -> tuple[Lack, ...]:
    """Return what services lack now, the highest priority first."""
    asking = [
        service
        for service in draft.state.services.values()
        if service.memory.stability.unplaced is not None and _acts(service)
    ]
    if not asking:
        return ()
    view = sites.view(draft)
    found = (_lack(draft, service, view) for service in asking)
    shared = (replace(lack, asked=_shares(draft, lack)) for lack in found)
    return tuple(sorted(shared, key=lambda lack: (-lack.priority, lack.service)))


def _acts(service: Service) -> bool:
    return not (service.paused or service.spec.hands_off or service.quarantine or service.deleting)


def _lack(draft: Draft, service: Service, view: FleetView) -> Lack:
    spec, unplaced = service.spec, service.memory.stability.unplaced
    wanted = {r: n for r, n in (unplaced.delta if unplaced else {}).items() if r in spec.roles}
    tolerations, doors = spec.placement.tolerations, subclusters.doors(draft, service)
    pool = _free(view, [spec.roles[role] for role in wanted], tolerations, doors)
    short, roles, asked = 0, [], 0
    for role in sorted(wanted, key=lambda r: (len(spec.roles[r].gpu_types) or 99, r)):
        rules = spec.roles[role]
        need = wanted[role] * rules.gpus * rules.ranks
        left = need
        for gpu_type in rules.gpu_types or sorted(pool):
            taken = min(left, pool[gpu_type])
            pool[gpu_type] -= taken
            left -= taken
        short, asked = short + left, asked + need
        if left:
            roles.append(rules)
    # Beyond its own quotas nobody could help it.
    short = int(min(short, max(0, doors.own_in_all() - (asked - short))))
    since = unplaced.since if unplaced else draft.now
    return Lack(
        service.name,
        spec.priority,
        draft.now - since >= spec.policy.shortage.patience,
        tuple(roles) or tuple(spec.roles[role] for role in wanted),
        short,
        sum(pool.values()) - short,
        doors,
        tolerations=tolerations,
    )


def _free(
    view: FleetView, roles: Sequence[RoleSpec], tolerations: Tolerations, doors: Doors
) -> Counter[str]:
    """Return the free GPUs by type on which an instance of some of the roles has room, and may stand."""
    here: Counter[tuple[str, str]] = Counter()
    for cell in view.domains("cluster"):
        for gpu_type, count in _free_in(view, cell, roles, tolerations).items():
            here[sub_cluster_in(cell.path), gpu_type] += count
    free: Counter[str] = Counter()
    for (name, gpu_type), count in here.items():
        free[gpu_type] += int(min(count, doors.free(name, gpu_type)))
    return free


def _free_in(
    view: FleetView, cell: Cell, roles: Sequence[RoleSpec], tolerations: Tolerations
) -> Counter[str]:
    free: Counter[str] = Counter()
    for shape, agents in cell.shapes.items():
        here = [role for role in roles if view.kinds.of(role, tolerations).admitted(shape.terms)]
        if not here:
            continue
        each = min(role.gpus for role in here)
        for gpu_type, count in shape.free:
            if any(not role.gpu_types or gpu_type in role.gpu_types for role in here):
                free[gpu_type] += len(agents) * (count // each * each)
    return free


def short_for(draft: Draft, service: Service, found: Sequence[Lack]) -> Short | None:
    """Return what a service of lower priority than those that lack GPUs is asked; None: nothing."""
    above = [
        lack
        for lack in found
        if lack.priority > service.spec.priority and lack.shares(service.spec)
    ]
    step = sum(role.gpus * role.ranks for role in service.spec.roles.values())
    above = [lack for lack in above if lack.gpus or lack.beyond < step]
    if not above or not _acts(service):
        return None
    names = ", ".join(lack.service for lack in above)
    ripe = [lack for lack in above if lack.ripe and lack.gpus]
    asked = max((lack.asked.get(service.name, 0) for lack in ripe), default=0)
    mine = [i for i in draft.instances_of(service.name) if _helps(draft, i, ripe)]
    return Short(
        to=names,
        gpus=asked,
        useful=Counter(instance.role for instance in mine),
        instance_ids=frozenset(instance.instance_id for instance in mine),
    )


def _shares(draft: Draft, lack: Lack) -> dict[str, int]:
    """Return how many GPUs each service is to give: the lowest first, what is lacking and no more."""
    if not lack.ripe or not lack.gpus:
        return {}
    services = draft.state.services.values()
    left = lack.gpus - sum(_on_the_way(draft, other, lack) for other in services)
    donors = sorted(
        (one for one in services if one.spec.priority < lack.priority and _acts(one)),
        key=lambda one: (one.spec.priority, one.name),
    )
    found = {}
    for donor in donors:
        if left <= 0:
            break
        if can := min(left, _can_give(draft, donor, lack)):
            found[donor.name] = can
            left -= can
    return found


def _on_the_way(draft: Draft, service: Service, lack: Lack) -> int:
    """Return the GPUs that a service is giving up already, and that help."""
    gives = service.spec.priority < lack.priority and _acts(service)
    leaving = [
        instance
        for instance in draft.instances_of(service.name)
        if (instance.state is InstanceState.DRAINING or (gives and _withdrawn(instance)))
        and _fits(draft, instance, lack)
    ]
    soft = service.memory.soft
    promised = soft.gpus if gives and soft is not None else 0
    return max(promised, sum(_gpus(instance, service.spec) for instance in leaving))


def _withdrawn(instance: Instance) -> bool:
    withdrawn = instance.state is InstanceState.WITHDRAWN
    return withdrawn and instance.reason is WithdrawReason.SOFT_SCALE_IN


def _can_give(draft: Draft, service: Service, lack: Lack) -> int:
    useful = Counter(i.role for i in draft.instances_of(service.name) if _helps(draft, i, [lack]))
    serving = Counter(
        i.role for i in draft.instances_of(service.name) if i.state is InstanceState.IN_SERVICE
    )
    spec = service.spec
    free = sum(
        min(useful[role], max(0, serving[role] - essential(rules))) * rules.gpus * rules.ranks
        for role, rules in spec.roles.items()
    )
    held = sum(serving[role] * rules.gpus * rules.ranks for role, rules in spec.roles.items())
    return min(free, int(budget(service.memory, spec, held, draft.now).value))


def _helps(draft: Draft, instance: Instance, found: Iterable[Lack]) -> bool:
    serving = instance.state is InstanceState.IN_SERVICE and instance.ours
    return serving and any(_fits(draft, instance, lack) for lack in found)


def _fits(draft: Draft, instance: Instance, lack: Lack) -> bool:
    if draft.on_cordon(instance):
        return False  # what it would free is closed to everybody
    voice, agent = (draft.state.agents.get(i) for i in (instance.voice, instance.agent_id))
    if agent is None or voice is None or not voice.connected or voice.silent:
        return False
    templates = frozenset(template.name for template in agent.inventory.templates)
    terms, levels = Terms(templates, agent.inventory.taints), agent.inventory.topology
    return lack.fits(instance.gpu_type, terms, sub_cluster_of(levels))


def _gpus(instance: Instance, spec: ServiceSpec) -> int:
    rules = spec.roles.get(instance.role)
    return rules.gpus * rules.ranks if rules else len(instance.ranks)
