"""Metric families of prometheus_client, made from plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from heteroscale_workbench.engine_sim.stats import Histogram

Labels = Mapping[str, str]
Series = list[tuple[Labels, float]]


def gauge(name: str, text: str, series: Series) -> Metric:
    """Return a gauge with one value for each set of labels."""
    family = GaugeMetricFamily(name, text, labels=tuple(series[0][0]))
    for labels, value in series:
        family.add_metric(tuple(labels.values()), value)
    return family


def counter(name: str, text: str, series: Series) -> Metric:
    """Return a counter; its samples get ``_total`` at the end of their name."""
    family = CounterMetricFamily(name, text, labels=tuple(series[0][0]))
    for labels, value in series:
        family.add_metric(tuple(labels.values()), value)
    return family


def histogram(name: str, text: str, series: Sequence[tuple[Labels, Histogram]]) -> Metric:
    """Return a histogram with cumulative buckets, as Prometheus wants them."""
    family = HistogramMetricFamily(name, text, labels=tuple(series[0][0]))
    for labels, histogram in series:
        bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
        family.add_metric(tuple(labels.values()), buckets, sum_value=histogram.total)
    return family
