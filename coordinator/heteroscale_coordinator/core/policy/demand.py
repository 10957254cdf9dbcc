"""Demand: what the service is asked for, in tokens/s of a role, never less than what it serves.

``Q = max(served, arrivals × tokens a request, served + backlog ÷ horizon)``. Served tokens alone
saturate at capacity; arrivals and backlog see past it. A choked prefill starves decode, so arrivals
are read on both roles and the larger rate counts; each role's backlog is its own. Arrivals are taken
one standard deviation low (√n of n), so that chance does not look like a rise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heteroscale.words import GateState, InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.view import ServiceView
from heteroscale_coordinator.core.policy.windows import Engine
from heteroscale_coordinator.core.spec import PolicySpec, ServiceSpec
from heteroscale_coordinator.core.sums import Sum, reckon

Engines = Mapping[Role, Sequence[Engine]]


@dataclass(frozen=True, slots=True)
class Demand:
    """Tokens/s asked for; None is unknown. ``text`` is the arithmetic."""

    value: float | None
    text: str
    served: float | None = None
    lasting: float | None = None
    """The same without its backlog: what goes on being asked for once that is worked off."""
    sum: Sum | None = None
    """``value`` as it was reckoned; None when unknown."""


UNKNOWN = "unknown"


def demand_on(
    role: Role,
    engines: Engines,
    spec: ServiceSpec,
    *,
    offset: float = 0.0,
    length: float | None = None,
) -> Demand:
    """Return the demand on ``role`` over the window that ended ``offset`` s ago.

    ``length`` is the short window unless given. Prefill's own demand leads: prompt tokens that
    missed the cache, as they arrive.
    """
    seen = (role, Role.PREFILL) if role is Role.DECODE else (role,)
    window = spec.policy.window_out if length is None else length
    return _demand(engines, spec.policy, seen, offset, window)


def _demand(
    engines: Engines, policy: PolicySpec, seen: tuple[Role, ...], offset: float, length: float
) -> Demand:
    """Return the demand on the first of the roles ``seen``; arrivals are read on all of them."""
    role = seen[0]
    served = signals.total(engines[role], signals.busy_rate(role, length, offset))
    if served is None:
        return Demand(None, UNKNOWN)
    alone = reckon("served", "tok/s", served=served)
    if policy.demand == "served":
        return Demand(served, f"{served:.1f} tok/s served", served, served, alone)
    each = signals.tokens_per_request(engines[role], role, policy.window_in)
    if each is None:
        text = f"{served:.1f} tok/s served; tokens a request unknown"
        return Demand(served, text, served, served, alone)
    arrivals = max(_arrivals(engines[name], length, offset) for name in seen)
    backlog = _backlog(engines[role], length, offset)
    queued = served + backlog * each / policy.backlog_horizon
    value = reckon(
        "max(served, arrivals * each, served + backlog * each / horizon)",
        "tok/s",
        served=served,
        arrivals=arrivals,
        each=each,
        backlog=backlog,
        horizon=policy.backlog_horizon,
    )
    text = (
        f"{value.value:.1f} tok/s = max(served {served:.1f}, "
        f"arrivals {arrivals:.2f}/s × {each:.0f} = {arrivals * each:.1f}, "
        f"with backlog {backlog:.1f} × {each:.0f} ÷ {policy.backlog_horizon:g}s = {queued:.1f})"
    )
    return Demand(value.value, text, served, max(served, arrivals * each), value)


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
    step = policy.window_out / 2
    count = 1 + int((policy.window_in - policy.window_out) / step + 1e-6)
    seen = [demand_on(role, steady, view.spec, offset=i * step) for i in range(count)]
    values = [demand.value for demand in seen if demand.value is not None]
    if not values:
        return Demand(None, UNKNOWN)
    highest = max(values)
    text = f"{highest + assumed:.1f} tok/s = highest {highest:.1f} in {policy.window_in:g}s"
    if unheard:
        text += f" + {len(unheard)} not heard all the time, at full target {assumed:.1f}"
    return Demand(highest + assumed, text, seen[0].served, seen[0].lasting)


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
