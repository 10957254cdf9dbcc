"""Engines' metrics on their way to whoever decides: late, noisy, sometimes missing.

A plant's readings become rows of a matrix, one an engine, in the columns of ``COLUMNS``. Noise is laid
on gauges, and on the rise of counters from one look to the next, so that a counter never falls; an
engine that did nothing is told to have done nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.fleet import TelemetrySpec
from heteroscale_simulator.plant.port import Plant, Readings
from heteroscale_simulator.traffic.load import Floats

COLUMNS = (
    *("generation_tokens", "prompt_tokens", "computed_prompt_tokens"),
    *("requests_finished", "requests_aborted"),
    *("running", "waiting", "transferring", "kv_usage"),
    *("ttft_sum", "ttft_count", "tbt_sum", "tbt_count"),
    *("gpu_util", "sm_activity"),
)
"""In the order of the core's ``EngineSample`` after its time; latencies as sums and counts. Hardware is
for rivals alone."""
GAUGES = ("running", "waiting", "transferring", "kv_usage", "gpu_util", "sm_activity")
SHARES = ("kv_usage", "gpu_util", "sm_activity")
_IS_GAUGE = np.array([name in GAUGES for name in COLUMNS])
PLACE = {name: place for place, name in enumerate(COLUMNS)}
SEED = 307
"""Offset of telemetry's own random numbers from the run's seed."""


@dataclass(frozen=True, slots=True)
class Look:
    """What all engines of a service would tell at one moment."""

    at: float
    rows: dict[str, int]
    """Row of each engine by id."""
    values: Floats
    """Shape (engines, columns)."""


class Telemetry:
    """Looks at one plant, at most once a second, and remembers the last few looks."""

    def __init__(self, plant: Plant, how: TelemetrySpec, seed: Sequence[int], keep: int) -> None:
        self._plant, self._how = plant, how
        self._rng = np.random.default_rng(seed)
        self._looks: deque[Look] = deque(maxlen=keep)
        self._ids: tuple[str, ...] = ()
        self._rows: dict[str, int] = {}
        self._told: dict[str, Floats] = {}
        self._seen: dict[str, Floats] = {}
        self._readings: tuple[float, Readings] | None = None

    def readings(self, now: float) -> Readings:
        """Return the plant's readings at ``now``, asked for once."""
        if self._readings is None or self._readings[0] != now:
            self._readings = (now, self._plant.readings())
        return self._readings[1]

    def look(self, now: float) -> Look:
        """Look now, and remember it."""
        if self._looks and self._looks[-1].at == now:
            return self._looks[-1]
        readings = self.readings(now)
        ids = tuple(readings.ids)
        if ids != self._ids:
            self._ids, self._rows = ids, {name: row for row, name in enumerate(ids)}
        values = np.column_stack([getattr(readings, name) for name in COLUMNS])
        if self._how.noise:
            values = self._noisy(values)
        look = Look(now, self._rows, values)
        self._looks.append(look)
        return look

    def newest(self, now: float) -> Look | None:
        """Return the newest look that is at least the delay old."""
        for look in reversed(self._looks):
            if look.at <= now - self._how.delay:
                return look
        return None

    def missed(self, count: int) -> NDArray[np.bool_] | None:
        """Draw which of ``count`` scrapes fail; None when none ever does."""
        if not self._how.missing:
            return None
        return self._rng.random(count) < self._how.missing

    def _noisy(self, values: Floats) -> Floats:
        factors = np.maximum(0.0, 1.0 + self._how.noise * self._rng.standard_normal(values.shape))
        seen = np.array([self._seen.get(name, _NOTHING) for name in self._ids]).reshape(
            values.shape
        )
        told = np.array([self._told.get(name, _NOTHING) for name in self._ids]).reshape(
            values.shape
        )
        result: Floats = np.where(_IS_GAUGE, values * factors, told + (values - seen) * factors)
        shares = [PLACE[name] for name in SHARES]
        result[:, shares] = np.minimum(result[:, shares], 1.0)
        self._seen = dict(zip(self._ids, values, strict=True))
        self._told = dict(zip(self._ids, result, strict=True))
        return result


_NOTHING: Floats = np.zeros(len(COLUMNS))
