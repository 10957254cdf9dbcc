"""Slurm's nodes and jobs as the port tells them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from heteroscale_scheduler_adapters.port import (
    Gpu,
    Holding,
    Node,
    Phase,
    Running,
    Spot,
    Template,
    World,
)
from heteroscale_scheduler_adapters.slurm import gres, phases, tag
from heteroscale_scheduler_adapters.slurm.records import JobRecord, NodeRecord, ReservationRecord
from heteroscale_scheduler_adapters.slurm.settings import JobOptions, SlurmOptions
from heteroscale_scheduler_adapters.slurm.tag import Tag
from heteroscale_scheduler_adapters.slurm.topology import Place

_CLOSED = {
    "DRAIN": "drained",
    "DRAINING": "drained",
    "DRAINED": "drained",
    "DOWN": "down",
    "FAIL": "failing",
    "FAILING": "failing",
    "ERROR": "in error",
    "MAINT": "in maintenance",
    "MAINTENANCE": "in maintenance",
    "NOT_RESPONDING": "not responding",
    "NO_RESPOND": "not responding",
    "POWERED_DOWN": "powered down",
    "POWER_DOWN": "powering down",
    "POWERING_DOWN": "powering down",
    "REBOOT_ISSUED": "rebooting",
    "REBOOT_REQUESTED": "to be rebooted",
    "INVALID_REG": "registered wrongly",
    "FUTURE": "not there yet",
    "UNKNOWN": "of unknown state",
    "BLOCKED": "blocked",
    "COMPLETING": "completing a job",
}
CLOSED = frozenset(_CLOSED)
"""States in which nothing new starts on a node."""
MARK = "heteroscale: "
"""How the reason of a drain of ours begins."""
_ROLES = frozenset({"prefill", "decode", "aggregated", "attention", "ffn"})


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at Slurm brought."""

    nodes: Sequence[NodeRecord]
    jobs: Sequence[JobRecord]
    reservations: Sequence[ReservationRecord] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    cluster: str = ""
    """The adapter's name: clusters count their jobs each for itself."""
    user: str = ""
    now: float = 0.0
    hidden: Mapping[str, int] = field(default_factory=dict)
    """Node to how many GPUs are used there by jobs that we may not see."""


def world(look: Look, options: SlurmOptions, notes: Iterable[str] = ()) -> World:
    """Return all that is there."""
    mine = instances(look)
    held = _holdings(look, mine)
    nodes = {
        record.name: _node(record, look, options, tuple(held.get(record.name, ())))
        for record in look.nodes
        if not options.partition or options.partition in record.partitions
    }
    running = {one.instance: _running(job, one, look, options) for job, one in mine.values()}
    for job in look.jobs:
        if one := _adopted(job, look):
            running.setdefault(one.instance_id, one)
    return World(
        nodes={name: node for name, node in nodes.items() if node.gpus},
        running=running,
        templates=tuple(Template(t.name, t.role, t.gpus, t.engine) for t in options.templates),
        notes=(*notes, *_notes(look, options)),
    )


def instances(look: Look) -> dict[str, tuple[JobRecord, Tag]]:
    """Return our jobs by instance; of two of one instance the one that goes on, else the first."""
    found: dict[str, tuple[JobRecord, Tag]] = {}
    for job in sorted(look.jobs, key=lambda job: (phases.over(job), job.job_id)):
        if one := tag.ours(job, look.user, look.cluster):
            found.setdefault(one.instance, (job, one))
    return found


def spots(job: JobRecord, one: Tag) -> tuple[Spot, ...]:
    """Return where the ranks stand, rank 0 first."""
    if not job.nodes or phases.waiting(job):
        return (Spot(""),) * max(1, one.ranks)
    taken = dict(zip(job.nodes, map(gres.taken, job.gres), strict=False))
    order = tuple(name for name in one.order.split(",") if name)
    nodes = order if set(order) == set(job.nodes) else job.nodes
    return tuple(Spot(name, taken.get(name, ())) for name in nodes)


def _running(job: JobRecord, one: Tag, look: Look, options: SlurmOptions) -> Running:
    template = next((t for t in options.templates if t.name == one.template), None)
    agent = template is None or not template.script
    phase, message = phases.phase(job, one, agent=agent, now=look.now)
    ranks = spots(job, one)
    address = _address(ranks[0].node, look)
    port = template.port if template else 0
    suspended = job.state in ("SUSPENDED", "STOPPED")
    endpoint = f"http://{address}:{port}" if address and port else ""
    return Running(
        instance_id=one.instance,
        service=one.service,
        role=one.role,
        phase=phase,
        ranks=ranks,
        gate_seen=False if suspended else None,
        endpoint=endpoint,
        names=tuple(
            name for name in (f"job/{job.job_id}", endpoint.removeprefix("http://")) if name
        ),
        group=one.group,
        template=one.template,
        request_id=one.request,
        message=message,
        since=_since(job, phase),
        ends_at=_ends_at(job, phase, options.job_of(template) if template else options.job),
    )


def _ends_at(job: JobRecord, phase: Phase, how: JobOptions) -> float | None:
    """Return when TERM comes: so long before the time limit as its submission asked for."""
    if phase not in (Phase.STARTING, Phase.READY) or not (job.limited and job.ended):
        return None
    return job.ended - (how.warning if how.time_limit else 0.0)


def _since(job: JobRecord, phase: Phase) -> float:
    if phase is Phase.QUEUED:
        return job.submitted
    return job.ended if phase in (Phase.ENDED, Phase.FAILED) else job.started


