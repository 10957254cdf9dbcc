"""What keeps the law from hunting: cooldowns, the time demand has been low, how long a start takes."""

from __future__ import annotations

import math

from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.policy.flap import factor_in, factor_out
from heteroscale_coordinator.core.spec import PolicySpec

MAX_COOLDOWN_FACTOR = 32.0


def cooldown_out_left(memory: PolicyMemory, policy: PolicySpec, now: float) -> float:
    """Return the seconds until the next scale-out by demand.

    Neither a scale-in nor a step of the guard delays it: the net must not hold up the driver.
    Lengthened by what reversals leave.
    """
    last = memory.last_out_at
    length = policy.cooldown_out * factor_out(memory, policy, now).value
    return 0.0 if last is None else max(0.0, last + length - now)


def cooldown_in_left(memory: PolicyMemory, policy: PolicySpec, now: float) -> float:
    """Return the seconds until the next scale-in, counted from the last change in either direction.

    Lengthened by what failed scale-ins and reversals leave.
    """
    kinds = (memory.last_out_at, memory.last_guard_at, memory.last_in_at)
    changes = [at for at in kinds if at is not None]
    length = policy.cooldown_in * factor_in(memory, policy, now).value
    return max(0.0, max(changes) + length - now) if changes else 0.0


def low_since(memory: PolicyMemory, now: float, *, low: bool) -> float | None:
    """Return since when demand has been low without a break; unknown demand is no low demand."""
    if not low:
        return None
    return now if memory.low_since is None else min(memory.low_since, now)


def startup_p90(memory: PolicyMemory, policy: PolicySpec) -> float:
    """Return the start-up time that nine of ten launches keep, measured, or the assumed one."""
    if not memory.startup_times:
        return policy.guard.startup
    ordered = sorted(memory.startup_times)
    return ordered[math.ceil(0.9 * len(ordered)) - 1]
