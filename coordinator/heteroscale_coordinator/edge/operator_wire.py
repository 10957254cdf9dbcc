"""What operators are shown: the core's values as messages of ``operator.proto``.

Pure. An unknown value is left unset, never zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from heteroscale.convert import duration, timestamp, to_wire, unix_seconds
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import TOPOLOGY_LEVELS, InstanceState, Role
from heteroscale_coordinator.core import sums
from heteroscale_coordinator.core.model import (
    LIVE_STATES,
    STARTING_STATES,
    Action,
    Decision,
    Instance,
    Service,
    SignalValue,
)
from heteroscale_coordinator.core.seen import NotedChange
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.sums import Sum
from heteroscale_coordinator.core.track import Track
from heteroscale_coordinator.edge.store.query import DecisionQuery

RATE_WINDOW_S = 15.0
FRESH_S = 15.0
"""A reading older than this is shown as unknown."""
UNGROUPED = "ungrouped"
DEFAULT_PAGE = 20
MAX_PAGE = 1000
MAX_PAGE_WITH_ARITHMETIC = 100


def service_message(service: Service, state: State, last: Decision | None) -> pb.Service:
    """Return a service with the counts of its instances and its last decision."""
    counts = Counter((i.role, _column(i.state)) for i in state.of_service(service.name))
    cordoned = Counter(i.role for i in state.of_service(service.name) if _on_cordon(i, state))
    message = pb.Service(
        name=service.name,
        document=service.document,
        paused=bool(service.paused),
        advisory=service.spec.watched,
        external=service.spec.external,
        quarantine=service.quarantine,
        condition=condition(service, state),
    )
    for role, spec in service.spec.roles.items():
        message.roles.add(
            role=to_wire(role),
            wanted=service.memory.wanted.get(role, spec.min),
            min=spec.min,
            max=spec.max,
            cordoned=cordoned[role],
            **{column: counts[role, column] for column in _COLUMNS},
        )
    prefills = counts[Role.PREFILL, "in_service"] + counts[Role.ATTENTION, "in_service"]
    if decodes := counts[Role.DECODE, "in_service"]:
        message.ratio = prefills / decodes
    if ffns := counts[Role.FFN, "in_service"]:
        message.inner_ratio = prefills / ffns
    message.routers.extend(_routers(service, state))
    if last is not None:
        message.last_decision.CopyFrom(decision_message(last))
        message.signals.extend(_signal(value) for value in last.signals)
    return message


def _on_cordon(instance: Instance, state: State) -> bool:
    return instance.state in LIVE_STATES and any(
        state.closed(rank.agent_id).holds(rank.gpu_indices) for rank in instance.ranks
    )


def _routers(service: Service, state: State) -> list[pb.RouterStatus]:
    tracks = state.routers.get(service.name, {}).values()
    found = []
    named = [track for track in tracks if track.named(state.turned_at)]
    for track in sorted(named, key=lambda one: (one.name, one.url)):
        age = track.age(state.turned_at)
        fresh = age is not None and age <= service.spec.policy.freshness
        found.append(
            pb.RouterStatus(
                name=track.name,
                url=track.url,
                quality="missing" if age is None else "ok" if fresh else "stale",
                agent_id=track.agent_id,
                age=None if age is None else duration(age),
            )
        )
    return found


_COLUMNS = ("pending", "in_service", "withdrawn", "draining", "unknown")


def _column(state: InstanceState) -> str:
    return "pending" if state in STARTING_STATES else state.value


def condition(service: Service, state: State) -> str:
    """Return what stands in the way of deciding, or ``ready``.

    ``deleting``; ``partition`` (some of its agents are silent with many others, nothing is replaced
    or withdrawn); ``covering`` (some agent of its instances is unheard yet).
    """
    if service.deleting:
        return "deleting"
    homes = {
        rank.agent_id
        for instance in state.of_service(service.name)
        if instance.state in LIVE_STATES
        for rank in instance.ranks
        if rank.agent_id
    }
    if not homes.isdisjoint(state.cut_off):
        return "partition"
    agents = (state.agents.get(home) for home in homes)
    heard = all(agent is not None and agent.heard for agent in agents)
    return "ready" if heard else "covering"


def _signal(value: SignalValue) -> pb.Signal:
    return pb.Signal(
        name=value.name,
        value=value.value,
        unit=value.unit,
        quality=value.quality,
        coverage=value.coverage,
        window=duration(value.window) if value.window else None,
        freshness=duration(value.freshness) if value.freshness else None,
        reason=value.reason,
    )


def decision_message(decision: Decision, *, arithmetic: bool = False) -> pb.Decision:
    """Return a decision; what a scale-in takes away is negative.

    ``arithmetic`` adds some kilobytes: sums, done again here, signals, and ranges of a run.
    """
    sign = -1 if decision.action is Action.SCALE_IN else 1
    sizing = decision.delta.get(Role.DECODE, 0) + decision.delta.get(Role.AGGREGATED, 0)
    message = pb.Decision(
        decision_id=decision.decision_id,
        service=decision.service,
        time=timestamp(decision.at),
        action=decision.action.value,
        prefill_delta=sign * decision.delta.get(Role.PREFILL, 0),
        decode_delta=sign * sizing,
        attention_delta=sign * decision.delta.get(Role.ATTENTION, 0),
        ffn_delta=sign * decision.delta.get(Role.FFN, 0),
        reason=decision.reason,
        inputs=decision.inputs,
        bound_by=decision.bound_by,
        repeat_count=decision.repeat_count,
        last_time=timestamp(decision.last_at or decision.at),
        advisory=decision.advisory,
        instance_ids=decision.instance_ids,
    )
    if arithmetic:
        message.sums.extend(_sum(name, line) for name, line in decision.sums.items())
        message.signals.extend(_signal(value) for value in decision.signals)
        for name, (lowest, highest, unit) in decision.ranges.items():
            message.ranges.add(name=name, lowest=lowest, highest=highest, unit=unit)
    return message


def decision_query(request: pb.ListDecisionsRequest) -> DecisionQuery:
    """Return what a request asks of the record, inside the limits of one answer.

    Raises:
        ValueError: it cannot be asked; with the field and what would be right.

    """
    if request.only_acted and request.only_advice:
        raise ValueError("only_acted and only_advice leave nothing: give one of them")
    actions = [action.value for action in Action]
    for action in request.actions:
        if action not in actions:
            raise ValueError(f"no action {action!r}: give {', '.join(actions)}")
    begin = unix_seconds(request.start_time) if request.HasField("start_time") else None
    end = unix_seconds(request.end_time) if request.HasField("end_time") else None
    if begin is not None and end is not None and begin >= end:
        raise ValueError("start_time must be before end_time")
    most = MAX_PAGE_WITH_ARITHMETIC if request.with_arithmetic else MAX_PAGE
    return DecisionQuery(
        service=request.service,
        limit=min(request.page_size or DEFAULT_PAGE, most),
        since=begin,
        until=end,
        actions=tuple(request.actions),
        bound_by=tuple(request.bound_by),
        only="acted" if request.only_acted else "advice" if request.only_advice else "",
        instance=request.instance_id,
        after=request.page_token,
    )


def _sum(name: str, line: Sum) -> pb.Sum:
    return pb.Sum(
        name=name,
        formula=line.formula,
        terms=line.terms,
        value=line.value,
        unit=line.unit,
        note=line.note,
        replayed=sums.same(line),
    )


def instance_message(
    instance: Instance, track: Track | None, now: float, sick: str = ""
) -> pb.Instance:
    """Return an instance with its load at ``now``, as far as that is fresh.

    ``sick``: what is wrong with what it stands on.
    """
    fresh = track.newest if track is not None and track.fresh(now, FRESH_S) else None
    return pb.Instance(
        instance_id=instance.instance_id,
        service=instance.service,
        role=to_wire(instance.role),  # type: ignore[arg-type]
        state=to_wire(instance.state),  # type: ignore[arg-type]
        withdraw_reason=to_wire(instance.reason),  # type: ignore[arg-type]
        generation=instance.generation,
        agent_ids=[rank.agent_id for rank in instance.ranks],
        gpu_type=instance.gpu_type,
        group=instance.group,
        endpoint=instance.endpoint,
        create_time=timestamp(instance.created_at),
        state_time=timestamp(instance.changed_at),
        message=instance.message,
        running=fresh.running if fresh else None,
        waiting=fresh.waiting if fresh else None,
        tokens_per_second=_tokens_per_second(instance.role, track, now) if fresh else None,
        gpu_indices=[index for rank in instance.ranks for index in rank.gpu_indices],
        origin=instance.origin,
        sick=sick,
        end_time=None if instance.ends_at is None else timestamp(instance.ends_at),
        leaving=instance.leaves_by is not None,
    )


def class_change_message(noted: NotedChange) -> pb.ClassChange:
    """Return a change of RDMA subgroup class."""
    change = noted.change
    return pb.ClassChange(
        time=timestamp(noted.at),
        domain=change.domain,
        before=change.before.name.lower(),
        after=change.after.name.lower(),
        nodes=len(change.agent_ids),
        reason=noted.cause,
    )


def forgotten_instance(instance_id: str) -> pb.Instance:
    """Return what watchers are told of an instance whose row is gone."""
    gone = to_wire(InstanceState.TERMINATED)
    return pb.Instance(instance_id=instance_id, state=gone, message="forgotten")  # type: ignore[arg-type]


def _tokens_per_second(role: Role, track: Track | None, now: float) -> float | None:
    """Return generated tokens/s; for prefill computed prompt tokens/s, the work it is there for."""
    if track is None:
        return None
    points, prefill = track.window(now, RATE_WINDOW_S), role in (Role.PREFILL, Role.ATTENTION)
    counted = ((p.at, p.computed_prompt_tokens if prefill else p.generation_tokens) for p in points)
    known = [(at, value) for at, value in counted if value is not None]
    if len(known) < 2 or known[-1][0] <= known[0][0]:  # noqa: PLR2004 - a rate takes two points
        return None
    (begin, first), (end, last) = known[0], known[-1]
    return max(0.0, (last - first) / (end - begin))


def group_messages(instances: Iterable[Instance], state: State) -> list[pb.Group]:
    """Return the deployment groups of the live instances, in order of service and name."""
    members: dict[tuple[str, str], list[Instance]] = {}
    for instance in instances:
        if instance.state in LIVE_STATES:
            key = (instance.service, instance.group or UNGROUPED)
            members.setdefault(key, []).append(instance)
    return [
        _group(service, name, found, state) for (service, name), found in sorted(members.items())
    ]


def _group(service: str, name: str, members: Sequence[Instance], state: State) -> pb.Group:
    roles = Counter(instance.role for instance in members)
    prefills = roles[Role.PREFILL] + roles[Role.ATTENTION]
    return pb.Group(
        name=name,
        service=service,
        domain=_domain(members, state),
        prefill=prefills,
        decode=roles[Role.DECODE],
        other=len(members) - prefills - roles[Role.DECODE],
    )


def _domain(members: Sequence[Instance], state: State) -> str:
    """Return the nearest network domain, S1 or wider, that all share; empty when there is none."""
    homes = {rank.agent_id for instance in members for rank in instance.ranks}
    maps = [agent.inventory.topology if (agent := state.agents.get(h)) else {} for h in homes]
    for level in TOPOLOGY_LEVELS[1:]:
        names = {topology.get(level) for topology in maps}
        if len(names) == 1 and (name := names.pop()):
            return f"{level}={name}"
    return ""
