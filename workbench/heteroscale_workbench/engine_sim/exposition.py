"""What /metrics says: the names, labels and types of vLLM 0.32 and SGLang 0.5.23.

Only what those engines export themselves; their prometheus_client writes the text here too, so
number formats are the same. SGLang's aborts and failed transfers appear with their first event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heteroscale_workbench.engine_sim.engine import Engine
from heteroscale_workbench.engine_sim.job import Stage
from heteroscale_workbench.engine_sim.settings import Flavour, Mode
from heteroscale_workbench.engine_sim.stats import Histogram

Labels = Mapping[str, str]
Series = list[tuple[Labels, float]]


class Exposition:
    """Renders the metrics of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        if engine.settings.flavour is Flavour.VLLM:
            for collector in (GCCollector, PlatformCollector, ProcessCollector):
                collector(registry=self._registry)
            self._registry.register(_Vllm(engine))
        else:
            self._registry.register(_Sglang(engine))

    def render(self) -> bytes:
        """Return the text of /metrics."""
        return generate_latest(self._registry)


class _Vllm(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._labels = {"engine": "0", "model_name": engine.settings.model}

    def collect(self) -> Iterator[Metric]:
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
        yield _gauge(
            "vllm:num_requests_running",
            "Number of requests in model execution batches.",
            self._one(engine.count(Stage.RUNNING)),
        )
        yield _gauge(
            "vllm:num_requests_waiting",
            "Number of requests waiting to be processed.",
            self._one(capacity + deferred),
        )
        yield _gauge(
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
        yield _gauge(
            "vllm:num_requests_kv_fetch_by_stage",
            "Number of waiting requests by async KV load stage.",
            self._by("stage", stages),
        )
        usage = self._one(engine.kv_usage)
        yield _gauge(
            "vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", usage
        )

    def _counters(self) -> Iterator[Metric]:
        stats = self._engine.stats
        prompt = stats.computed + stats.cached + stats.external
        yield _counter("vllm:num_preemptions", "Cumulative number of preemption.", self._one(0))
        yield _counter(
            "vllm:prefix_cache_queries", "Prefix cache queries, in tokens.", self._one(prompt)
        )
        yield _counter(
            "vllm:prefix_cache_hits", "Prefix cache hits, in tokens.", self._one(stats.cached)
        )
        yield _counter(
            "vllm:prompt_tokens", "Number of prefill tokens processed.", self._one(prompt)
        )
        sources = {
            "local_compute": stats.computed,
            "local_cache_hit": stats.cached,
            "external_kv_transfer": stats.external,
        }
        yield _counter(
            "vllm:prompt_tokens_by_source",
            "Number of prompt tokens by source.",
            self._by("source", sources),
        )
        yield _counter(
            "vllm:prompt_tokens_cached",
            "Number of cached prompt tokens (local + external).",
            self._one(stats.cached + stats.external),
        )
        yield _counter(
            "vllm:generation_tokens",
            "Number of generation tokens processed.",
            self._one(sum(stats.generated.values())),
        )
        reasons = ("stop", "length", "abort", "error", "repetition")
        yield _counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            self._by("finished_reason", {reason: stats.finished[reason] for reason in reasons}),
        )

    def _histograms(self) -> Iterator[Metric]:
        stats = self._engine.stats
        for name, text, histogram in (
            ("time_to_first_token_seconds", "time to first token", _merged(stats.ttft)),
            ("inter_token_latency_seconds", "inter-token latency", stats.itl),
            ("e2e_request_latency_seconds", "e2e request latency", _merged(stats.e2e)),
            ("request_queue_time_seconds", "time spent in WAITING phase", stats.queued),
        ):
            about = f"Histogram of {text} in seconds."
            yield _histogram(f"vllm:{name}", about, [(self._labels, histogram)])

    def _nixl(self) -> Iterator[Metric]:
        # In vLLM the decode pulls, so the decode counts transfers and the prefill counts expiries.
        stats, mode = self._engine.stats, self._engine.settings.mode
        empty = Histogram(stats.transfer_seconds.bounds), Histogram(stats.transfer_bytes.bounds)
        pulled = stats.transfer_seconds, stats.transfer_bytes
        seconds, octets = pulled if mode is Mode.DECODE else empty
        text = "Histogram of transfer duration for NIXL KV Cache transfers."
        yield _histogram("vllm:nixl_xfer_time_seconds", text, [(self._labels, seconds)])
        text = "Histogram of bytes transferred per NIXL KV Cache transfers."
        yield _histogram("vllm:nixl_bytes_transferred", text, [(self._labels, octets)])
        yield _counter(
            "vllm:nixl_num_failed_transfers",
            "Number of failed NIXL KV Cache transfers.",
            self._one(stats.transfers_failed),
        )
        yield _counter(
            "vllm:nixl_num_kv_expired_reqs",
            "Number of requests that had their KV expire.",
            self._one(stats.kv_expired),
        )


class _Sglang(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        settings = engine.settings
        self._front = {"engine_type": settings.engine_type, "model_name": settings.model}
        self._rank = {**self._front, "moe_ep_rank": "0", "pp_rank": "0", "tp_rank": "0"}

    def collect(self) -> Iterator[Metric]:
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
            yield _gauge(f"sglang:{name}", f"The {text}.", [(self._rank, value)])

    def _counters(self) -> Iterator[Metric]:
        stats = self._engine.stats
        for name, text, by_streaming in (
            ("prompt_tokens", "Number of prefill tokens processed.", stats.prompt),
            ("generation_tokens", "Number of generation tokens processed.", stats.generated),
            ("num_requests", "Number of requests processed.", stats.requests),
        ):
            yield _counter(f"sglang:{name}", text, self._streams(by_streaming))
        cached = {"device": stats.cached}
        yield _counter(
            "sglang:cached_tokens",
            "Number of cached prompt tokens by source (device/host/storage).",
            [({**self._front, "cache_source": k}, v) for k, v in cached.items()],
        )
        modes = {
            "prefill_compute": stats.computed,
            "decode": sum(stats.generated.values()),
            "prefill_cache": stats.cached,
        }
        yield _counter(
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
                yield _counter(f"sglang:{name}", text, [(self._front, value)])

    def _histograms(self) -> Iterator[Metric]:
        stats = self._engine.stats
        for name, text, both in (
            ("time_to_first_token_seconds", "Histogram of time to first token", stats.ttft),
            ("e2e_request_latency_seconds", "Histogram of End-to-end request latency", stats.e2e),
        ):
            parts = [({**self._front, "is_streaming": _flag(k)}, h) for k, h in both.items()]
            yield _histogram(f"sglang:{name}", f"{text} in seconds.", parts)
        yield _histogram(
            "sglang:inter_token_latency_seconds",
            "Histogram of inter-token latency in seconds.",
            [(self._front, stats.itl)],
        )
        yield _histogram(
            "sglang:queue_time_seconds",
            "Histogram of queueing time in seconds.",
            [(self._rank, stats.queued)],
        )
        if self._engine.settings.mode is Mode.PREFILL:  # SGLang's prefill pushes, so it counts
            for name, histogram in (
                ("kv_transfer_latency_ms", stats.transfer_ms),
                ("kv_transfer_speed_gb_s", stats.transfer_speed),
            ):
                text = f"Histogram of {name.replace('_', ' ')}."
                yield _histogram(f"sglang:{name}", text, [(self._rank, histogram)])

    def _streams(self, values: Mapping[bool, float]) -> Series:
        return [({**self._front, "is_streaming": _flag(k)}, v) for k, v in values.items()]


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _merged(both: Mapping[bool, Histogram]) -> Histogram:
    result = Histogram(both[True].bounds)
    result.counts = [a + b for a, b in zip(both[True].counts, both[False].counts, strict=True)]
    result.total = both[True].total + both[False].total
    return result


def _gauge(name: str, text: str, series: Series) -> Metric:
    family = GaugeMetricFamily(name, text, labels=tuple(series[0][0]))
    for labels, value in series:
        family.add_metric(tuple(labels.values()), value)
    return family


def _counter(name: str, text: str, series: Series) -> Metric:
    family = CounterMetricFamily(name, text, labels=tuple(series[0][0]))
    for labels, value in series:
        family.add_metric(tuple(labels.values()), value)
    return family


def _histogram(name: str, text: str, series: Sequence[tuple[Labels, Histogram]]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=tuple(series[0][0]))
    for labels, histogram in series:
        bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
        family.add_metric(tuple(labels.values()), buckets, sum_value=histogram.total)
    return family
