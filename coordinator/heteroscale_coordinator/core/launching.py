"""Carries a launch out: finds a place for the step, or a part of it, and starts it; or says why not."""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core import breaker, sites, subclusters
from heteroscale_coordinator.core.asked import Question
from heteroscale_coordinator.core.breaker import Barred
from heteroscale_coordinator.core.command import issue
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.memory.stability import Unplaced
from heteroscale_coordinator.core.model import (
    Action,
    Counts,
    Decision,
    Instance,
    Service,
    Together,
    Verb,
    Verdict,
)
from heteroscale_coordinator.core.placement import (
    SAID,
    Ask,
    Cycle,
    Infeasible,
    Limits,
    Outcome,
    Placed,
    Request,
    Spot,
)
from heteroscale_coordinator.core.policy import bounds, split
from heteroscale_coordinator.core.policy.view import written
from heteroscale_coordinator.core.spec import PlacementSpec, ServiceSpec


def question(draft: Draft, service: Service, verdict: Verdict, decision: Decision) -> Question:
    """Return what is asked of placement: the step, and which part of it will do if it finds no place."""
    barred = _barred(draft, service)
    placement, together = service.spec.placement, verdict.together
    if together is not None:
        placement = _near(placement, together)
    whole, *parts = (
        _ask(draft, service, delta, placement, barred)
        for delta in (verdict.delta, *_smaller_steps(verdict, service.spec))
    )
    request = Request(
        whole,
        sites.standings(draft, service),
        priority=service.spec.priority,
        share=_share(verdict),
        parts=parts,
        limits=_limits(draft, service, verdict.delta, barred),
        said=SAID,
    )
    known, members = draft.service(service.name) or service, sites.members(draft, service.name)
    return Question(service, known, members, verdict, decision, request, barred)


def _share(verdict: Verdict) -> float:
    """Return what part of its wish a service has already: among equals who has little goes first."""
    has = sum(verdict.before.values())
    wants = has + sum(n for n in verdict.delta.values() if n > 0)
    return has / wants if wants else 0.0


def launch(draft: Draft, question: Question, outcome: Outcome) -> None:
    """Launch what was placed, the step or a part of it; without room, hold and say why."""
    service, verdict, decision = question.service, question.verdict, question.decision
    placed, barred = outcome.placed, question.barred
    if isinstance(placed, Placed) and outcome.part is None:
        done = _with_unplaced(verdict.done, None)
        _start_all(draft, service, replace(verdict, done=done), decision, placed)
        return
    why = placed if isinstance(placed, Infeasible) else outcome.refused
    refused = _explained(draft, question, why or Infeasible(()))
    decision = _refused(decision, verdict.delta, refused, barred)
    if isinstance(placed, Placed) and outcome.part is not None:
        less = outcome.part.delta
        left = {role: n - less.get(role, 0) for role, n in verdict.delta.items()}
        unplaced = _unplaced(draft, service, left, refused, barred)
        part = _part(verdict, less, unplaced)
        said = f"{verdict.cause}. {written(less)} launched. {unplaced.why}"
        decision = replace(decision, delta=less, reason=said, bound_by="placement")
        _start_all(draft, service, part, decision, placed)
        return
    unplaced = _unplaced(draft, service, verdict.delta, refused, barred)
    _no_room(draft, service, verdict, decision, unplaced)


def _smaller_steps(verdict: Verdict, spec: ServiceSpec) -> list[dict[Role, int]]:
    before, delta = split.plain(verdict.before), split.plain(verdict.delta)
    if not spec.split:
        return bounds.smaller_steps(before, delta, spec)
    found = bounds.smaller_steps(before, delta, split.plain_spec(spec))
    return [split.named(step) for step in found]


def _refused(decision: Decision, delta: Counts, found: Infeasible, barred: Barred) -> Decision:
    inputs = {
        **decision.inputs,
        "wanted": _say(delta),
        "infeasible": "; ".join(found.reasons),
        **({"closed to launches": barred.text} if barred.text else {}),
    }
    return replace(decision, inputs=inputs)


