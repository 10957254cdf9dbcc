"""How the watching of Prometheus goes: in words for people, and as metrics. Unknown has no series."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heteroscale_coordinator.edge.prometheus.live.watcher import Told


def in_short(told: Told, now: float) -> str:
    """Return where a service's signals come from, and how fresh they are, in a line."""
    name = f"prometheus {told.server}".rstrip()
    if told.error:
        last = f"; last answer {_ago(told.answered_at, now)}" if told.answered_at else ""
        return f"{name}, FAILS: {told.error}{last}"
    if told.answered_at is None:
        return f"{name}, not answered yet"
    oldest = f", oldest sample {_ago(told.oldest_at, now)}" if told.oldest_at else ""
    return (
        f"{name}, answered {_ago(told.answered_at, now)}: {told.measured} of {told.engines} engines "
        f"used{oldest}"
    )


def lines(told: Told, now: float, *, queries: bool = False) -> Iterator[str]:
    """Yield what a person should know; with the ``queries`` as they are asked."""
    yield in_short(told, now)
    if told.url:
        yield f"address {told.url}, series {{{told.select}}}"
    yield from (f"note: {one}" for one in told.notes)
    if not queries:
        return
    for engine, made in sorted(told.queries.items()):
        yield f"queries for {engine}:"
        yield from (f"  {name}: {query}" for name, query in made.items())


class WatchCollector(Collector):
    """Gauges of the watching; may run in a thread."""

    def __init__(self, told: Callable[[], Mapping[str, Told]], now: Callable[[], float]) -> None:
        self._told, self._now = told, now

    def describe(self) -> list[Metric]:
        """Return nothing: names come with the values."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the families as of now."""
        found, now = self._told(), self._now()
        up = _gauge("up", "1: the last question to the service's Prometheus had a whole answer.")
        age = _gauge("answer_age_seconds", "Since the last whole answer of its Prometheus.")
        sample = _gauge("sample_age_seconds", "Of the oldest newest sample of its engines.")
        engines = _gauge("engines", "Engines seen in the last whole answer.", "used")
        for service, told in found.items():
            up.add_metric((service,), not told.error and told.answered_at is not None)
            if told.answered_at is None:
                continue
            age.add_metric((service,), max(0.0, now - told.answered_at))
            if told.oldest_at is not None:
                sample.add_metric((service,), max(0.0, now - told.oldest_at))
            engines.add_metric((service, "yes"), told.measured)
            engines.add_metric((service, "no"), told.engines - told.measured)
        return iter((up, age, sample, engines))


def _gauge(name: str, text: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"heteroscale_prometheus_{name}", text, labels=("service", *more))


def _ago(at: float | None, now: float) -> str:
    return f"{max(0.0, now - (at or now)):.0f} s ago"
