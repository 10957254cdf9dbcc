"""A service's recorded time by formula: the answers of a Prometheus, and text that a real one takes in.

Engines speak vLLM's names. Requests per second follow ``rate``; each costs 1,500 prompt tokens and 300
generated ones, and latency rises with what an instance does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from heteroscale.words import Role
from heteroscale_advisor.history import COUNTERS, GAUGES, Grid, History, fold
from heteroscale_coordinator.edge.prometheus.answers import Matrix
from heteroscale_coordinator.edge.prometheus.identify import Seen

PROMPT, OUTPUT = 1500.0, 300.0
START = 1_000_000.0
GPUS = {Role.PREFILL: 2, Role.DECODE: 4}
"""Of one instance, as dcgm-exporter tells."""


def swing(low: float, high: float, seconds: float) -> Callable[[float], float]:
    """Return requests/s that go from ``low`` to ``high`` and back in so many seconds."""
    return lambda t: low + (high - low) * (0.5 - 0.5 * math.cos(2 * math.pi * t / seconds))


@dataclass(frozen=True)
class Day:
    """What was there, and what came."""

    rate: Callable[[float], float]
    counts: Mapping[Role, int] = field(default_factory=lambda: {Role.PREFILL: 4, Role.DECODE: 8})
    unseen: Callable[[str, float], bool] = lambda _pod, _t: False
    """Whether a pod was scraped in vain at a second."""
    away: Callable[[str, float], bool] = lambda _pod, _t: False
    """Whether a pod was not there at a second; it comes back with counters from the beginning."""

    def seen(self) -> tuple[Seen, ...]:
        """Return the instances as labels tell of them."""
        kinds = {Role.PREFILL: "L20", Role.DECODE: "H20", Role.AGGREGATED: "H800"}
        return tuple(
            Seen(f"chat-{role}-{n}", "vllm", role, kinds[role], {}, role_from="pod")
            for role, count in self.counts.items()
            for n in range(count)
        )

    def signals(self, role: Role, t: float) -> dict[str, float]:
        """Return the signals of one instance: counters per second."""
        rate = self.rate(t) / self.counts[role]
        if role is Role.PREFILL:
            ttft = 0.15 + 0.3 * (rate * PROMPT / 9000) ** 2
            own = {"ttft_sum": rate * ttft, "ttft_count": rate, "running": rate * ttft}
            work = {"generation_tokens": rate, "computed_prompt_tokens": rate * PROMPT}
        elif role is Role.AGGREGATED:
            ttft, tbt = 0.2 + 0.2 * rate / 4, 0.02 + 0.02 * rate / 4
            own = {
                "ttft_sum": rate * ttft,
                "ttft_count": rate,
                "tbt_sum": rate * OUTPUT * tbt,
                "tbt_count": rate * OUTPUT,
                "running": rate * (ttft + OUTPUT * tbt),
            }
            work = {"generation_tokens": rate * OUTPUT, "computed_prompt_tokens": rate * PROMPT}
        else:
            tbt = 0.015 + 0.02 * rate * OUTPUT / 1100
            own = {
                "tbt_sum": rate * OUTPUT * tbt,
                "tbt_count": rate * OUTPUT,
                "running": rate * OUTPUT * tbt,
            }
            work = {"generation_tokens": rate * OUTPUT, "computed_prompt_tokens": 0.0}
        common = {
            "prompt_tokens": rate * PROMPT,
            "requests_finished": rate,
            "requests_aborted": 0.0,
            "waiting": 0.0,
            "kv_usage": min(1.0, own["running"] / 60),
        }
        return {**common, **own, **work}

    def answers(self, grid: Grid) -> dict[str, list[Matrix]]:
        """Return what a Prometheus answers to the queries, by signal."""
        found: dict[str, list[Matrix]] = {}
        for signal in (*COUNTERS, *GAUGES):
            rows = []
            for one in self.seen():
                assert one.role is not None
                points = []
                for n in range(grid.points):
                    t = n * grid.step
                    value = self.signals(one.role, t).get(signal)
                    if value is not None and not self.unseen(one.name, t):
                        points.append((grid.start + t, value))
                if points:
                    rows.append(({"pod": one.name}, tuple(points)))
            found[signal] = [Matrix(tuple(rows))]
        return found

    def history(self, seconds: float, step: float = 60.0) -> History:
        """Return the history that its answers make."""
        grid = Grid(START, step, round(seconds / step))
        return fold(grid, self.seen(), self.answers(grid), "pod")

    def openmetrics(self, start: int, seconds: int, every: int) -> Iterator[str]:
        """Yield the lines that `promtool tsdb create-blocks-from openmetrics` takes in."""
        for name, kind, ending, signal, more in _SERIES:
            yield f"# TYPE {name} {kind}\n"
            for one in self.seen():
                assert one.role is not None
                labels = f'model_name="chat",pod="{one.name}",gpu_type="{one.gpu_type}"{more}'
                total = 0.0
                for t in range(0, seconds + 1, every):
                    value = self.signals(one.role, t).get(signal)
                    if value is None:
                        break
                    if self.away(one.name, t):
                        total = 0.0
                        continue
                    total += value * every
                    if self.unseen(one.name, t):
                        continue
                    told = value if kind == "gauge" else total
                    yield f"{name}{ending}{{{labels}}} {told:.6f} {start + t}\n"
        yield "# TYPE up gauge\n"
        for one in self.seen():
            for t in range(0, seconds + 1, every):
                if not self.away(one.name, t):
                    up = 0 if self.unseen(one.name, t) else 1
                    yield f'up{{pod="{one.name}",job="engines"}} {up} {start + t}\n'
        yield from self._gpus(start, seconds, every)
        yield "# EOF\n"

    def _gpus(self, start: int, seconds: int, every: int) -> Iterator[str]:
        """Yield what dcgm-exporter tells: each pod's GPUs, and its own name as `pod`."""
        yield "# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n"
        for one in self.seen():
            for n in range(GPUS[one.role or Role.DECODE]):
                gpu = (
                    f'UUID="{one.name}/{n}",modelName="NVIDIA",pod="dcgm",exported_pod="{one.name}"'
                )
                for t in range(0, seconds + 1, every):
                    yield f"DCGM_FI_DEV_GPU_UTIL{{{gpu}}} 50 {start + t}\n"


_SERIES = (
    ("vllm:num_requests_running", "gauge", "", "running", ""),
    ("vllm:num_requests_waiting", "gauge", "", "waiting", ""),
    ("vllm:kv_cache_usage_perc", "gauge", "", "kv_usage", ""),
    ("vllm:generation_tokens", "counter", "_total", "generation_tokens", ""),
    ("vllm:prompt_tokens", "counter", "_total", "prompt_tokens", ""),
    (
        *("vllm:prompt_tokens_by_source", "counter", "_total", "computed_prompt_tokens"),
        ',source="local_compute"',
    ),
    (
        *("vllm:request_success", "counter", "_total", "requests_finished"),
        ',finished_reason="stop"',
    ),
    ("vllm:time_to_first_token_seconds_sum", "unknown", "", "ttft_sum", ""),
    ("vllm:time_to_first_token_seconds_count", "unknown", "", "ttft_count", ""),
    ("vllm:inter_token_latency_seconds_sum", "unknown", "", "tbt_sum", ""),
    ("vllm:inter_token_latency_seconds_count", "unknown", "", "tbt_count", ""),
)
