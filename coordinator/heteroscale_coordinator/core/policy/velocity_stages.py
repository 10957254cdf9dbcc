"""What token velocity compares: tokens/s that each stage is asked for, and what its instances move.

Arrivals and waiting requests ask; ``min(V_P, V_N)`` and ``V_D ÷ L`` are what an instance moves. What
cannot be told makes its stage unknown, and no stage of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_coordinator.core.model import counts_as_supply
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.backlog import unanswered
from heteroscale_coordinator.core.policy.scene import Scene
from heteroscale_coordinator.core.policy.windows import Engine
from heteroscale_coordinator.core.spec.velocity import VelocitySpec

P, D = Role.PREFILL, Role.DECODE
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Stage:
    """One role: what it is asked for, and what its instances move. Tokens/s."""

    asked: float
    rates: tuple[float, ...]
    """Of every instance counted, slowest first."""
    next_rate: float
    """Of one that would be added."""

    @property
    def carried(self) -> float:
        """What all of them move."""
        return sum(self.rates)

    def left_with(self, asked: float, tolerance: float) -> int:
        """Return the fewest instances of which ``asked`` is at most 1 − θ; all when it never is."""
        for count in range(1, len(self.rates)):
            if asked <= (1 - tolerance) * sum(self.rates[:count]) + _SLACK:
                return count
        return len(self.rates)


def stages(
    scene: Scene, velocity: VelocitySpec, window: float, suffix: str
) -> Mapping[Role, Stage]:
    """Return the stages of which enough is known, over a window of seconds."""
    arrivals = _arrivals(scene, window, suffix)
    if arrivals is None:
        return {}
    found = {
        P: _prefill(scene, velocity, arrivals, window, suffix),
        D: _decode(scene, velocity, arrivals, window, suffix),
    }
    return {role: stage for role, stage in found.items() if stage is not None}


def _arrivals(scene: Scene, window: float, suffix: str) -> float | None:
    """Return requests/s, one standard deviation (√n of n) low, so that chance is no rise."""
    rates = [
        rate
        for role in (P, D)
        if (rate := signals.total(scene.signals.engines(role), signals.rate_of("arrived", window)))
        is not None
    ]
    if not rates:
        return None
    formula = "max(seen - sqrt(seen / window), 0)"
    name = f"velocity_arrivals{suffix}"
    return scene.reckon(name, formula, "req/s", seen=max(rates), window=window)


def _prefill(
    scene: Scene, velocity: VelocitySpec, arrivals: float, window: float, suffix: str
) -> Stage | None:
    engines, policy = scene.signals.engines(P), scene.policy
    missed = signals.tokens_per_request(engines, P, policy.window_in)
    if missed is None:
        return None
    asked = scene.reckon(
        f"velocity_prefill_asked{suffix}",
        "arrivals * missed + queued * missed / horizon",
        "tok/s",
        arrivals=arrivals,
        missed=missed,
        queued=_queued(scene, P, window),
        horizon=policy.backlog_horizon,
    )
    limit = math.inf
    if velocity.network_tokens is not None:
        # Of cached tokens nothing is computed, and their KV is sent all the same.
        told, _ = signals.quotient(
            engines, "prompt_tokens", "computed_prompt_tokens", policy.window_in
        )
        limit = scene.reckon(
            "velocity_network",
            "network / prompt_per_missed",
            "tok/s",
            network=velocity.network_tokens,
            prompt_per_missed=max(1.0, told or 1.0),
        )
    rates = _rates(scene, P, velocity.prefill, 1.0)
    return Stage(asked, *_capped(rates, limit))


def _decode(
    scene: Scene, velocity: VelocitySpec, arrivals: float, window: float, suffix: str
) -> Stage | None:
    policy, engines = scene.policy, scene.signals.engines(D)
    output = signals.tokens_per_request(engines, D, policy.window_in)
    running = signals.total(engines, signals.gauge_mean("running", window))
    if output is None or running is None:
        return None
    slo = scene.spec.slo.tbt
    due = 0.0
    if slo is not None:
        formula = "running / tbt_slo"
        name = f"velocity_decode_due{suffix}"
        due = scene.reckon(name, formula, "tok/s", running=running, tbt_slo=slo)
    asked = scene.reckon(
        f"velocity_decode_asked{suffix}",
        "max(arrivals * output, due) + queued * output / horizon",
        "tok/s",
        arrivals=arrivals,
        output=output,
        due=due,
        queued=_queued(scene, D, window),
        horizon=policy.backlog_horizon,
    )
    context = 1.0
    if velocity.decode is not None:
        prompt = _prompt(scene)
        if prompt is None:
            return None
        formula = "prompt + output / 2"
        context = scene.reckon("velocity_context", formula, "tokens", prompt=prompt, output=output)
    rates = _rates(scene, D, velocity.decode, context)
    return Stage(asked, *_capped(rates, math.inf))


def _prompt(scene: Scene) -> float | None:
    """Return the mean prompt of a request, cached tokens included; None when nobody tells it."""
    for role in (D, P):
        engines = scene.signals.engines(role)
        mean, ended = signals.quotient(
            engines, "prompt_tokens", "requests_finished", scene.policy.window_in
        )
        if mean and ended >= signals.ENOUGH_REQUESTS:
            return mean
    return None


def _queued(scene: Scene, role: Role, window: float) -> float:
    """Return the requests that waited all through the window, and that nothing answers yet."""
    return unanswered(role, scene.signals.engines(role), scene.policy, window)


@dataclass(frozen=True, slots=True)
class _Rates:
    of_each: tuple[float, ...]
    of_next: float


def _rates(
    scene: Scene, role: Role, given: float | Mapping[str, float] | None, context: float
) -> _Rates:
    """Return tokens/s of every instance counted, and of one to be added."""

    def rate(gpu_type: str, target: float) -> float:
        if given is None:
            return target
        if isinstance(given, Mapping):
            return given.get(gpu_type, sum(given.values()) / len(given)) / context
        return given / context

    def of(engine: Engine) -> float:
        return rate(engine.member.instance.gpu_type, engine.target)

    counted = [e for e in scene.signals.engines(role) if counts_as_supply(e.member.instance)]
    rates = tuple(sorted(of(engine) for engine in counted))
    preferred = next(iter(scene.spec.roles[role].gpu_types), None)
    if preferred is None and rates:
        return _Rates(rates, sum(rates) / len(rates))
    return _Rates(rates, rate(preferred or "", scene.loads[role].supply.next_target))


def _capped(rates: _Rates, limit: float) -> tuple[tuple[float, ...], float]:
    return tuple(min(rate, limit) for rate in rates.of_each), min(rates.of_next, limit)