def _adopted(job: JobRecord, look: Look) -> Running | None:
    """Return a job of others that says which service of ours it is of."""
    said = tag.foreign(job.comments)
    if not said.get("service") or not job.nodes or phases.over(job) or phases.waiting(job):
        return None
    address, port = _address(job.nodes[0], look), said.get("port", "")
    endpoint = f"http://{address}:{port}" if address and port.isdecimal() else ""
    leaves = "COMPLETING" in job.states
    return Running(
        instance_id=adopted_id(look.cluster, job),
        service=said["service"],
        role=said["role"] if said.get("role") in _ROLES else "aggregated",
        phase=Phase.STOPPING if leaves else Phase.READY,
        ranks=spots(job, Tag("", "", "", "", "")),
        endpoint=endpoint,
        names=(f"job/{job.job_id}",),
        origin=holder(job),
        since=job.started,
    )


def adopted_id(cluster: str, job: JobRecord) -> str:
    """Return the id of an instance that is a job of others: another's in each cluster."""
    return f"{cluster}.job-{job.job_id}"


def holder(job: JobRecord) -> str:
    """Return a job as people name it."""
    return f"job/{job.job_id} ({job.user})"


def _address(node: str, look: Look) -> str:
    return next((record.address or node for record in look.nodes if record.name == node), "")


def _holdings(look: Look, mine: Mapping[str, tuple[JobRecord, Tag]]) -> dict[str, list[Holding]]:
    """Return what each node's GPUs are held by."""
    found: dict[str, list[Holding]] = {}
    known = {job.job_id: one.instance for job, one in mine.values()}
    for job in look.jobs:
        if phases.over(job) or phases.waiting(job):
            continue
        for place, node in enumerate(job.nodes):
            told = job.gres[place] if place < len(job.gres) else ""
            count = gres.total(told) if told else gres.total(job.gres_asked)
            if count:
                instance = known.get(job.job_id, "")
                one = Holding(holder(job), count, gres.taken(told), instance)
                found.setdefault(node, []).append(one)
    for record in look.nodes:
        if count := look.hidden.get(record.name, 0):
            held = found.setdefault(record.name, [])
            shown = {index for one in held for index in one.indices}
            rest = tuple(index for index in gres.taken(record.gres_used) if index not in shown)
            indices = rest if len(rest) == count else ()
            held.append(Holding("jobs that Slurm does not show us", count, indices))
    return found


def surplus(look: Look) -> dict[str, int]:
    """Return the nodes that say more of their GPUs are used than the jobs that we may see have."""
    shown = {
        node: sum(one.gpus for one in held)
        for node, held in _holdings(replace(look, hidden={}), {}).items()
    }
    used = {record.name: gres.total(record.gres_used) for record in look.nodes}
    over = {node: count - shown.get(node, 0) for node, count in used.items()}
    return {node: count for node, count in over.items() if count > 0}


def _node(
    record: NodeRecord, look: Look, options: SlurmOptions, holdings: tuple[Holding, ...]
) -> Node:
    place = look.places.get(record.name, Place({}, {}))
    gpus = gpus_of(record, options)
    free = len(gpus) - sum(one.gpus for one in holdings)
    return Node(
        name=record.name,
        gpus=gpus,
        topology=place.names,
        topology_sources=place.sources,
        labels={f"slurm/feature-{name}": "true" for name in record.features},
        closed=_closed(record, look, options, free),
        holdings=holdings,
        address=record.address,
        marked=marked(record),
    )


def marked(record: NodeRecord) -> str:
    """Return the reason for which we drained a node; empty: we did not."""
    ours = record.reason.startswith(MARK) and record.states & {"DRAIN", "DRAINING", "DRAINED"}
    return record.reason.removeprefix(MARK) if ours else ""


def gpus_of(record: NodeRecord, options: SlurmOptions) -> tuple[Gpu, ...]:
    """Return the GPUs of a node, in the order of its ``Gres``."""
    types = [
        options.gpu_types.get(one.type, one.type) or options.untyped
        for one in gres.parse(record.gres)
        for _ in range(one.count)
    ]
    return tuple(Gpu(index, kind) for index, kind in enumerate(types))


def _closed(record: NodeRecord, look: Look, options: SlurmOptions, free: int) -> str:
    reason = f": {record.reason}" if record.reason else ""
    for state, words in _CLOSED.items():
        if state in record.states:
            return f"{words}{reason}"
    if reserved := _reserved(record.name, look, options):
        return reserved
    if record.cpus and record.cpus_used >= record.cpus and free > 0:
        return f"all {record.cpus} processors are taken"
    return ""


def _reserved(node: str, look: Look, options: SlurmOptions) -> str:
    # A job that could still run when a reservation begins is not started by Slurm.
    horizon = look.now + (options.job.time_limit or 0.0)
    inside = False
    for one in look.reservations:
        if node not in one.nodes or (one.end and one.end <= look.now):
            continue
        if one.name == options.reservation:
            inside = one.start <= look.now
        elif one.start <= horizon:
            who = f" for {one.who}" if one.who else ""
            return f"reserved ({one.name}){who}"
    if options.reservation and not inside:
        return f"not in reservation {options.reservation}"
    return ""


def _notes(look: Look, options: SlurmOptions) -> list[str]:
    said: list[str] = []
    for job in look.jobs:
        stuck = look.now - job.ended if "COMPLETING" in job.states and job.ended else 0.0
        if stuck > options.stuck_after:
            where = ", ".join(job.nodes)
            said.append(f"{holder(job)} is COMPLETING for {stuck:.0f} s on {where}")
        one = tag.ours(job, look.user, look.cluster)
        if one and not phases.over(job):
            if all(one.template != t.name for t in options.templates):
                said.append(
                    f"{holder(job)}: instance {one.instance} is of template {one.template!r}, "
                    "which the options do not have"
                )
            if job.state in ("SUSPENDED", "STOPPED"):
                said.append(f"{holder(job)}: instance {one.instance} is suspended")
    return said
