"""What is known of a service's load: every role's engines, how well they are heard, and what is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_coordinator.core.model import SignalValue
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.lengths import AtLength, at_lengths
from heteroscale_coordinator.core.policy.outliers import Outlier, set_aside
from heteroscale_coordinator.core.policy.routers import Routers, observe_routers
from heteroscale_coordinator.core.policy.view import ENDED_STATES, ServiceView
from heteroscale_coordinator.core.policy.windows import Engine, engine_of
from heteroscale_coordinator.core.spec import PolicySpec


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
    lengths: Mapping[Role, AtLength]
    """By what each role's targets are multiplied; the engines' own already are."""

    def engines(self, role: Role) -> tuple[Engine, ...]:
        """Return the engines of a role; none when the service has no such role."""
        found = self.roles.get(role)
        return found.engines if found else ()


def observe_signals(view: ServiceView) -> Signals:
    """Return the signals of the service: ``<role>_tps``, queues, latencies, usage."""
    roles = {role: _observe_role(view, role) for role in view.spec.roles}
    values = tuple(value for seen in roles.values() for value in _values(seen, view))
    lengths = at_lengths({role: seen.engines for role, seen in roles.items()}, view)
    for role, seen in roles.items():
        for engine in seen.engines:
            engine.target *= lengths[role].factor
    routers, policy = observe_routers(view), view.spec.policy
    values += routers.values(policy.window_out, policy.window_in)
    return Signals(roles, values, routers, lengths)


def _observe_role(view: ServiceView, role: Role) -> RoleSignals:
    policy = view.spec.policy
    engines = tuple(
        engine_of(member, view.spec, view.now)
        for member in view.members
        if member.instance.role is role and member.instance.state not in ENDED_STATES
    )
    carrying = [engine for engine in engines if engine.carrying]
    heard = [
        e for e in carrying if e.rate(signals.busy_counter(role, e), policy.window_out) is not None
    ]
    idle = bool(carrying) and all(e.idle(policy.window_out) for e in carrying)
    quality = _quality(carrying, heard, idle)
    outliers = () if idle else _outliers(role, engines, policy)
    return RoleSignals(role, engines, len(carrying), len(heard), quality, outliers)


def _outliers(role: Role, engines: Sequence[Engine], policy: PolicySpec) -> tuple[Outlier, ...]:
    told = next((e for e in engines if e.samples.tells("computed_prompt_tokens")), None)
    counter = signals.busy_counter(role, told) if told else "generation_tokens"
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


# ---- what is shown ---------------------------------------------------------------------------


def _values(seen: RoleSignals, view: ServiceView) -> list[SignalValue]:
    policy, engines = view.spec.policy, seen.engines
    short, long = policy.window_out, policy.window_in
    ttft, observed = signals.mean_latency(engines, "ttft", short, long)
    tbt, counted = signals.mean_latency(engines, "tbt", short, long)
    usages = [usage for e in engines if (usage := e.newest("kv_usage")) is not None]
    rows: list[tuple[str, float | None, str, float]] = [
        ("tps", signals.total(engines, signals.busy_rate(seen.role, short)), "tok/s", short),
        (
            "arriving_tps",
            signals.total(engines, signals.arriving(engines, seen.role, long, short)),
            "tok/s",
            short,
        ),
        ("arrival_rate", signals.total(engines, signals.rate_of("arrived", short)), "req/s", short),
        ("running", signals.total(engines, signals.newest("running")), "req", 0.0),
        ("waiting", signals.total(engines, signals.newest("waiting")), "req", 0.0),
        ("transferring", signals.total(engines, signals.newest("transferring")), "req", 0.0),
        ("backlog", signals.total(engines, signals.gauge_lowest("queued", short)), "req", short),
        ("kv_usage", max(usages, default=None), "share", 0.0),
        ("gpu_util", signals.share_of(engines, "gpu_util", short), "share", short),
        ("sm_activity", signals.share_of(engines, "sm_activity", short), "share", short),
        ("rdma_share", signals.share_of(engines, "rdma_share", short), "share", short),
        ("outliers", float(sum(one.aside for one in seen.outliers)), "instances", long),
        ("ttft", ttft, "s", short if observed >= signals.ENOUGH_OBSERVATIONS else long),
        ("tbt", tbt, "s", short if counted >= signals.ENOUGH_OBSERVATIONS else long),
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
