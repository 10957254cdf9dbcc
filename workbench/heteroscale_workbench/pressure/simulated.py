"""The simulator's plant under test: engines of the service's GPU types, side by side in one S1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.plant.flow import FlowPlant
from heteroscale_simulator.plant.port import Outcomes, PlantSettings, Readings, Seat, Slo
from heteroscale_simulator.profiles import EngineProfile
from heteroscale_simulator.profiles.catalogue import speeds_for
from heteroscale_simulator.traffic.classes import Edges, Sums
from heteroscale_simulator.traffic.load import Floats, Load
from heteroscale_simulator.traffic.rows import Rows
from heteroscale_workbench.pressure.values import Counts, PressureError, Trial
from heteroscale_workbench.pressure.workload import Workload

CLASSES = 8
TAIL = 120
"""Seconds after the last arrival in which what is inside may still end."""
FALLBACK_GPU = "H100"
"""For a role that names no GPU type."""


class Simulated:
    """A bench over ``FlowPlant``."""

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
    ) -> None:
        """``seconds``: of warm-up, and measured; ``gpus``: other types than the service names first.

        Raises:
            PressureError: no speed is known for the service's model and GPU types.

        """
        self._workload, self._seed = workload, seed
        self._warm_up, self._measure = (round(one) for one in seconds)
        self._gpus = {**preferred(spec), **(gpus or {})}
        self.label = ", ".join(f"{role} on {gpu}" for role, gpu in (gpus or {}).items())
        self._size = {role: one.gpus * one.ranks for role, one in spec.roles.items()}
        self._settings = PlantSettings(Slo(spec.slo.ttft, spec.slo.tbt), seed=seed)
        try:
            self._profiles = {
                role: speeds_for(
                    spec.model, [self._gpus[role]], self._size[role], folder, extend=extend
                )
                for role in spec.roles
            }
        except ValueError as error:
            raise PressureError(str(error)) from error

    def profile(self, role: Role) -> EngineProfile:
        """Return the speeds of a role."""
        return self._profiles[role]

    def first_rate(self, counts: Counts) -> float:
        """Return about a third of the requests/s that the prefills could compute."""
        gpu = self._profiles[Role.PREFILL].gpu(self._gpus[Role.PREFILL])
        return counts.prefill / gpu.prefill_seconds(self._workload.mean_prompt) / 3

    async def stand(self, counts: Counts) -> None:
        """Need nothing: every load has fresh engines."""

    async def load(self, counts: Counts, rate: float) -> Trial:
        """Offer ``rate`` requests/s to fresh engines and measure after the warm-up."""
        load = self._arrivals(rate)
        plant = FlowPlant(self._profiles, self._settings, load.seconds + 1)
        for seat in self._seats(counts):
            plant.join(seat)
            plant.open(seat.instance_id)
        measured = [row for second, row in enumerate(_play(plant, load)) if second >= self._warm_up]
        return self._trial(counts, rate, plant.outcomes(), measured[: self._measure])

    def _seats(self, counts: Counts) -> Iterator[Seat]:
        for role, count in zip((Role.PREFILL, Role.DECODE), counts, strict=True):
            for number in range(count):
                name = f"{role}-{number}"
                domains = {"s0": name, "s1": "s1", "s2": "s2"}
                yield Seat(name, role, self._gpus[role], self._size[role], domains, "group")

    def _arrivals(self, rate: float) -> Load:
        seconds = self._warm_up + self._measure
        drawn = self._workload.arrivals(rate, seconds, self._seed)
        if not any(one.at >= self._warm_up for one in drawn):
            raise PressureError(f"{rate:g} requests/s for {self._measure} s is no request at all")
        at, prompts, outputs = (
            np.array(column, dtype=float) for column in zip(*drawn, strict=True)
        )
        rows = Rows(at, prompts, outputs, np.arange(len(at)))
        sums = Sums(Edges.of(rows, CLASSES), rows, squares=False)
        sums.add(rows)
        return Load(sums.column(0), sums.column(1), sums.column(2))

    def _trial(
        self, counts: Counts, rate: float, outcomes: Outcomes, measured: list[Readings]
    ) -> Trial:
        window = slice(self._warm_up, self._warm_up + self._measure)
        first, last = measured[0], measured[-1]
        seconds = len(measured) - 1
        prefill = np.array([name.startswith(Role.PREFILL) for name in first.ids])

        def gained(column: str, which: Floats) -> float:
            rise: Floats = getattr(last, column) - getattr(first, column)
            return float(rise[which].sum())

        def mean(total: Floats, count: Floats) -> float | None:
            number = float(count[window].sum())
            return float(total[window].sum()) / number if number else None

        def used(which: Floats) -> float:
            return float(np.mean([one.gpu_util[which].mean() for one in measured]))

        return Trial(
            counts=counts,
            rate=rate,
            # Ends are told by mean second of arrival, so a few may fall across the edge.
            attainment=min(1.0, mean(outcomes.met, outcomes.arrived) or 0.0),
            prefill_tps=gained("computed_prompt_tokens", prefill) / seconds,
            decode_tps=gained("generation_tokens", ~prefill) / seconds,
            ttft=mean(outcomes.ttft_sum, outcomes.first_tokens),
            tbt=mean(outcomes.tbt_sum, outcomes.finished),
            util_prefill=used(prefill),
            util_decode=used(~prefill),
            label=self.label,
        )


def preferred(spec: ServiceSpec) -> dict[Role, str]:
    """Return the GPU type that each role names first."""
    return {
        role: one.gpu_types[0] if one.gpu_types else FALLBACK_GPU
        for role, one in spec.roles.items()
    }


def _play(plant: FlowPlant, load: Load) -> Iterator[Readings]:
    """Yield what the engines say after each second of arrivals; then let the rest end."""
    for second in range(load.seconds):
        plant.advance(load.requests[second], load.input_tokens[second], load.output_tokens[second])
        yield plant.readings()
    nothing = np.zeros(load.classes)
    for _ in range(TAIL):
        plant.advance(nothing, nothing, nothing)