def _near(placement: PlacementSpec, together: Together) -> PlacementSpec:
    return placement.model_copy(update={"affinity": together.level, "required": True})


def _explained(draft: Draft, question: Question, found: Infeasible) -> Infeasible:
    """Return why there is no place; where only the demand for one domain leaves none, that is why."""
    service, together = question.service, question.verdict.together
    if together is None:
        return found
    plain = service.spec.placement
    apart = place_as(draft, service, question.verdict.delta, question.barred, plain)
    if isinstance(apart, Infeasible):
        return apart
    why = f"{together.why}: no pairs across {together.level} domains are added"
    return Infeasible((f"{why}; {found.reasons[0]}", *found.reasons[1:]))


def place_as(
    draft: Draft,
    service: Service,
    delta: Counts,
    barred: Barred,
    placement: PlacementSpec,
    *,
    without: str = "",
) -> Placed | Infeasible:
    """Return a place under ``placement``, as if the instance ``without`` did not stand.

    A question alone, in a cycle of its own beside the turn's: what is held there is not offered here.
    """
    ask = _ask(draft, service, delta, placement, barred)
    request = Request(
        replace(ask, vendors=sites.vendors(draft)),
        [s for s in sites.standings(draft, service) if s.instance_id != without],
        limits=_limits(draft, service, delta, barred),
        said=SAID,
    )
    cycle = Cycle(sites.view(draft), [request])
    cycle.advance()
    (outcome,) = cycle.outcomes
    cycle.end()
    return outcome.placed or Infeasible(("nothing is asked",))


def _ask(
    draft: Draft, service: Service, delta: Counts, placement: PlacementSpec, barred: Barred
) -> Ask:
    """Return what is asked; the vendors of GPU types are told when the fleet has been read."""
    prices, told = draft.state.rules.prices, subclusters.told(draft, service, barred)
    return Ask(service.name, service.spec.roles, delta, placement, {}, prices, told)


def _barred(draft: Draft, service: Service) -> Barred:
    spec, instances = service.spec, draft.instances_of(service.name)
    rules, home = spec.policy.stability.breaker, draft.state.sub_cluster
    return breaker.barred(service.memory, rules, instances, draft.now, home)


def _limits(draft: Draft, service: Service, delta: Counts, barred: Barred) -> tuple[Limits, ...]:
    # A trial is one instance of each role: one role alone may not be allowed by the ratio.
    trial = sum(service.spec.roles[role].gpus for role, n in delta.items() if n)
    return sites.limits(draft, barred, service.memory.avoid, trial)


def _start_all(
    draft: Draft, service: Service, verdict: Verdict, decision: Decision, found: Placed
) -> None:
    started = start_spots(draft, service, verdict, found, decision.decision_id)
    draft.put_service(replace(_newest(draft, service), memory=verdict.done))
    draft.record(_placed(decision, found, started))


def _part(verdict: Verdict, less: Counts, unplaced: Unplaced) -> Verdict:
    """Return the verdict as far as it is carried out.

    Wanted is what has a place. The rest is asked for again at once, so no cooldown of scale-out begins;
    that of scale-in does, for something was added. A breach was given no more than was placed.
    """
    done = _placed_for_breach(verdict, less)
    if verdict.action is Action.SCALE_OUT:
        placed = {role: n + less.get(role, 0) for role, n in verdict.before.items()}
        known = verdict.memory.wanted
        wanted = {
            role: min(n, max(placed.get(role, 0), known.get(role, 0)))
            for role, n in done.wanted.items()
        }
        kinds = (done.last_in_at, done.last_out_at, done.last_guard_at)
        changed = [at for at in kinds if at is not None]
        done = replace(
            done,
            wanted=wanted,
            last_out_at=verdict.memory.last_out_at,
            last_in_at=max(changed, default=None),
        )
    return replace(verdict, done=_with_unplaced(done, unplaced))


