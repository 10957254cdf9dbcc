"""Demand: what the service is asked for, in tokens/s of a role, never less than what it serves.

``Q = max(served, arrivals × tokens a request) + backlog × tokens a request ÷ horizon``. Served tokens
alone say too little at capacity, and too much while a queue is worked off: engines then serve all
they can, and a law that took it for demand would ask for more of them, which would serve more. So
behind a queue served counts no further than arrivals go. A choked prefill starves decode, so decode's
arrivals and backlog are read at prefill too. Arrivals are taken one standard deviation low (√n of
n), so that chance does not look like a rise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heteroscale.words import GateState, InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.backlog import unanswered
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
    behind = any(_behind(engines[name], policy) for name in seen)
    rate = _rate(engines, seen, length, offset, policy)
    if each is None or rate is None:
        text = f"{served:.1f} tok/s served; {'arrivals' if each else 'tokens a request'} unknown"
        return Demand(served, text, served, served, alone)
    backlog = sum(unanswered(name, engines[name], policy, length, offset) for name in seen)
    believed = "min(served, (rate + chance) * each)" if behind else "served"
    chance = _chance(rate, length)
    value = reckon(
        f"max({believed}, (rate - chance) * each) + backlog * each / horizon",
        "tok/s",
        served=served,
        rate=rate,
        chance=chance,
        each=each,
        backlog=backlog,
        horizon=policy.backlog_horizon,
    )
    lasting = value.value - backlog * each / policy.backlog_horizon
    text = (
        f"{value.value:.1f} tok/s = max(served {served:.1f}{' with a queue' * behind}, "
        f"arrivals {rate - chance:.2f}/s × {each:.0f} = {(rate - chance) * each:.1f}) "
        f"+ backlog {backlog:.1f} × {each:.0f} ÷ {policy.backlog_horizon:g}s"
    )
    return Demand(value.value, text, served, lasting, value)


def _behind(engines: Sequence[Engine], policy: PolicySpec) -> bool:
    """Return whether a queue stood in the long window: what is served may be what was asked before."""
    waiting = signals.total(engines, signals.gauge_mean("waiting", policy.window_in)) or 0.0
    carrying = sum(engine.carrying for engine in engines)
    return waiting > policy.consent.queue_per_instance * carrying


def _rate(
    engines: Engines, seen: tuple[Role, ...], length: float, offset: float, policy: PolicySpec
) -> float | None:
    """Return requests/s as they arrive: the larger of what the roles ``seen`` tell; None: none tells.

    What arrives at decode is what prefill lets through: behind a queue that is capacity, and while
    the queue is worked off, more than anybody asks for. Then prefill alone is believed.
    """
    known = []
    for role in reversed(seen):
        group = engines[role]
        settled = any(e.carrying and e.fresh and not e.young for e in group)
        # Where all are young, what they hold may have waited for them for long.
        rate = signals.total(
            group,
            (lambda engine: engine.came(length, offset))
            if settled
            else signals.rate_of("arrived", length, offset),
        )
        if rate is not None:
            known.append(max(0.0, rate))
    first = known[0] if known and _behind(engines[seen[-1]], policy) else 0.0
    return first or max(known, default=None)


def _chance(rate: float, length: float) -> float:
    """Return one standard deviation of a rate that was counted over ``length`` s: √n of n."""
    return math.sqrt(max(rate, 0.0) / length)


# ---- for scale-in --------------------------------------------------------------------------


def peak_demand(engines: Engines, view: ServiceView, role: Role) -> Demand:
    """Return the highest demand on ``role`` over the long window, by the same formula.

    An engine not heard all through the window counts at its full target.
    """
    policy = view.spec.policy
    step = policy.window_out / 2
    count = 1 + int((policy.window_in - policy.window_out) / step + 1e-6)
    seen, unheard = _seen(engines, view, role, [i * step for i in range(count)])
    values = [demand.value for demand in seen if demand.value is not None]
    if not values:
        return Demand(None, UNKNOWN)
    highest, assumed = max(values), sum(engine.target for engine in unheard)
    text = f"{highest + assumed:.1f} tok/s = highest {highest:.1f} in {policy.window_in:g}s"
    if unheard:
        text += f" + {len(unheard)} not heard all the time, at full target {assumed:.1f}"
    return Demand(highest + assumed, text, seen[0].served, seen[0].lasting)


def lasting_peak(engines: Engines, view: ServiceView, role: Role, length: float) -> float | None:
    """Return the highest lasting demand (its backlog left out) in ``length`` s; None is unknown.

    An engine not heard all through the long window counts at its full target.
    """
    step = view.spec.policy.window_out
    offsets = [i * step for i in range(max(1, round(length / step)))]
    seen, unheard = _seen(engines, view, role, offsets)
    values = [demand.lasting for demand in seen if demand.lasting is not None]
    return max(values) + sum(engine.target for engine in unheard) if values else None


def _seen(
    engines: Engines, view: ServiceView, role: Role, offsets: Sequence[float]
) -> tuple[list[Demand], list[Engine]]:
    """Return the demand of those heard all through the long window at each offset, and the others."""
    steady = {name: [e for e in group if _steady(e, view)] for name, group in engines.items()}
    unheard = [e for e in engines[role] if not _steady(e, view) and not _known_quiet(e, view)]
    return [demand_on(role, steady, view.spec, offset=one) for one in offsets], unheard


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
