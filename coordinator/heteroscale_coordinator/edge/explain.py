"""Why a service is as it is and what would change it, line by line, for a person (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from heteroscale.convert import from_wire
from heteroscale.documents import format_duration
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import Role
from heteroscale_coordinator.core import external, sums
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Decision, Service
from heteroscale_coordinator.core.policy import learning
from heteroscale_coordinator.core.policy.flap import factor_in, factor_out, recent
from heteroscale_coordinator.core.policy.give import HOUR, essential
from heteroscale_coordinator.core.policy.view import written
from heteroscale_coordinator.core.spec import PolicySpec

_DAY_S = 86400.0
_GAP_S = 60.0
"""A run that ended so long before a time was not in force then any more."""
_BOUND = {
    "demand": "the demand on the sizing role alone decided",
    "guard": "the latency guard decided: the SLO is broken",
    "signals": "signals in proportion to load decided",
    "latency": "latency, which drives the service, is inside its band",
    "consent": "a scale-in was due, but not everything agreed to it",
    "ratio": "the ratio between prefill and decode set the step",
    "ratio_hold": "what waited, Ready, for the other role goes into service",
    "prefill": "prefill's own demand decided",
    "saturation": "a queue stood at decode: what it serves is all it can",
    "forecast": "what demand is expected to be, once a launch serves, decided",
    "step": "the largest step that is allowed at once set the limit",
    "bounds": "min, max or the GPU budget set the limit",
    "backoff": "a launch failed a short while ago; the next one waits",
    "shortage": "a service of higher priority has no place for what it needs",
    "cooldown": "a change was due, but the last one is too young",
    "coverage": "too few of its instances have been heard",
    "placement": "a change was due, but it has no place",
    "starting": "a scale-in was due, but what serves now is still needed",
    "observation": "a soft scale-in is under observation",
    "renewal": "instances reach the end of their time: successors come first, then they leave",
    "time_limit": "no successor serves yet, and its scheduler ends the instance soon",
    "wanted": "instances are missing of the wanted counts",
    "partition": "too many agents are silent at once: nothing is replaced",
    "schedule": "a window of the schedule set the limit, or asked for it",
    "velocity": "token velocity decided: what arrives against what a stage moves",
}


def explain(
    service: Service,
    shown: pb.Service,
    decision: Decision | None,
    now: float,
    source: Iterable[str] = (),
) -> list[str]:
    """Return the lines: the sentence, what bound it, counts, signals, arithmetic, what would change.

    ``shown`` is the service as ``operator_wire`` counts it; ``now`` in seconds since 1970; ``source``
    says where its signals come from, if not from agents.
    """
    lines = list(_verdict(service.name, decision, now))
    lines += ["", "Counts:", *_counts(shown)]
    if told := [f"  {line}" for line in source]:
        lines += ["", "Signals come from:", *told]
    if decision is not None:
        lines += evidence(decision)
    if known := learning.told(service.spec, service.memory.learning):
        lines += ["", "Learned targets:", *(f"  {line}" for line in known)]
    lines += ["", "What would change it:"]
    return lines + [f"  {line}" for line in _changes(service, shown, decision, now)]


def explain_past(decision: Decision, asked: float, now: float) -> list[str]:
    """Return the lines of the decision that was in force at the time ``asked``.

    Counts and what would change it are of the present, so they are not told.
    """
    lines = [f"At {moment(asked)}:", *_verdict(decision.service, decision, now, of_a_time=True)]
    last = decision.last_at or decision.at
    if asked - last > _GAP_S:
        lines.append(
            f"  nothing was decided from then until {moment(asked)}: the coordinator was down, or slow"
        )
    return lines + evidence(decision)


def evidence(decision: Decision) -> list[str]:
    """Return signals, ranges, words, and every line of arithmetic, done again here."""
    lines = ["", "Signals:", *_signals(decision)]
    if decision.ranges:
        lines += ["", f"Ranges over the {decision.repeat_count} times it was decided:"]
        lines += [
            f"  {name} from {low:.6g} to {high:.6g} {unit}".rstrip()
            for name, (low, high, unit) in decision.ranges.items()
        ]
    lines += ["", "Inputs:"]
    lines += [
        f"  {name} = {text}" for name, text in decision.inputs.items() if name not in decision.sums
    ] or ["  none"]
    return [*lines, "", *_arithmetic(decision)]


def _arithmetic(decision: Decision) -> Iterator[str]:
    """Tell each line with its terms, and whether it comes out the same when it is done again."""
    again = {name: sums.same(line) for name, line in decision.sums.items()}
    wrong = [name for name, same in again.items() if not same]
    if not again:
        yield "Arithmetic: none was stored."
        return
    if wrong:
        yield (
            f"Arithmetic, done again: {len(wrong)} OF {len(again)} LINES DO NOT COME OUT THE SAME "
            f"({', '.join(wrong)}): this record has been changed"
        )
    else:
        yield f"Arithmetic, done again: all {len(again)} lines come out the same"
    for name, line in decision.sums.items():
        yield f"  {'same ' if again[name] else 'WRONG'}  {name} = {line.text}" + (
            "" if again[name] else f"; done again it is {_redone(line)}"
        )


def _redone(line: sums.Sum) -> str:
    try:
        return f"{sums.replay(line):.17g}"
    except sums.FormulaError as error:
        return f"nothing: {error}"


def _verdict(
    name: str, decision: Decision | None, now: float, *, of_a_time: bool = False
) -> Iterator[str]:
    if decision is None:
        yield f"{name}: nothing has been decided yet; the first decision comes within one tick."
        return
    last = decision.last_at or decision.at
    yield f"{name}: {decision.action}: {decision.reason}"
    when = moment if of_a_time or now - decision.at > _DAY_S / 2 else _clock
    yield f"  decided {_ago(now - last)} ago, at {when(last)}"
    if decision.repeat_count > 1:
        count = f"{decision.repeat_count} times since {when(decision.at)}"
        yield f"  the same was decided {count}" + ("; the figures are the last ones" * of_a_time)
    meaning = _BOUND.get(decision.bound_by)
    yield f"  bound by {decision.bound_by}" + (f": {meaning}" if meaning else "")
    if decision.advisory:
        yield "  not acted on: it is advice"
    if decision.instance_ids:
        yield f"  instances: {', '.join(decision.instance_ids)}"


def _counts(shown: pb.Service) -> Iterator[str]:
    for role in shown.roles:
        yield (
            f"  {from_wire(Role, role.role)}: wanted {role.wanted}, in service {role.in_service}, "
            f"pending {role.pending}, withdrawn {role.withdrawn}, draining {role.draining}, "
            f"unknown {role.unknown} (bounds {role.min} to {role.max})"
            + (f"; {role.cordoned} of them on what is cordoned" if role.cordoned else "")
        )


def _signals(decision: Decision) -> Iterator[str]:
    if not decision.signals:
        yield "  none"
    for one in decision.signals:
        told = "unknown" if one.value is None else f"{one.value:.6g} {one.unit}".rstrip()
        whose = "routers" if one.name.startswith("router_") else "instances"
        over = f" over {one.window:g} s" if one.window else ""
        why = f": {one.reason}" if one.reason else ""
        heard = f"{one.coverage:.0%} of {whose} heard"
        yield f"  {one.name} = {told}{over} ({one.quality}, {heard}{why})"


def _changes(
    service: Service, shown: pb.Service, decision: Decision | None, now: float
) -> Iterator[str]:
    yield from _switches(service, shown, now)
    policy, memory = service.spec.policy, service.memory
    consents = (
        "; and every consent: queues empty, KV usage below "
        f"{policy.consent.kv_usage:.0%}, latency under {policy.consent.latency:.0%} of the SLO"
    )
    if policy.driver == "demand":
        known = {s.name: s.value for s in decision.signals} if decision else {}
        supply = known.get(f"{service.spec.sizing_role}_supply")
        yield _threshold("scale-out", "above", 1 + policy.tolerance_out, supply, policy.window_out)
        yield (
            _threshold("scale-in", "below", 1 - policy.tolerance_in, supply, policy.window_in)
            + consents
        )
    elif policy.driver == "latency":
        over = f"over {format_duration(policy.window_in)}"
        yield f"scale-in: every mean below {policy.guard.below:g} × its SLO {over}{consents}"
    yield from _proportional(policy, "" if policy.driver == "demand" else consents)
    yield from _slo(service)
    yield from _waits(policy, memory, now)
    yield from _breakers(service, now)
    yield from _given(service, now)
    for role, spec in service.spec.roles.items():
        wanted = memory.wanted.get(role)
        if wanted is not None and wanted >= spec.max:
            yield f"{role} stands at its max of {spec.max}: raise it for more"
        if wanted is not None and wanted <= spec.min:
            yield f"{role} stands at its min of {spec.min}: lower it for less"


def _proportional(policy: PolicySpec, consents: str) -> Iterator[str]:
    """Tell where each signal of the policy asks for more, and where it lets go."""
    for one in policy.signals:
        yield (
            f"scale-out: {one.signal} above {1 + policy.tolerance_out:.2f} × its target, "
            f"starting ones counted, over {format_duration(policy.window_out)}"
        )
        yield (
            f"scale-in: {one.signal} below {1 - policy.tolerance_in:.2f} × its target over "
            f"{format_duration(policy.window_in)}{consents}"
        )


def _switches(service: Service, shown: pb.Service, now: float) -> Iterator[str]:
    name = service.name
    if service.quarantine:
        yield f"quarantined, it is left alone ({service.quarantine}): `heteroscale resume {name}`"
    if service.paused:
        yield f"paused ({service.paused}): `heteroscale resume {name}` lets it act again"
    if service.spec.learning:
        roles = " and ".join(sorted(service.spec.learning))
        yield f"advisory: the target of {roles} is `learn`; write the number that was learned and apply"
    if service.spec.advisory:
        yield "advisory: set `advisory: false` and apply to let it act"
    if service.spec.external:
        yield from _others(service, now)
    if service.deleting:
        yield "it is being deleted: its instances are drained"
    if shown.condition == "covering":
        yield "some agents of its instances are unheard since the coordinator started: their hellos"


def _others(service: Service, now: float) -> Iterator[str]:
    """Say what others who scale it are asked for, and who does not follow."""
    known = service.memory.external
    if known.at is None or not known.counts:
        yield "others scale it (actuation.by: external): nothing is asked for yet"
        return
    since = f"generation {known.generation}, since {_clock(known.at)}"
    yield f"others scale it (actuation.by: external): {written(known.counts)} asked for, {since}"
    yield from external.unfollowed(known, service.spec.actuation.follow_within, now)


def _threshold(what: str, side: str, factor: float, supply: float | None, window: float) -> str:
    over = f"over {format_duration(window)}"
    if supply is None:
        return f"{what}: demand {side} {factor:.2f} × supply {over}"
    bound = f"{factor * supply:.6g} tokens/s ({factor:.2f} × supply {supply:.6g})"
    return f"{what}: demand {side} {bound} {over}"


def _slo(service: Service) -> Iterator[str]:
    for name, promised in (("TTFT", service.spec.slo.ttft), ("TBT", service.spec.slo.tbt)):
        for tier in service.spec.policy.guard.tiers if promised is not None else ():
            at = format_duration(round((promised or 0.0) * tier.breach, 6))
            slo = format_duration(promised or 0.0)
            yield (
                f"guard: mean {name} above {at} ({tier.breach:g} × SLO {slo}) adds {tier.step:.0%} of "
                "what served when it began"
            )


def _waits(policy: PolicySpec, memory: PolicyMemory, now: float) -> Iterator[str]:
    if memory.last_out_at is not None:
        length = policy.cooldown_out * factor_out(memory, policy, now).value
        yield from _until("cooldown: no scale-out", memory.last_out_at + length, now)
    changed = [
        at for at in (memory.last_out_at, memory.last_guard_at, memory.last_in_at) if at is not None
    ]
    if changed:
        end = max(changed) + policy.cooldown_in * factor_in(memory, policy, now).value
        yield from _until("cooldown: no scale-in", end, now)
    yield from _flaps(policy, memory, now)
    yield from _until("backoff: no launch", memory.launch_after, now)
    if memory.soft is not None:
        soft = memory.soft
        demand = "unknown" if soft.demand is None else f"{soft.demand:.6g}"
        yield (
            f"observation until {_clock(soft.until)}: what was withdrawn at demand "
            f"{demand} comes back when demand rises, or is drained then"
        )


def _flaps(policy: PolicySpec, memory: PolicyMemory, now: float) -> Iterator[str]:
    guard = policy.stability.flap
    count = recent(memory.stability, guard, now)
    if count > guard.allowed:
        most = format_duration(guard.window)
        yield (
            f"flapping: {count} reversals within {most}, {guard.allowed} are allowed: cooldowns × "
            f"{factor_in(memory, policy, now).value:g} in, × {factor_out(memory, policy, now).value:g} "
            f"out, until the oldest is {most} old"
        )


def _given(service: Service, now: float) -> Iterator[str]:
    """Say what it gives to services of higher priority, and down to which counts."""
    memory, rules = service.memory, service.spec.policy.shortage
    given = sum(gpus for at, gpus in memory.stability.given if now - at < HOUR)
    if given or (memory.soft is not None and memory.soft.cause):
        floors = ", ".join(f"{essential(r)} {role}" for role, r in service.spec.roles.items())
        yield (
            f"shortage: {given} GPUs given within the hour, at most {rules.hourly:.0%} of what it "
            f"holds, never below {floors}; it grows again when the higher service has its place"
        )


def _breakers(service: Service, now: float) -> Iterator[str]:
    kept, again = service.memory.stability, f"`heteroscale resume {service.name}`"
    for kind, known in (("node", kept.nodes), ("GPU type", kept.types)):
        for name, breaker in sorted(known.items()):
            if breaker.until is None:
                continue
            when = (
                f"one is tried at {_clock(breaker.until)}, in {_ago(breaker.until - now)}"
                if breaker.until > now
                else "one is tried when there is need"
            )
            yield (
                f"breaker: no launch on {kind} {name} after {breaker.failures} failed in a row; "
                f"{when}; {again} forgets it"
            )
    if kept.unplaced is not None:
        yield f"placement: since {_clock(kept.unplaced.since)}: {kept.unplaced.why}"


def _until(what: str, end: float, now: float) -> Iterator[str]:
    if end > now:
        yield f"{what} before {_clock(end)}, in {_ago(end - now)}"


def moment(at: float) -> str:
    """Return a time with its date and zone."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC")


def _ago(seconds: float) -> str:
    return format_duration(float(max(0, round(seconds))))
