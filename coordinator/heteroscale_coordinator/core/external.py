"""A service that others scale (KEDA, an HPA): it is decided as any other, and asked for, not done.

What is asked for and does not stand yet is shown to the policy as pending, what stands beyond it as
leaving; so no law asks twice, a surplus is no supply, and the ratio is kept in what is asked for. The
counts of all roles are one value with a generation: who reads one role reads the same decision as who
reads the other.

A service that is laid over running pods begins by looking: while agents are still coming in, what is
heard is fewer than what runs, and asking for it would shrink the service. Nothing is asked for before
every role is heard and the counts have stood still for ``rules.cover_for``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.memory.external import ExternalMemory
from heteroscale_coordinator.core.model import (
    LIVE_STATES,
    STARTING_STATES,
    Action,
    Counts,
    Decision,
    Instance,
    Rank,
    Service,
    Verdict,
    counts_as_supply,
)
from heteroscale_coordinator.core.policy import Member, ServiceView
from heteroscale_coordinator.core.policy.view import written

HPA_TOLERANCE = 0.1
"""Share of its present count within which an HPA changes nothing, unless it is told otherwise."""
_ASKING = frozenset({Action.SCALE_OUT, Action.SCALE_IN, Action.REPAIR})


def standing(view: ServiceView) -> dict[Role, int]:
    """Return how many of each role stand: starting, serving, silent or out of service for a while."""
    states = LIVE_STATES - {InstanceState.DRAINING}
    found = Counter(m.instance.role for m in view.members if m.instance.state in states)
    return {role: found[role] for role in view.spec.roles}


def as_asked(view: ServiceView) -> ServiceView:
    """Return the view with what is asked for in place of what stands, and nothing ours to take back."""
    memory = view.memory
    wanted = memory.wanted if memory.external.counts else {}
    stability = replace(memory.stability, unplaced=None)
    members = [_anybodys(member, view) for member in view.members]
    for role in view.spec.roles:
        if role in wanted:
            members = _to_count(members, role, wanted[role], view)
    return replace(
        view,
        members=tuple(members),
        memory=replace(memory, wanted=wanted, soft=None, launch_after=0.0, stability=stability),
    )


def _anybodys(member: Member, view: ServiceView) -> Member:
    """Return a member that may leave whoever started it; what is out of service is coming back."""
    instance = replace(member.instance, origin="")
    if instance.state is InstanceState.WITHDRAWN and not _stuck(instance, view):
        instance = replace(instance, state=InstanceState.WARMING, reason=None)
    return Member(instance, member.track)


def _stuck(instance: Instance, view: ServiceView) -> bool:
    """Return whether it is out of service for longer than a start may take: another is wanted."""
    role = view.spec.roles.get(instance.role)
    if instance.state is not InstanceState.WITHDRAWN or role is None:
        return False
    return view.now - instance.changed_at > role.startup_timeout


def _replicas(wanted: Counts, view: ServiceView) -> dict[Role, int]:
    """Return the replicas to ask for: those wanted, and those that stand and do not serve."""
    stuck = Counter(m.instance.role for m in view.members if _stuck(m.instance, view))
    return {role: count + stuck[role] for role, count in wanted.items()}


def _to_count(members: list[Member], role: Role, count: int, view: ServiceView) -> list[Member]:
    """Return the members with so many of the role as supply: some leaving, or some to come."""
    mine = [m for m in members if m.instance.role is role and counts_as_supply(m.instance)]
    leaving = {m.instance.instance_id for m in sorted(mine, key=_last_to_go)[count:]}
    kept = [
        replace(m, instance=replace(m.instance, state=InstanceState.DRAINING))
        if m.instance.instance_id in leaving
        else m
        for m in members
    ]
    missing = range(len(mine), count)
    return kept + [Member(_to_come(view, role, number), None) for number in missing]


def _last_to_go(member: Member) -> tuple[bool, bool, float, str]:
    """Order as a ReplicaSet keeps its pods: those that serve and are old are the last to go."""
    instance = member.instance
    silent = instance.state is InstanceState.UNKNOWN
    return (
        instance.state in STARTING_STATES,
        silent,
        instance.created_at,
        instance.instance_id,
    )


def _to_come(view: ServiceView, role: Role, number: int) -> Instance:
    since = view.memory.external.at or view.now
    return Instance(
        instance_id=f"asked-{role}-{number}",
        service=view.name,
        role=role,
        ranks=(Rank("", ()),),
        state=InstanceState.PENDING,
        generation=0,
        created_at=since,
        changed_at=since,
    )


def ask(
    draft: Draft, service: Service, view: ServiceView, verdict: Verdict, decision: Decision
) -> None:
    """Ask for what the verdict says, or hold; ``view`` is what stands, ``as_asked`` left out."""
    known = _seen(service.memory.external, standing(view), draft.now)
    if not known.counts and (why := _still_looking(draft, view, known)):
        memory = replace(verdict.memory, soft=None, wanted={}, external=known)
        draft.put_service(replace(service, memory=memory))
        draft.record(_held(decision, known, why))
        return
    if not known.counts:
        verdict = _as_found(verdict)
        decision = replace(decision, action=verdict.action, delta={}, bound_by=verdict.bound_by)
    asking = verdict.action in _ASKING
    memory = replace(verdict.done if asking else verdict.memory, soft=None)
    after = _asked(known, _replicas(memory.wanted, view), draft.now)
    draft.put_service(replace(service, memory=replace(memory, external=after)))
    draft.record(_told(decision, verdict, known, after, view))


def _as_found(verdict: Verdict) -> Verdict:
    """Return the first asking: what stands, inside the bounds. The laws move it from the next tick on."""
    cause = "What was found has stood still"
    return replace(verdict, action=Action.HOLD, delta={}, bound_by="coverage", cause=cause)


def forget(service: Service) -> Service:
    """Return a service of which nobody is asked anything: it only advises, or is the coordinator's.

    Who asks again later begins by looking: until then the replicas may be moved by hand.
    """
    if service.memory.external == ExternalMemory():
        return service
    return replace(service, memory=replace(service.memory, external=ExternalMemory()))


def _seen(before: ExternalMemory, there: Counts, now: float) -> ExternalMemory:
    """Return what is kept with what stands now; a role's wait begins again when its count moves."""
    if dict(before.there) == dict(there):
        return before
    apart = {
        role: at if before.there.get(role) == there.get(role) else now
        for role, at in before.apart.items()
    }
    return replace(before, there=dict(there), still_since=now, apart=apart)


