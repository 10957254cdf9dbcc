"""Engines' metrics on their way to whoever decides: late, noisy, sometimes missing.

A plant's readings become rows of a matrix, one an engine, in the columns of ``COLUMNS``. Noise is laid
on gauges, and on the rise of counters since an engine last told them, so that a counter never falls; an
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
    *("gpu_util", "sm_activity", "rdma_share"),
)
"""In the order of the core's ``EngineSample`` after its time; latencies as sums and counts. Hardware
reaches the core as the devices of a report."""
HARDWARE = ("gpu_util", "sm_activity", "rdma_share")
GAUGES = ("running", "waiting", "transferring", "kv_usage", *HARDWARE)
SHARES = ("kv_usage", *HARDWARE)
_SHARES = [COLUMNS.index(name) for name in SHARES]
_IS_GAUGE = np.array([name in GAUGES for name in COLUMNS])
PLACE = {name: place for place, name in enumerate(COLUMNS)}
SEED = 307
"""Offset of telemetry's own random numbers from the run's seed."""


@dataclass(frozen=True, slots=True)
class Look:
    """What all engines of a service would tell at one moment, without noise."""

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
        self._slots: dict[str, int] = {}
        """Row of every engine that ever told anything, in the two below."""
        self._seen: Floats = np.zeros((0, len(COLUMNS)))
        """Counters as they were when last told."""
        self._told: Floats = np.zeros((0, len(COLUMNS)))
        """What was told then."""
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

    def told(self, look: Look, ids: Sequence[str]) -> Floats:
        """Return what these engines tell at a look, in the order of ``ids``: with noise, if any is."""
        values: Floats = look.values[[look.rows[name] for name in ids]]
        if not self._how.noise:
            return values
        slots = [self._slots.setdefault(name, len(self._slots)) for name in ids]
        if len(self._slots) > len(self._seen):
            more = np.zeros((len(self._slots), len(COLUMNS)))
            self._seen = np.vstack([self._seen, more])
            self._told = np.vstack([self._told, more])
        draws = self._rng.standard_normal(values.shape)
        factors = np.maximum(0.0, 1.0 + self._how.noise * draws)
        risen = self._told[slots] + (values - self._seen[slots]) * factors
        result: Floats = np.where(_IS_GAUGE, values * factors, risen)
        result[:, _SHARES] = np.minimum(result[:, _SHARES], 1.0)
        self._seen[slots], self._told[slots] = values, result
        return result