def _placed_for_breach(verdict: Verdict, less: Counts) -> PolicyMemory:
    """Return what is done with a step of the guard noted as far as it was placed.

    Where nothing that the breach asked for was placed, its step is still to come.
    """
    done, before = verdict.done, verdict.memory
    if done.breach is None or before.breach is None or done.breach == before.breach:
        return done
    asked, placed = split.plain(verdict.delta), split.plain(less)
    given = {
        role: n - asked.get(role, 0) + placed.get(role, 0) for role, n in done.breach.given.items()
    }
    breach = replace(done.breach, given=given)
    if any(placed.get(role, 0) for role in given):
        return replace(done, breach=breach)
    breach = replace(breach, last_step_at=before.breach.last_step_at)
    return replace(done, breach=breach, last_guard_at=before.last_guard_at)


def _with_unplaced(memory: PolicyMemory, unplaced: Unplaced | None) -> PolicyMemory:
    return replace(memory, stability=replace(memory.stability, unplaced=unplaced))


def _unplaced(
    draft: Draft, service: Service, delta: Counts, found: Infeasible, barred: Barred
) -> Unplaced:
    """Return what had no place; until it is tried again the policy holds in the same words."""
    reason = found.reasons[0] if found.reasons else "no node fits"
    closed = "".join(f" No launch on {name}: {why}." for name, why in sorted(barred.types.items()))
    before = service.memory.stability.unplaced
    since = before.since if before else draft.now
    # Every other tick: a launch tried in vain would keep all that comes after it from being asked.
    every = 2.0 * draft.state.rules.tick
    delta = {role: n for role, n in delta.items() if n > 0}
    return Unplaced(delta, since, f"No place for {_say(delta)}: {reason}.{closed}", every)


def _newest(draft: Draft, service: Service) -> Service:
    return draft.service(service.name) or service


def _placed(decision: Decision, found: Placed, started: list[str]) -> Decision:
    inputs = {**decision.inputs, "placement": found.reason, "affinity met": found.affinity_met}
    return replace(decision, instance_ids=tuple(started), inputs=inputs)


def start_spots(
    draft: Draft, service: Service, verdict: Verdict, found: Placed, cause: str
) -> list[str]:
    """Start every spot; of each role the last ones are to wait as the verdict says."""
    direct = {role: n - verdict.hold.get(role, 0) for role, n in verdict.delta.items()}
    started = []
    for spot in found.spots:
        direct[spot.role] -= 1
        hold = verdict.hold_for if direct[spot.role] < 0 else None
        started.append(_start(draft, service, spot, cause, hold))
    return started


def _start(draft: Draft, service: Service, spot: Spot, cause: str, hold: float | None) -> str:
    role = service.spec.roles[spot.role]
    instance = Instance(
        instance_id=draft.mint("i"),
        service=service.name,
        role=spot.role,
        ranks=spot.ranks,
        state=InstanceState.PENDING,
        generation=0,
        created_at=draft.now,
        changed_at=draft.now,
        template=role.template,
        group=spot.group,
        gpu_type=spot.gpu_type,
        cause=cause,
        message="launch ordered",
    )
    draft.put_instance(instance)
    for number in range(len(spot.ranks)):
        # Rank 0 has the gate, and so the wait.
        waits = hold is not None and number == 0
        reason = WithdrawReason.RATIO_HOLD if waits else None
        lease = hold if waits else None
        issue(draft, Verb.LAUNCH, instance, cause, rank=number, reason=reason, lease=lease)
    return instance.instance_id


def _no_room(
    draft: Draft, service: Service, verdict: Verdict, decision: Decision, unplaced: Unplaced
) -> None:
    """Nothing fits: hold, say why on every level, and look again two ticks later."""
    memory = _with_unplaced(verdict.memory, unplaced)
    draft.put_service(replace(service, memory=memory))
    reason = f"{verdict.cause}. {unplaced.why}"
    held = replace(decision, action=Action.HOLD, delta={}, reason=reason, bound_by="placement")
    draft.record(held)


def _say(delta: Counts) -> str:
    return ", ".join(f"{count:+d} {role}" for role, count in delta.items() if count)
