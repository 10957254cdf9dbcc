"""Latency as the service's users feel it, beside what they were promised.

Means come from Δsum ÷ Δcount and are exact. TTFT is read at the service's routers where all of them
tell it: that is what users feel. Else at prefill (a decode engine's own leaves prefill out), at decode
only when prefill tells none; TBT is read at decode. Where a service has routers, it is said which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Literal

from heteroscale.words import Role
from heteroscale_coordinator.core.memory import Breach, PolicyMemory
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.observe import Signals
from heteroscale_coordinator.core.policy.routers import Routers
from heteroscale_coordinator.core.policy.view import ServiceView
from heteroscale_coordinator.core.policy.windows import Counter, Engine
from heteroscale_coordinator.core.spec import ServiceSpec

Kind = Literal["ttft", "tbt"]


@dataclass(frozen=True, slots=True)
class Latency:
    """One promise and how it is kept."""

    kind: Kind
    role: Role
    """Where it is read."""
    slo: float
    mean: float | None
    """Seconds; None is unknown, or nothing to observe."""
    enough: bool
    """Observed often enough for a breach."""
    idle: bool
    """The role is known to do nothing: as healthy as can be."""
    source: str = ""
    """Where it was read, and why not at the routers; empty when the service has none."""

    @property
    def share(self) -> float | None:
        """The mean as a multiple of the SLO; 0 when idle; None is unknown."""
        if self.mean is not None:
            return self.mean / self.slo
        return 0.0 if self.idle else None

    @property
    def text(self) -> str:
        """The mean beside the SLO."""
        if self.mean is None:
            return f"{self.kind} {'idle' if self.idle else 'unknown'} (SLO {1000 * self.slo:g} ms)"
        at = f" at {self.source}" if self.source else ""
        return f"{self.kind} {1000 * self.mean:.0f} ms of {1000 * self.slo:g} ms{at}"


def latencies(
    seen: Signals, spec: ServiceSpec, *, short: float | None = None
) -> tuple[Latency, ...]:
    """Return every promised latency over the short window, or over ``short`` seconds."""
    promised: list[tuple[Kind, float | None]] = [("ttft", spec.slo.ttft), ("tbt", spec.slo.tbt)]
    window = spec.policy.window_out if short is None else short
    return tuple(_latency(seen, spec, kind, slo, window) for kind, slo in promised if slo)


def _latency(seen: Signals, spec: ServiceSpec, kind: Kind, slo: float, short: float) -> Latency:
    role = spec.sizing_role
    if kind == "ttft" and Role.PREFILL in spec.roles:
        role = Role.PREFILL
    read = role
    mean, count = _mean(seen.engines(role), kind, short, spec)
    if kind == "ttft" and mean is None and not _tells(seen.engines(role), kind):
        read = spec.sizing_role
        mean, count = _mean(seen.engines(read), kind, short, spec)
    source = ""
    if kind == "ttft" and seen.routers:
        source = f"{read.value} ({seen.routers.why_not('ttft_count') or 'the routers saw none'})"
        felt, observed = _felt(seen.routers, short, spec)
        if felt is not None:
            mean, count, source = felt, observed, "the routers"
    enough = count >= signals.ENOUGH_OBSERVATIONS
    return Latency(kind, role, slo, mean, enough, seen.roles[role].idle, source)


def _felt(routers: Routers, short: float, spec: ServiceSpec) -> tuple[float | None, float]:
    """Return TTFT at the routers: over the short window when it holds enough, else over the long one."""
    mean, count = routers.mean("ttft", short)
    if count >= signals.ENOUGH_OBSERVATIONS:
        return mean, count
    return routers.mean("ttft", max(short, spec.policy.window_in))


def _mean(
    engines: Sequence[Engine], kind: Kind, short: float, spec: ServiceSpec
) -> tuple[float | None, float]:
    return signals.mean_latency(engines, kind, short, max(short, spec.policy.window_in))


def _tells(engines: Sequence[Engine], kind: Kind) -> bool:
    column: Counter = "ttft_count" if kind == "ttft" else "tbt_count"
    heard = (engine.samples for engine in engines if len(engine.samples))
    return any(not isnan(samples.value(column, -1)) for samples in heard)


def worst_breach(seen: Sequence[Latency], spec: ServiceSpec) -> Latency | None:
    """Return the latency furthest above the mildest tier; None when none is."""
    tiers = spec.policy.guard.tiers
    if not tiers:
        return None
    limit = tiers[0].breach
    over = [
        one for one in seen if one.enough and one.mean is not None and one.mean > limit * one.slo
    ]
    return max(over, key=lambda one: one.mean / one.slo if one.mean else 0.0, default=None)


def breach_now(memory: PolicyMemory, seen: Sequence[Latency], view: ServiceView) -> Breach | None:
    """Return the breach to remember: it begins above the mildest tier and ends at the SLO.

    Between the two, and while latency is unknown, it neither begins nor ends.
    """
    if worst_breach(seen, view.spec) is not None:
        return memory.breach or Breach(view.now, view.in_service())
    healthy = all(one.share is not None and one.share <= 1.0 for one in seen)
    return None if healthy else memory.breach
