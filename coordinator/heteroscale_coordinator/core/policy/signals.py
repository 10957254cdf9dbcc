"""Signals of a service, from the tracks of its engines.

Sums over a role are taken over the engines heard and scaled to those that carry traffic, by their
targets: a ratio of demand to supply is thus the ratio of the fresh subset. What nobody told is
None, never zero; an engine that is known to be idle is known to be zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_coordinator.core.model import SignalValue
from heteroscale_coordinator.core.policy.outliers import Outlier, set_aside
from heteroscale_coordinator.core.policy.routers import Routers, observe_routers
from heteroscale_coordinator.core.policy.view import ENDED_STATES, ServiceView
from heteroscale_coordinator.core.policy.windows import (
    Counter,
    Engine,
    Gauge,
    engine_of,
)
from heteroscale_coordinator.core.spec import PolicySpec

Measure = Callable[[Engine], float | None]

ENOUGH_REQUESTS = 3.0
"""Requests that must have ended for a mean per request to be worth something."""
ENOUGH_OBSERVATIONS = 5.0
"""Latencies observed for their mean to be a breach; below, the long window is read."""


@dataclass(frozen=True, slots=True)
class RoleSignals:
    """One role: its engines and how well they are heard."""

    role: Role
    engines: tuple[Engine, ...]
    """Of every state but ended ones: what is withdrawn or draining still serves what it has."""
    carrying: int
    heard: int
    """Of the carrying ones: fresh, with a known rate."""
    quality: str
    """ok, partial, stale, missing or idle."""
    outliers: tuple[Outlier, ...] = ()

    @property
    def coverage(self) -> float:
        """Share heard of the engines that carry traffic; 0 when none does."""
        return self.heard / self.carrying if self.carrying else 0.0

    @property
    def idle(self) -> bool:
        """Whether every engine that carries traffic is known to do nothing."""
        return self.quality == "idle"


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of a service's load just now. ``values`` in the order they are shown."""

    roles: Mapping[Role, RoleSignals]
    values: tuple[SignalValue, ...]
    routers: Routers

    def engines(self, role: Role) -> tuple[Engine, ...]:
        """Return the engines of a role; none when the service has no such role."""
        found = self.roles.get(role)
        return found.engines if found else ()


def observe_signals(view: ServiceView) -> Signals:
    """Return the signals of the service: ``<role>_tps``, queues, latencies, usage."""
    roles = {role: _observe_role(view, role) for role in view.spec.roles}
    values = tuple(value for seen in roles.values() for value in _values(seen, view))
    routers, policy = observe_routers(view), view.spec.policy
    values += routers.values(policy.window_out, policy.window_in)
    return Signals(roles, values, routers)


def _observe_role(view: ServiceView, role: Role) -> RoleSignals:
    policy = view.spec.policy
    engines = tuple(
        engine_of(member, view.spec, view.now)
        for member in view.members
        if member.instance.role is role and member.instance.state not in ENDED_STATES
    )
    carrying = [engine for engine in engines if engine.carrying]
    heard = [e for e in carrying if e.rate(busy_counter(role, e), policy.window_out) is not None]
    idle = bool(carrying) and all(e.idle(policy.window_out) for e in carrying)
    quality = _quality(carrying, heard, idle)
    outliers = () if idle else _outliers(role, engines, policy)
    return RoleSignals(role, engines, len(carrying), len(heard), quality, outliers)


def _outliers(role: Role, engines: Sequence[Engine], policy: PolicySpec) -> tuple[Outlier, ...]:
    told = next((e for e in engines if e.samples.tells("computed_prompt_tokens")), None)
    counter = busy_counter(role, told) if told else "generation_tokens"
    if role is Role.PREFILL and told is None:
        counter = "prompt_tokens"
    return set_aside(role, counter, engines, policy)


def _quality(carrying: Sequence[Engine], heard: Sequence[Engine], idle: bool) -> str:
    if idle:
        return "idle"
    if carrying and len(heard) == len(carrying):
        return "ok"
    if heard:
        return "partial"
    return "stale" if any(len(engine.samples) for engine in carrying) else "missing"


def busy_counter(role: Role, engine: Engine) -> Counter:
    """Return the counter of a role's work: generated tokens, or prompt tokens that missed the cache.

    An engine that does not tell cache misses apart is read by all its prompt tokens, which errs to
    more demand. A prefill engine's own generated tokens (one a request) never count.
    """
    if role is not Role.PREFILL:
        return "generation_tokens"
    told = engine.samples.tells("computed_prompt_tokens")
    return "computed_prompt_tokens" if told else "prompt_tokens"


