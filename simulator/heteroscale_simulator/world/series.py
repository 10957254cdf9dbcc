"""Watches a plant from outside, for the report: hardware and signals as they truly are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heteroscale.words import Role
from heteroscale_simulator.plant.port import Readings
from heteroscale_simulator.traffic.load import Floats
from heteroscale_simulator.world.result import Hardware
from heteroscale_simulator.world.twin import S
from heteroscale_simulator.world.yard import Tenant

EVERY = 5
"""Seconds between looks at the hardware."""
MINUTE = 60
SUMS = ("running", "waiting", "transferring")
MEANS = ("kv_usage", "gpu_util", "sm_activity")
ROLES = (Role.PREFILL, Role.DECODE)
SIGNALS = tuple(f"{role.value}_{name}" for role in ROLES for name in ("tps", *SUMS, *MEANS))
"""By role: tokens/s of its own work over the minute (computed prompt tokens; generated tokens),
requests running, waiting, transferring, and the means over engines in service of three gauges."""
_WORK = {Role.PREFILL: "computed_prompt_tokens", Role.DECODE: "generation_tokens"}


class Watcher:
    """One service, watched."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._series: dict[str, list[float]] = {name: [] for name in SIGNALS}
        self._seconds = dict.fromkeys(ROLES, 0.0)
        self._busy = {role: np.zeros(2) for role in ROLES}
        self._work: dict[str, float] = {}

    def second(self, second: int, readings: Readings) -> None:
        """Look at the second that has just passed; call it every ``EVERY`` seconds."""
        serving = self._serving(readings)
        for role, rows in serving.items():
            gpus = np.array([self._tenant.twins[readings.ids[row]].gpus for row in rows], float)
            self._seconds[role] += float(gpus.sum())
            self._busy[role] += (
                float((readings.gpu_util[rows] * gpus).sum()),
                float((readings.sm_activity[rows] * gpus).sum()),
            )
        if second % MINUTE == 0:
            self._minute(readings, serving)

    def hardware(self) -> Mapping[Role, Hardware]:
        """Return what the hardware showed over the run."""
        found = {}
        for role in ROLES:
            seconds, busy = self._seconds[role], self._busy[role]
            means = busy / seconds if seconds else (None, None)
            found[role] = Hardware(*(None if m is None else float(m) for m in means))
        return found

    def signals(self) -> Mapping[str, Floats]:
        """Return the series, one value a minute."""
        return {name: np.array(values) for name, values in self._series.items()}

    def _serving(self, readings: Readings) -> dict[Role, list[int]]:
        rows: dict[Role, list[int]] = {role: [] for role in ROLES}
        for row, name in enumerate(readings.ids):
            twin = self._tenant.twins.get(name)
            if twin is not None and twin.state is S.IN_SERVICE:
                rows[twin.role].append(row)
        return rows

    def _minute(self, readings: Readings, serving: Mapping[Role, list[int]]) -> None:
        done = self._tell_work(readings)
        for role in ROLES:
            rows, of = serving[role], self._of(readings, role)
            self._series[f"{role.value}_tps"].append(done[role] / MINUTE)
            for name in SUMS:
                self._series[f"{role.value}_{name}"].append(
                    float(getattr(readings, name)[of].sum())
                )
            for name in MEANS:
                mean = float(getattr(readings, name)[rows].mean()) if rows else float("nan")
                self._series[f"{role.value}_{name}"].append(mean)

    def _of(self, readings: Readings, role: Role) -> list[int]:
        twins = self._tenant.twins
        return [
            row
            for row, name in enumerate(readings.ids)
            if name in twins and twins[name].role is role
        ]

    def _tell_work(self, readings: Readings) -> dict[Role, float]:
        done, now = dict.fromkeys(ROLES, 0.0), {}
        for row, name in enumerate(readings.ids):
            twin = self._tenant.twins.get(name)
            if twin is not None:
                now[name] = float(getattr(readings, _WORK[twin.role])[row])
                done[twin.role] += now[name] - self._work.get(name, 0.0)
        self._work = now
        return done
