"""The simulator's plant under test: engines of the service's GPU types, side by side in one S1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.measures.capacity import Journey, Offer
from heteroscale_simulator.measures.split import Bench, expected
from heteroscale_simulator.measures.steady import Line, Mix, Watch, look
from heteroscale_simulator.plant import FlowPlant
from heteroscale_simulator.plant.port import PlantSettings, Slo
from heteroscale_simulator.plant.port import Workload as Caching
from heteroscale_simulator.profiles.catalogue import speeds_for
from heteroscale_simulator.traffic.classes import Edges, Sums
from heteroscale_simulator.traffic.rows import Rows
from heteroscale_workbench.pressure.values import Counts, PressureError, Trial
from heteroscale_workbench.pressure.workload import Workload

CLASSES = 8
LONGEST = 1200
"""Seconds measured at most for the sake of the number of requests."""
FALLBACK_GPU = "H100"
"""For a role that names no GPU type."""


class Simulated:
    """A bench over ``FlowPlant``: each load is a steady one, on fresh engines."""

    def __init__(
        self,
        spec: ServiceSpec,
        workload: Workload,
        seconds: tuple[float, float],
        *,
        gpus: Mapping[Role, str] | None = None,
        seed: int = 0,
        folder: Path | None = None,
        extend: bool = False,
        requests: int = 0,
        label: str = "",
    ) -> None:
        """Make the bench of the GPU types that the service names first, or of ``gpus``.

        ``seconds``: of warm-up, and measured; longer where ``requests`` need it. ``label``: how it
        differs beside that.

        Raises:
            PressureError: no speed is known for the service's model and GPU types.

        """
        warm_up, measure = (max(1, round(one)) for one in seconds)
        self._watch = Watch(settle=warm_up, watched=measure, seed=seed)
        self._requests = requests
        self._mix = _mix(workload)
        types = [f"{role} on {gpu}" for role, gpu in (gpus or {}).items()]
        self.label = ", ".join([*types, *([label] if label else [])])
        chosen = {**preferred(spec), **(gpus or {})}
        sizes = {role: one.gpus * one.ranks for role, one in spec.roles.items()}
        try:
            self._profiles = {
                role: speeds_for(spec.model, [chosen[role]], sizes[role], folder, extend=extend)
                for role in spec.roles
            }
        except ValueError as error:
            raise PressureError(str(error)) from error
        self._offers = {
            role: Offer(chosen[role], sizes[role], self._profiles[role].gpu(chosen[role]))
            for role in spec.roles
        }
        self._slo = Slo(spec.slo.ttft, spec.slo.tbt)
        self._settings = PlantSettings(self._slo, seed=seed)

    def first_rate(self, counts: Counts) -> float:
        """Return what the formulas say that the split holds; one request/s where they say none."""
        speeds = self._profiles[Role.PREFILL]
        journey = Journey(self._slo, Caching(), speeds.transfer.s1, speeds.kv_bytes_per_token)
        offers = self._offers
        bench = Bench(self._mix, offers[Role.PREFILL], offers[Role.DECODE], journey)
        return expected(bench, *counts)[0] or 1.0

    def light_rate(self, counts: Counts) -> float:
        """Return a quarter of what the formulas say."""
        return self.first_rate(counts) / 4

    @property
    def link_tokens(self) -> float:
        """Prompt tokens/s whose KV the links of a decode instance take, from within its S1."""
        speeds = self._profiles[Role.PREFILL]
        return speeds.transfer.s1.gigabytes_per_second * 1e9 / speeds.kv_bytes_per_token

    async def stand(self, counts: Counts) -> None:
        """Need nothing: every load has fresh engines."""

    async def load(self, counts: Counts, rate: float) -> Trial:
        """Offer Poisson arrivals at ``rate`` requests/s, and measure after the warm-up."""
        lines = [
            Line(role, self._offers[role].gpu_type, self._offers[role].gpus, count)
            for role, count in zip((Role.PREFILL, Role.DECODE), counts, strict=True)
        ]
        enough = min(LONGEST, math.ceil(self._requests / rate))
        watch = replace(self._watch, watched=max(self._watch.watched, enough))
        seen = look(self._plant, lines, self._mix, rate, watch)
        return Trial(
            counts=counts,
            rate=rate,
            attainment=seen.attainment,
            prefill_tps=seen.prompt_rate,
            decode_tps=seen.output_rate,
            ttft=seen.ttft,
            tbt=seen.tbt,
            util_prefill=seen.gpu_util[Role.PREFILL],
            util_decode=seen.gpu_util[Role.DECODE],
            label=self.label,
        )

    def _plant(self, seconds: int) -> FlowPlant:
        return FlowPlant(self._profiles, self._settings, seconds)


def preferred(spec: ServiceSpec) -> dict[Role, str]:
    """Return the GPU type that each role names first."""
    return {
        role: one.gpu_types[0] if one.gpu_types else FALLBACK_GPU
        for role, one in spec.roles.items()
    }


def _mix(workload: Workload) -> Mix:
    """Return the workload's lengths in classes."""
    prompts, outputs = (
        np.array(column, dtype=np.float64) for column in zip(*workload.lengths, strict=True)
    )
    size = len(prompts)
    rows = Rows(np.zeros(size), prompts, outputs, np.arange(size))
    sums = Sums(Edges.of(rows, CLASSES), rows, squares=False)
    sums.add(rows)
    count, prompt, output = (sums.column(index)[0] for index in range(3))
    some = count > 0
    count, prompt, output = count[some], prompt[some], output[some]
    return Mix(workload.name, count / size, prompt / count, output / count)