# ---- sums over a role ------------------------------------------------------------------------


def target_size(engine: Engine) -> float:
    """Return the size of an engine in sums of tokens: its target."""
    return engine.target


def total(
    engines: Iterable[Engine], measure: Measure, size: Callable[[Engine], float] = target_size
) -> float | None:
    """Return the sum over engines, scaled by ``size`` from those that tell to all that carry traffic.

    Engines that are not sent traffic add what they tell, and so do those that are only just sent
    some: what they do not tell yet is little. None when none that should tell does.
    """
    carrying = told = heard = other = 0.0
    known = False
    for engine, value in _bounded([(engine, measure(engine)) for engine in engines]):
        if not engine.carrying:
            known = known or value is not None
            other += value or 0.0
            continue
        if engine.young and value is None:
            continue
        carrying += size(engine)
        if value is not None:
            told += size(engine)
            heard += value
    if carrying and not told:
        return None
    if not carrying and not known:
        return None
    return other + (heard * carrying / told if told else 0.0)


def _bounded(told: list[tuple[Engine, float | None]]) -> list[tuple[Engine, float | None]]:
    """Return what engines tell, that of outlying ones brought into the range of their peers."""
    if not any(engine.aside for engine, _ in told):
        return told
    return [
        (engine, _into_range(engine, value, told) if engine.aside else value)
        for engine, value in told
    ]


def _into_range(
    engine: Engine, value: float | None, told: list[tuple[Engine, float | None]]
) -> float | None:
    gpu = engine.member.instance.gpu_type
    peers = [
        known
        for peer, known in told
        if known is not None
        and peer.carrying
        and not peer.aside
        and peer.member.instance.gpu_type == gpu
    ]
    return None if value is None or not peers else min(max(value, min(peers)), max(peers))


def rate_of(counter: Counter, length: float, offset: float = 0.0) -> Measure:
    """Return the measure "rate of ``counter``"."""
    return lambda engine: engine.rate(counter, length, offset)


def busy_rate(role: Role, length: float, offset: float = 0.0) -> Measure:
    """Return the measure "rate of the role's own work"."""
    return lambda engine: engine.rate(busy_counter(role, engine), length, offset)


def arriving(
    engines: Sequence[Engine], role: Role, long: float, length: float, offset: float = 0.0
) -> Measure:
    """Return the measure "tokens/s that arrive": requests × the mean tokens of one, of the role."""
    each = tokens_per_request(engines, role, long)

    def measure(engine: Engine) -> float | None:
        rate = engine.rate("arrived", length, offset)
        return None if rate is None or each is None else rate * each

    return measure


def gauge_mean(gauge: Gauge, length: float, offset: float = 0.0) -> Measure:
    """Return the measure "mean of ``gauge`` over the window"."""

    def measure(engine: Engine) -> float | None:
        values = _gauges(engine, gauge, length, offset)
        return sum(values) / len(values) if values else None

    return measure


def gauge_lowest(gauge: Gauge, length: float, offset: float = 0.0) -> Measure:
    """Return the measure "lowest of ``gauge`` in the window": what was there all the time."""
    return lambda engine: min(_gauges(engine, gauge, length, offset), default=None)


def _gauges(engine: Engine, gauge: Gauge, length: float, offset: float = 0.0) -> list[float]:
    if not engine.fresh:
        return []
    span = engine.span(length, offset)
    return span.gauges(gauge) if span else []


def quotient(
    engines: Iterable[Engine], above: Counter, below: Counter, length: float
) -> tuple[float | None, float]:
    """Return (Σ rise of ``above`` ÷ Σ rise of ``below``, the divisor) over the engines that tell.

    Those that stand apart are left out.
    """
    numerator = divisor = 0.0
    for engine in engines:
        span = engine.span(length) if engine.fresh and not engine.aside else None
        top, bottom = (span.rise(above), span.rise(below)) if span else (None, None)
        if top is None or bottom is None or top < 0 or bottom < 0:
            continue
        numerator += top
        divisor += bottom
    return (numerator / divisor if divisor > 0 else None), divisor


def tokens_per_request(engines: Iterable[Engine], role: Role, length: float) -> float | None:
    """Return the mean tokens of a request in the role's own counter; None when too few have ended.

    Tokens of requests still running are in the counter, those requests are not: on average half of
    each is done, so the change in running requests (and aborted ones) counts half.
    """
    tokens = requests = 0.0
    for engine in engines:
        span = engine.span(length) if engine.fresh and not engine.aside else None
        finished = span.rise("requests_finished") if span else None
        made = span.rise(busy_counter(role, engine)) if span else None
        if span is None or finished is None or made is None:
            continue
        unfinished = (span.rise("running") or 0.0) + (span.rise("requests_aborted") or 0.0)
        tokens += made
        requests += max(finished / 2, finished + unfinished / 2)
    return tokens / requests if requests >= ENOUGH_REQUESTS else None


