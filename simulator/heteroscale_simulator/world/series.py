"""Watches a plant from outside, for the report: hardware and signals as they truly are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from heteroscale.words import Role
from heteroscale_simulator.plant.port import Readings
from heteroscale_simulator.traffic.load import Floats
from heteroscale_simulator.world.result import Usage
from heteroscale_simulator.world.twin import S
from heteroscale_simulator.world.yard import Tenant

EVERY = 5
"""Seconds between looks at the hardware; each stands for the seconds since the one before."""
MINUTE = 60
SUMS = ("running", "waiting", "transferring")
SIGNALS = ("tps", *SUMS, "kv_usage")
"""By role, as `decode_tps`: tokens/s of its own work over the minute (computed prompt tokens; generated
tokens), requests running, waiting and transferring, and the highest KV usage of an engine in service."""
_WORK = {Role.PREFILL: "computed_prompt_tokens"}
"""Of the others it is ``generation_tokens``."""

Rows = NDArray[np.intp]


class Watcher:
    """One service, watched through ``seconds`` of traffic."""

    def __init__(self, tenant: Tenant, seconds: int) -> None:
        self._tenant = tenant
        minutes = -(-seconds // MINUTE)
        self._roles = tuple(role for role in Role if role in tenant.spec.roles)
        names = (f"{role.value}_{name}" for role in self._roles for name in SIGNALS)
        self._series: dict[str, list[float]] = {name: [] for name in names}
        self._sums = {role: np.zeros((3, minutes)) for role in self._roles}
        """GPU-seconds in service, those busy, and those with active SMs, by minute."""
        self._work: dict[str, float] = {}
        self._known: tuple[int, tuple[str, ...]] | None = None
        self._rows: dict[Role, tuple[Rows, Floats]] = {}
        """As it was when states and engines were as ``_known`` says."""

    def second(self, second: int, readings: Readings) -> None:
        """Look at the time that has just passed; call it every ``EVERY`` seconds."""
        serving = self._serving(readings)
        minute = (second - 1) // MINUTE
        for role, (rows, gpus) in serving.items():
            weights = gpus * EVERY
            busy = float((readings.gpu_util[rows] * weights).sum())
            active = float((readings.sm_activity[rows] * weights).sum())
            self._sums[role][:, minute] += (float(weights.sum()), busy, active)
        if second % MINUTE == 0:
            self._minute(readings, serving)

    def usage(self) -> Mapping[Role, Usage]:
        """Return what the hardware showed, by minute."""
        found = {}
        for role in self._roles:
            seconds, busy, active = self._sums[role]
            some = np.where(seconds > 0, seconds, 1.0)
            found[role] = Usage(seconds, busy / some, active / some)
        return found

    def signals(self) -> Mapping[str, Floats]:
        """Return the series, one value a whole minute."""
        return {name: np.array(values) for name, values in self._series.items()}

    def _serving(self, readings: Readings) -> dict[Role, tuple[Rows, Floats]]:
        """Return rows and GPUs of the engines in service, by role."""
        known = (self._tenant.version, tuple(readings.ids))
        if known == self._known:
            return self._rows
        found: dict[Role, list[tuple[int, int]]] = {role: [] for role in self._roles}
        twins = self._tenant.twins
        for row, name in enumerate(readings.ids):
            twin = twins.get(name)
            if twin is not None and twin.state is S.IN_SERVICE:
                found[twin.role].append((row, twin.gpus))
        self._known = known
        self._rows = {
            role: (
                np.array([row for row, _ in pairs], dtype=np.intp),
                np.array([gpus for _, gpus in pairs], dtype=np.float64),
            )
            for role, pairs in found.items()
        }
        return self._rows

    def _minute(self, readings: Readings, serving: Mapping[Role, tuple[Rows, Floats]]) -> None:
        done = self._tell_work(readings)
        for role in self._roles:
            mine = self._of(readings, role)
            told = {"tps": done[role] / MINUTE}
            told |= {name: float(getattr(readings, name)[mine].sum()) for name in SUMS}
            told["kv_usage"] = float(readings.kv_usage[serving[role][0]].max(initial=0.0))
            for name, value in told.items():
                self._series[f"{role.value}_{name}"].append(value)

    def _of(self, readings: Readings, role: Role) -> list[int]:
        twins = self._tenant.twins
        return [
            row
            for row, name in enumerate(readings.ids)
            if name in twins and twins[name].role is role
        ]

    def _tell_work(self, readings: Readings) -> dict[Role, float]:
        """Return each role's work since the minute before."""
        done, now = dict.fromkeys(self._roles, 0.0), {}
        for row, name in enumerate(readings.ids):
            twin = self._tenant.twins.get(name)
            if twin is not None:
                now[name] = float(getattr(readings, _WORK.get(twin.role, "generation_tokens"))[row])
                # An engine that changed its role counts from zero.
                done[twin.role] += max(0.0, now[name] - self._work.get(name, 0.0))
        self._work = now
        return done
