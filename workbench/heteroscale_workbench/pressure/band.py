"""The band in which the P:D ratio may move: how far the service's own requests move it.

The ratio that a stretch of time needs is `(prompt tokens ÷ a prefill instance's limit) ÷ (output tokens ÷
a decode instance's limit)`. The band goes from a low to a high quantile of that over a recording, and is
widened, for a recording is one day of many and limits change with the lengths. It always holds the tested
ratio, and ends where no split held a load, or where decode's links could not take the KV.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from heteroscale.words import Role
from heteroscale_coordinator.core.spec import RoleSpec
from heteroscale_simulator.traffic.load import Floats
from heteroscale_workbench.pressure.workload import Course

STRETCH = 60.0
"""Seconds at least over which a need is taken: nothing is scaled for less."""
REQUESTS = 100
"""Requests at least in a mean stretch: fewer are noise of their lengths, and not a need."""
LOW, HIGH = 0.01, 0.99
"""Quantiles of the need, each stretch by its tokens' share of the work."""
WIDENED = 1.25
"""Either end is moved out by this factor."""
LINKS_BUSY = 0.8
"""Most of a decode instance's links that KV may take: near 1 every transfer waits."""


@dataclass(frozen=True, slots=True)
class Band:
    """Prefill instances for a decode instance, and where the ends come from."""

    low: float
    high: float
    because: str
    """What the ends are, in words."""

    @property
    def written(self) -> str:
        """As ``spec.ratio`` is written, in three digits: more were not measured."""
        return f"{{min: {self.low:.3g}, max: {self.high:.3g}}}"


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the pressure test found one instance to carry, and what it can be given."""

    prefill: float
    """Prompt tokens/s of a prefill instance at its limit, as is decode's."""
    decode: float
    links: float = math.inf
    """Prompt tokens/s whose KV a decode instance's links take; infinite where nobody knows."""
    factors: Mapping[Role, Mapping[int, float]] = field(default_factory=dict)
    """Of each role, by mean prompt tokens; see ``pressure/lengths.py``."""


def band_of(
    course: Course | None, tested: float, bounds: tuple[float, float], capacity: Capacity
) -> Band:
    """Return the band around the ``tested`` ratio.

    Args:
        course: the requests by time; None where lengths were only stated: then nothing is known of how
            they move, and the band is the widening alone.
        tested: the best split's ratio.
        bounds: ratios beyond which a split held no load.
        capacity: of an instance of each role.

    """
    needs, weights, stretch = np.array([tested]), np.ones(1), 0.0
    if course is not None:
        needs, weights, stretch = needed(course, capacity)
    low, high = _quantile(needs, weights, LOW), _quantile(needs, weights, HIGH)
    wanted = min(low, tested) / WIDENED, max(high, tested) * WIDENED
    least, most = bounds[0], min(bounds[1], LINKS_BUSY * capacity.links / capacity.prefill)
    ends = max(wanted[0], min(least, tested)), min(wanted[1], max(most, tested))
    seen = (
        f"needs of {stretch:.0f} s go from {low:.3g} to {high:.3g}" if stretch else "lengths stated"
    )
    return Band(*ends, because=f"{seen}, × {WIDENED}{_cut(wanted, ends)}")


def needed(course: Course, capacity: Capacity) -> tuple[Floats, Floats, float]:
    """Return the ratio that each stretch needs, the instances that it needs, and its seconds.

    A stretch without a request needs no ratio, and is left out.
    """
    index, stretch = stretches(course)
    prompts = np.bincount(index, course.prompt * course.weight)
    outputs = np.bincount(index, course.output * course.weight)
    some = (prompts > 0) & (outputs > 0)
    means = prompts[some] / np.bincount(index, course.weight)[some]
    prefill = prompts[some] / stretch / (capacity.prefill * _at(capacity, Role.PREFILL, means))
    decode = outputs[some] / stretch / (capacity.decode * _at(capacity, Role.DECODE, means))
    return prefill / decode, prefill + decode, stretch


def stretches(course: Course) -> tuple[np.ndarray, float]:
    """Return the number of each row's stretch, and the seconds of one."""
    at = course.at - course.at.min()
    whole = float(at.max()) + 1.0
    stretch = STRETCH * max(1, math.ceil(REQUESTS * whole / course.requests / STRETCH))
    return (at // stretch).astype(np.int64), stretch


def _at(capacity: Capacity, role: Role, prompts: Floats) -> Floats:
    """Return the factors on a role's capacity at mean prompts, as the policy reads them."""
    rules = RoleSpec(template=role.value, target_by_prompt=dict(capacity.factors.get(role, {})))
    return np.array([rules.factor_at(prompt) for prompt in prompts.tolist()])


def _quantile(values: Floats, weights: Floats, share: float) -> float:
    """Return the smallest value that ``share`` of the weights do not exceed."""
    order = np.argsort(values)
    so_far = np.cumsum(weights[order])
    place = np.searchsorted(so_far, share * so_far[-1])
    return float(values[order][min(place, len(values) - 1)])


def _cut(wanted: tuple[float, float], ends: tuple[float, float]) -> str:
    """Say which end was not let go as far as was wanted."""
    cut = [name for name, a, b in zip(("low", "high"), wanted, ends, strict=True) if a != b]
    return (
        f"; cut at the {' and '.join(cut)} end to what held a load and the links take"
        if cut
        else ""
    )