def mean_latency(
    engines: Sequence[Engine], kind: str, short: float, long: float
) -> tuple[float | None, float]:
    """Return (mean seconds, observations) of ``ttft`` or ``tbt``, exact from Δsum ÷ Δcount.

    The short window when it holds enough observations; otherwise the long one.
    """
    counters: tuple[Counter, Counter] = (
        ("ttft_sum", "ttft_count") if kind == "ttft" else ("tbt_sum", "tbt_count")
    )
    mean, count = quotient(engines, *counters, short)
    if count >= ENOUGH_OBSERVATIONS:
        return mean, count
    return quotient(engines, *counters, long)


# ---- what is shown ---------------------------------------------------------------------------


def _values(seen: RoleSignals, view: ServiceView) -> list[SignalValue]:
    policy, engines = view.spec.policy, seen.engines
    short, long = policy.window_out, policy.window_in
    ttft, observed = mean_latency(engines, "ttft", short, long)
    tbt, counted = mean_latency(engines, "tbt", short, long)
    usages = [usage for e in engines if (usage := e.newest("kv_usage")) is not None]
    rows: list[tuple[str, float | None, str, float]] = [
        ("tps", total(engines, busy_rate(seen.role, short)), "tok/s", short),
        ("arriving_tps", total(engines, arriving(engines, seen.role, long, short)), "tok/s", short),
        ("arrival_rate", total(engines, rate_of("arrived", short)), "req/s", short),
        ("running", total(engines, _newest("running")), "req", 0.0),
        ("waiting", total(engines, _newest("waiting")), "req", 0.0),
        ("transferring", total(engines, _newest("transferring")), "req", 0.0),
        ("backlog", total(engines, gauge_lowest("queued", short)), "req", short),
        ("kv_usage", max(usages, default=None), "share", 0.0),
        ("gpu_util", share_of(engines, "gpu_util", short), "share", short),
        ("sm_activity", share_of(engines, "sm_activity", short), "share", short),
        ("rdma_share", share_of(engines, "rdma_share", short), "share", short),
        ("outliers", float(sum(one.aside for one in seen.outliers)), "instances", long),
        ("ttft", ttft, "s", short if observed >= ENOUGH_OBSERVATIONS else long),
        ("tbt", tbt, "s", short if counted >= ENOUGH_OBSERVATIONS else long),
    ]
    return [_value(seen, row, policy.freshness) for row in rows]


def _value(
    seen: RoleSignals, row: tuple[str, float | None, str, float], freshness: float
) -> SignalValue:
    name, value, unit, window = row
    quality = seen.quality
    if value is None:
        quality = "stale" if quality == "stale" else "missing"
    reason = _reason(seen, quality, freshness, told=value is not None)
    shown = f"{seen.role.value}_{name}"
    return SignalValue(shown, value, unit, quality, seen.coverage, window, freshness, reason)


def _reason(seen: RoleSignals, quality: str, freshness: float, *, told: bool) -> str:
    aside = ", ".join(one.instance_id for one in seen.outliers if one.aside)
    why = _why_not_ok(seen, quality, freshness, told=told)
    return "; ".join(part for part in (why, f"set aside: {aside}" if aside else "") if part)


def _why_not_ok(seen: RoleSignals, quality: str, freshness: float, *, told: bool) -> str:
    if not seen.carrying:
        return "nothing is in service"
    if quality == "partial":
        return f"{seen.carrying - seen.heard} of {seen.carrying} not heard for {freshness:g} s"
    if quality == "stale":
        return f"none of {seen.carrying} heard for {freshness:g} s"
    if quality == "missing":
        return "never heard" if not seen.heard and not told else "nothing to observe, or not told"
    return "nothing runs and nothing waits" if quality == "idle" else ""


def share_of(engines: Iterable[Engine], gauge: Gauge, length: float) -> float | None:
    """Return the mean of a hardware's share over instances that carry traffic and tell it, or None."""
    measure = gauge_mean(gauge, length)
    heard = [e for e in engines if e.carrying and not e.aside and e.samples.has_hardware]
    told = [value for e in heard if (value := measure(e)) is not None]
    return sum(told) / len(told) if told else None


def _newest(gauge: Gauge) -> Measure:
    return lambda engine: engine.newest(gauge)