def _still_looking(draft: Draft, view: ServiceView, known: ExternalMemory) -> str:
    """Return why nothing can be asked for yet; empty: what stands is known."""
    silent = [role.value for role in view.spec.roles if not known.there.get(role)]
    if silent:
        names = " and ".join(silent)
        if view.spec.measured_by_prometheus:
            return (
                f"no {names} is found in the Prometheus: `heteroscale explain {view.name}` says why"
            )
        return f"no {names} is heard. An agent beside each engine tells of it"
    still = draft.now - (known.still_since if known.still_since is not None else draft.now)
    if not view.covered or still < draft.state.rules.cover_for:
        wait = f"{draft.state.rules.cover_for:g} s"
        return f"{written(known.there)} found; counts have to stand still for {wait}"
    return ""


def _asked(known: ExternalMemory, wanted: Counts, now: float) -> ExternalMemory:
    """Return what is asked for from now on, and since when another number stands."""
    after = known
    if dict(known.counts) != dict(wanted):
        generation = known.generation + 1
        after = replace(known, counts=dict(wanted), generation=generation, at=now)
    apart = {
        role: known.apart.get(role, now)
        for role, n in after.counts.items()
        if known.there.get(role, 0) != n
    }
    return replace(after, apart=apart)


def _held(decision: Decision, known: ExternalMemory, why: str) -> Decision:
    inputs = {**decision.inputs, "there": written(known.there)}
    return replace(
        decision,
        action=Action.HOLD,
        delta={},
        bound_by="coverage",
        reason=f"Nothing is asked for yet: {why}.",
        inputs=inputs,
    )


def _told(
    decision: Decision,
    verdict: Verdict,
    before: ExternalMemory,
    after: ExternalMemory,
    view: ServiceView,
) -> Decision:
    """Return the decision with what is asked for, and what of it does not come."""
    reason = verdict.reason
    if after.generation != before.generation:
        was = f", it was {written(before.counts)}" if before.counts else ""
        cause = verdict.cause.rstrip(".") or verdict.reason.rstrip(".")
        reason = f"{cause}. Asked for {written(after.counts)}{was}."
    late = list(unfollowed(after, view.spec.actuation.follow_within, view.now))
    if late:
        reason = f"{reason} Not followed: {'; '.join(late)}."
    inputs = {
        **decision.inputs,
        "asked": f"{written(after.counts)}, generation {after.generation}",
        "there": written(after.there),
        **({"not followed": "; ".join(late)} if late else {}),
    }
    return replace(decision, reason=reason, inputs=inputs)


def unfollowed(known: ExternalMemory, within: float, now: float) -> Iterator[str]:
    """Yield, for each role that is not followed for longer than ``within`` seconds, what to look at."""
    for role, since in late(known, within, now).items():
        asked, there = known.counts[role], known.there.get(role, 0)
        yield (
            f"asked for {asked} {role.value}, {there} stand for {now - since:.0f} s "
            f"({_look_at(asked, there)})"
        )


def late(known: ExternalMemory, within: float, now: float) -> Mapping[Role, float]:
    """Return the roles that are not followed, and since when the count that stands has not moved."""
    return {
        role: since
        for role, since in known.apart.items()
        if role in known.counts and now - since >= within
    }


def _look_at(asked: int, there: int) -> str:
    if there and abs(asked / there - 1.0) <= HPA_TOLERANCE + 1e-9:
        return "an HPA leaves 10 % or less as it is: `tolerance: 0` in its behavior"
    if asked > there:
        return (
            "maxReplicaCount, quota, or pods that do not start, have no agent, or are not scraped"
        )
    return "minReplicaCount, another trigger, or a scale-down window"
