"""The metrics of SGLang 0.5.23: names, labels, types and buckets as it exports them.

Aborts and failed transfers appear with their first event, as labelled counters do there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heteroscale_workbench.engine_sim.engine import Engine
from heteroscale_workbench.engine_sim.families import Series, counter, gauge, histogram
from heteroscale_workbench.engine_sim.job import Stage
from heteroscale_workbench.engine_sim.settings import Mode


class SglangMetrics(Collector):
    """What SGLang 0.5.23 exports of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        settings = engine.settings
        self._front = {"engine_type": settings.engine_type, "model_name": settings.model}
        self._rank = {**self._front, "moe_ep_rank": "0", "pp_rank": "0", "tp_rank": "0"}

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._gauges()
        yield from self._counters()
        yield from self._histograms()

    def _gauges(self) -> Iterator[Metric]:
        engine = self._engine
        capacity = engine.settings.gpu_profile.kv_capacity_tokens
        values = (
            ("num_running_reqs", "running requests", engine.count(Stage.RUNNING)),
            ("num_queue_reqs", "requests in the waiting queue", engine.count(Stage.WAITING)),
            ("token_usage", "token usage", round(engine.kv_usage, 2)),
            ("full_token_usage", "token usage for full attention layers", engine.kv_usage),
            ("num_used_tokens", "number of used tokens", engine.held),
            ("max_total_num_tokens", "tokens in the KV cache pool", capacity),
            (
                "num_prefill_bootstrap_queue_reqs",
                "requests in the prefill bootstrap queue",
                engine.count(Stage.BOOTSTRAP),
            ),
            (
                "num_prefill_inflight_queue_reqs",
                "requests in the prefill inflight queue",
                engine.count(Stage.INFLIGHT),
            ),
            (
                "num_decode_prealloc_queue_reqs",
                "requests in the decode prealloc queue",
                engine.count(Stage.PREALLOC),
            ),
            (
                "num_decode_transfer_queue_reqs",
                "requests in the decode transfer queue",
                engine.count(Stage.TRANSFER),
            ),
        )
        for name, text, value in values:
            yield gauge(f"sglang:{name}", f"The {text}.", [(self._rank, value)])

    def _counters(self) -> Iterator[Metric]:
        stats = self._engine.stats
        for name, text, by_streaming in (
            ("prompt_tokens", "Number of prefill tokens processed.", stats.prompt),
            ("generation_tokens", "Number of generation tokens processed.", stats.generated),
            ("num_requests", "Number of requests processed.", stats.requests),
        ):
            yield counter(f"sglang:{name}", text, self._streams(by_streaming))
        cached = {"device": stats.cached}
        yield counter(
            "sglang:cached_tokens",
            "Number of cached prompt tokens by source (device/host/storage).",
            [({**self._front, "cache_source": k}, v) for k, v in cached.items()],
        )
        modes = {
            "prefill_compute": stats.computed,
            "decode": sum(stats.generated.values()),
            "prefill_cache": stats.cached,
        }
        yield counter(
            "sglang:realtime_tokens",
            "Total number of tokens processed (updated on each log interval).",
            [({**self._rank, "mode": mode}, value) for mode, value in modes.items()],
        )
        for name, value in (
            ("num_aborted_requests", stats.finished["abort"]),
            ("num_transfer_failed_reqs", stats.transfers_failed),
            ("num_bootstrap_failed_reqs", stats.bootstraps_failed),
        ):
            if value:
                text = f"Number of {name.replace('_', ' ')}."
                yield counter(f"sglang:{name}", text, [(self._front, value)])

    def _histograms(self) -> Iterator[Metric]:
        stats = self._engine.stats
        for name, text, both in (
            ("time_to_first_token_seconds", "Histogram of time to first token", stats.ttft),
            ("e2e_request_latency_seconds", "Histogram of End-to-end request latency", stats.e2e),
        ):
            parts = [({**self._front, "is_streaming": _flag(k)}, h) for k, h in both.items()]
            yield histogram(f"sglang:{name}", f"{text} in seconds.", parts)
        yield histogram(
            "sglang:inter_token_latency_seconds",
            "Histogram of inter-token latency in seconds.",
            [(self._front, stats.itl)],
        )
        yield histogram(
            "sglang:queue_time_seconds",
            "Histogram of queueing time in seconds.",
            [(self._rank, stats.queued)],
        )
        if self._engine.settings.mode is Mode.PREFILL:  # SGLang's prefill pushes, so it counts
            for name, seen in (
                ("kv_transfer_latency_ms", stats.transfer_ms),
                ("kv_transfer_speed_gb_s", stats.transfer_speed),
            ):
                text = f"Histogram of {name.replace('_', ' ')}."
                yield histogram(f"sglang:{name}", text, [(self._rank, seen)])

    def _streams(self, values: Mapping[bool, float]) -> Series:
        return [({**self._front, "is_streaming": _flag(k)}, v) for k, v in values.items()]


def _flag(value: bool) -> str:
    return "true" if value else "false"
