"""The metrics of vLLM 0.32: names, labels, types and buckets as it exports them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heteroscale_workbench.engine_sim.engine import Engine
from heteroscale_workbench.engine_sim.families import Series, counter, gauge, histogram
from heteroscale_workbench.engine_sim.job import Stage
from heteroscale_workbench.engine_sim.settings import Mode
from heteroscale_workbench.engine_sim.stats import Histogram


class VllmMetrics(Collector):
    """What vLLM 0.32 exports of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._labels = {"engine": "0", "model_name": engine.settings.model}

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._gauges()
        yield from self._counters()
        yield from self._histograms()
        if self._engine.settings.mode is not Mode.AGGREGATED:
            yield from self._nixl()

    def _one(self, value: float) -> Series:
        return [(self._labels, value)]

    def _by(self, label: str, values: Mapping[str, float]) -> Series:
        return [({**self._labels, label: name}, value) for name, value in values.items()]

    def _gauges(self) -> Iterator[Metric]:
        engine = self._engine
        early = engine.count(Stage.PREALLOC)
        fetching = engine.count(Stage.TRANSFER)
        ready = engine.count(Stage.WAITING)
        capacity = ready + early
        deferred = fetching + engine.count(Stage.BOOTSTRAP)
        yield gauge(
            "vllm:num_requests_running",
            "Number of requests in model execution batches.",
            self._one(engine.count(Stage.RUNNING)),
        )
        yield gauge(
            "vllm:num_requests_waiting",
            "Number of requests waiting to be processed.",
            self._one(capacity + deferred),
        )
        yield gauge(
            "vllm:num_requests_waiting_by_reason",
            "Number of waiting requests by reason.",
            self._by("reason", {"capacity": capacity, "deferred": deferred}),
        )
        decode = engine.settings.mode is Mode.DECODE
        stages = {
            "waiting_to_start": early,
            "in_progress": fetching,
            "completed_waiting": ready if decode else 0,
        }
        yield gauge(
            "vllm:num_requests_kv_fetch_by_stage",
            "Number of waiting requests by async KV load stage.",
            self._by("stage", stages),
        )
        usage = self._one(engine.kv_usage)
        yield gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", usage)

    def _counters(self) -> Iterator[Metric]:
        stats = self._engine.stats
        prompt = stats.computed + stats.cached + stats.external
        yield counter("vllm:num_preemptions", "Cumulative number of preemption.", self._one(0))
        yield counter(
            "vllm:prefix_cache_queries", "Prefix cache queries, in tokens.", self._one(prompt)
        )
        yield counter(
            "vllm:prefix_cache_hits", "Prefix cache hits, in tokens.", self._one(stats.cached)
        )
        yield counter(
            "vllm:prompt_tokens", "Number of prefill tokens processed.", self._one(prompt)
        )
        sources = {
            "local_compute": stats.computed,
            "local_cache_hit": stats.cached,
            "external_kv_transfer": stats.external,
        }
        yield counter(
            "vllm:prompt_tokens_by_source",
            "Number of prompt tokens by source.",
            self._by("source", sources),
        )
        yield counter(
            "vllm:prompt_tokens_cached",
            "Number of cached prompt tokens (local + external).",
            self._one(stats.cached + stats.external),
        )
        yield counter(
            "vllm:generation_tokens",
            "Number of generation tokens processed.",
            self._one(sum(stats.generated.values())),
        )
        reasons = ("stop", "length", "abort", "error", "repetition")
        yield counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            self._by("finished_reason", {reason: stats.finished[reason] for reason in reasons}),
        )

    def _histograms(self) -> Iterator[Metric]:
        stats = self._engine.stats
        for name, text, seen in (
            ("time_to_first_token_seconds", "time to first token", _merged(stats.ttft)),
            ("inter_token_latency_seconds", "inter-token latency", stats.itl),
            ("e2e_request_latency_seconds", "e2e request latency", _merged(stats.e2e)),
            ("request_queue_time_seconds", "time spent in WAITING phase", stats.queued),
        ):
            about = f"Histogram of {text} in seconds."
            yield histogram(f"vllm:{name}", about, [(self._labels, seen)])

    def _nixl(self) -> Iterator[Metric]:
        # In vLLM the decode pulls, so the decode counts transfers and the prefill counts expiries.
        stats, mode = self._engine.stats, self._engine.settings.mode
        empty = Histogram(stats.transfer_seconds.bounds), Histogram(stats.transfer_bytes.bounds)
        pulled = stats.transfer_seconds, stats.transfer_bytes
        seconds, octets = pulled if mode is Mode.DECODE else empty
        text = "Histogram of transfer duration for NIXL KV Cache transfers."
        yield histogram("vllm:nixl_xfer_time_seconds", text, [(self._labels, seconds)])
        text = "Histogram of bytes transferred per NIXL KV Cache transfers."
        yield histogram("vllm:nixl_bytes_transferred", text, [(self._labels, octets)])
        yield counter(
            "vllm:nixl_num_failed_transfers",
            "Number of failed NIXL KV Cache transfers.",
            self._one(stats.transfers_failed),
        )
        yield counter(
            "vllm:nixl_num_kv_expired_reqs",
            "Number of requests that had their KV expire.",
            self._one(stats.kv_expired),
        )


def _merged(both: Mapping[bool, Histogram]) -> Histogram:
    result = Histogram(both[True].bounds)
    result.counts = [a + b for a, b in zip(both[True].counts, both[False].counts, strict=True)]
    result.total = both[True].total + both[False].total
    return result
