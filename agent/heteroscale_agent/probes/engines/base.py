"""How an engine's metrics become an `EngineScrape`: the reading of what a mapping file says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from heteroscale.engines.base import EngineMapping, Quantity, Series, series
from heteroscale_agent.model import EngineScrape, LatencyReading
from heteroscale_agent.probes.engines.text import FamilyFilter, Head
from heteroscale_agent.probes.page import PageReader
from heteroscale_agent.probes.reading import Reading, Unused
from heteroscale_agent.probes.series import (
    MAX_QUEUE,
    MAX_REQUESTS,
    MAX_TOKENS,
    Layout,
)

__all__ = ["EngineMapping", "Quantity", "Series", "read", "reader", "series"]


@cache
def _filter(gauges: frozenset[str], counters: frozenset[str]) -> FamilyFilter:
    """Return what picks the lines of a metrics text that a mapping can use."""
    return FamilyFilter(gauges | counters)


def reader(mapping: EngineMapping, model_name: str = "") -> PageReader[EngineScrape]:
    """Return a reader of one engine's page, of the series of `model_name` alone unless it is empty."""

    def lay_out(heads: Sequence[Head]) -> dict[str, Reading[Any]]:
        layout = Layout(
            heads,
            replica_labels=mapping.replica_labels,
            model_labels=mapping.model_labels,
            model_name=model_name,
        )
        return {**_gauges(mapping, layout), **_cumulative(mapping, layout)}

    chosen = _filter(mapping.gauge_names, mapping.counter_names)
    return PageReader(mapping.name, chosen, lay_out, EngineScrape)


def read(mapping: EngineMapping, text: str, model_name: str = "") -> EngineScrape:
    """Read one scrape alone; see `reader`.

    Raises:
        MetricsTextError: the text has no metric of this engine, or cannot be read.

    """
    return reader(mapping, model_name).read(text)


def _gauges(mapping: EngineMapping, layout: Layout) -> dict[str, Reading[Any]]:
    return {
        "running": layout.first(mapping.running, MAX_QUEUE),
        "waiting": layout.first(mapping.waiting, MAX_QUEUE),
        "transferring": layout.first(mapping.transferring, MAX_QUEUE),
        "kv_usage": layout.share(mapping.kv_usage),
    }


def _cumulative(mapping: EngineMapping, layout: Layout) -> dict[str, Reading[Any]]:
    counters = ("generation_tokens", "prompt_tokens", "computed_prompt_tokens")
    requests = ("requests_finished", "requests_aborted")
    histograms = ("time_to_first_token", "time_between_tokens")
    if mapping.counters_appear_on_use and not layout.shows(mapping.counter_names):
        queues = [layout.first(one, MAX_QUEUE) for one in (mapping.running, mapping.waiting)]
        return {
            **dict.fromkeys((*counters, *requests), Unused(0.0, *queues)),
            **dict.fromkeys(histograms, Unused(LatencyReading(0.0, 0.0), *queues)),
        }
    return {
        **{name: layout.first(getattr(mapping, name), MAX_TOKENS) for name in counters},
        **{name: layout.first(getattr(mapping, name), MAX_REQUESTS) for name in requests},
        **{name: layout.latency(getattr(mapping, name)) for name in histograms},
    }
