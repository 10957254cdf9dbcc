"""Demand: what the service is asked for, in tokens/s of a role, never less than what it serves.

``Q = max(served, arrivals × tokens a request, served + backlog ÷ horizon)``. Served tokens alone
saturate at capacity; arrivals and backlog see past it. A choked prefill starves decode, so arrivals
and backlog are read on both roles and the larger one counts. Arrivals are taken one standard
deviation low (√n of n), so that chance does not look like a rise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heteroscale.words import GateState, InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.view import ServiceView
from heteroscale_coordinator.core.policy.windows import Engine
from heteroscale_coordinator.core.spec import ServiceSpec

Engines = Mapping[Role, Sequence[Engine]]


@dataclass(frozen=True, slots=True)
class Demand:
    """Tokens/s asked for; None is unknown. ``text`` is the arithmetic."""

    value: float | None
    text: str
    served: float | None = None
    per_request: float | None = None
    """Mean tokens a request."""


UNKNOWN = "unknown"


def sizing_demand(engines: Engines, spec: ServiceSpec, offset: float = 0.0) -> Demand:
    """Return the demand on the sizing role over the short window that ended ``offset`` s ago."""
    role = spec.sizing_role
    others = [Role.PREFILL] if role is Role.DECODE else []
    return _demand(engines, spec, role, others, offset)


def prefill_demand(engines: Engines, spec: ServiceSpec, offset: float = 0.0) -> Demand:
    """Return prefill's own, leading demand: prompt tokens that missed the cache, as they arrive."""
    return _demand(engines, spec, Role.PREFILL, [], offset)


def _demand(
    engines: Engines, spec: ServiceSpec, role: Role, others: list[Role], offset: float
) -> Demand:
    policy = spec.policy
    length = policy.window_out
    served = signals.total(engines[role], signals.busy_rate(role, length, offset))
    if served is None:
        return Demand(None, UNKNOWN)
    if policy.demand == "served":
        return Demand(served, f"{served:.1f} tok/s served", served)
    each = signals.tokens_per_request(engines[role], role, policy.window_in)
    if each is None:
        return Demand(served, f"{served:.1f} tok/s served; tokens a request unknown", served)
    seen = [engines[name] for name in (role, *others)]
    arrivals = max((_arrivals(group, length, offset) for group in seen), default=0.0)
    backlog = max((_backlog(group, length, offset) for group in seen), default=0.0)
    queued = served + backlog * each / policy.backlog_horizon
    value = max(served, arrivals * each, queued)
    text = (
        f"{value:.1f} tok/s = max(served {served:.1f}, "
        f"arrivals {arrivals:.2f}/s × {each:.0f} = {arrivals * each:.1f}, "
        f"with backlog {backlog:.1f} × {each:.0f} ÷ {policy.backlog_horizon:g}s = {queued:.1f})"
    )
    return Demand(value, text, served, each)


def _arrivals(engines: Sequence[Engine], length: float, offset: float) -> float:
    """Return requests/s, one standard deviation low; 0 adds nothing to a maximum when unknown."""
    rate = signals.total(engines, signals.rate_of("arrived", length, offset))
    count = (rate or 0.0) * length
    return (rate or 0.0) * (1 - 1 / math.sqrt(count)) if count > 1 else 0.0


def _backlog(engines: Sequence[Engine], length: float, offset: float) -> float:
    """Return the requests that waited all through the window."""
    return signals.total(engines, signals.gauge_lowest("queued", length, offset)) or 0.0


# ---- for scale-in --------------------------------------------------------------------------


def peak_demand(engines: Engines, view: ServiceView, role: Role) -> Demand:
    """Return the highest demand on ``role`` over the long window, by the same formula.

    An engine not heard all through the window counts at its full target.
    """
    policy = view.spec.policy
    steady = {name: [e for e in group if _steady(e, view)] for name, group in engines.items()}
    unheard = [e for e in engines[role] if not _steady(e, view) and not _known_quiet(e, view)]
    assumed = sum(engine.target for engine in unheard)
    ask = prefill_demand if role is Role.PREFILL else sizing_demand
    step = policy.window_out / 2
    count = 1 + int((policy.window_in - policy.window_out) / step + 1e-6)
    seen = [ask(steady, view.spec, i * step) for i in range(count)]
    values = [demand.value for demand in seen if demand.value is not None]
    if not values:
        return Demand(None, UNKNOWN)
    highest = max(values)
    text = f"{highest + assumed:.1f} tok/s = highest {highest:.1f} in {policy.window_in:g}s"
    if unheard:
        text += f" + {len(unheard)} not heard all the time, at full target {assumed:.1f}"
    return Demand(highest + assumed, text, seen[0].served, seen[0].per_request)


def _steady(engine: Engine, view: ServiceView) -> bool:
    return engine.reaches(view.spec.policy.window_in, view.spec.policy.freshness)


def _known_quiet(engine: Engine, view: ServiceView) -> bool:
    """Return whether its silence hides no load: not yet in service, or long out of it."""
    instance = engine.member.instance
    if engine.member.starting:
        return True
    if instance.state is InstanceState.DRAINING:
        return instance.terminating
    gone = instance.state is InstanceState.WITHDRAWN and instance.gate_state is GateState.CLOSED
    settled = view.now - instance.changed_at >= view.spec.policy.window_in
    return gone and settled and instance.reason is not WithdrawReason.SOFT_SCALE_IN


def steady_share(engines: Sequence[Engine], view: ServiceView) -> tuple[int, int]:
    """Return (heard all through the long window, carrying traffic) of a role's engines."""
    carrying = [engine for engine in engines if engine.carrying]
    return sum(_steady(engine, view) for engine in carrying), len(carrying)


# ---- a choked prefill ----------------------------------------------------------------------


def choked_prefill(engines: Engines, spec: ServiceSpec, demand: Demand) -> str:
    """Return why prefill starves decode, in words; empty when it does not.

    A queue that stood at prefill all through the short window, none at decode, and decode serving
    less than it is asked for, or less than a window ago: falling decode tokens with a queue are
    overload, never a reason to shrink.
    """
    policy = spec.policy
    if demand.value is None or demand.served is None:
        return ""
    waiting = signals.gauge_lowest("waiting", policy.window_out)
    counts = {role: sum(e.carrying for e in engines[role]) for role in engines}
    queues = {role: signals.total(engines[role], waiting) for role in engines}
    prefill, decode = queues[Role.PREFILL], queues[Role.DECODE]
    allowed = policy.consent.queue_per_instance
    if not prefill or prefill <= allowed * counts[Role.PREFILL]:
        return ""
    if decode is None or decode > allowed * counts[Role.DECODE]:
        return ""
    before = signals.total(
        engines[Role.DECODE],
        signals.rate_of("generation_tokens", policy.window_out, policy.window_out),
    )
    asked = max(demand.value, before or 0.0)
    if demand.served >= (1 - policy.tolerance_in) * asked:
        return ""
    return (
        f"{prefill:.0f} requests wait at prefill while decode serves {demand.served:.0f} of "
        f"{asked:.0f} tok/s"
    )
