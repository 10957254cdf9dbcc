"""How an engine's metrics become an `EngineScrape`: what a mapping file says, and its reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from heteroscale_agent.model import EngineScrape, LatencyReading
from heteroscale_agent.probes.engines.text import FamilyFilter, Head
from heteroscale_agent.probes.page import PageReader
from heteroscale_agent.probes.reading import Reading, Unused
from heteroscale_agent.probes.series import (
    MAX_QUEUE,
    MAX_REQUESTS,
    MAX_TOKENS,
    UNTOLD,
    Layout,
    Quantity,
    Series,
    series,
)

__all__ = ["EngineMapping", "Quantity", "Series", "read", "reader", "series"]


@dataclass(frozen=True)
class EngineMapping:
    """What an engine calls our readings. Several quantities: the first that is shown wins.

    What a mapping leaves out, the engine never tells: it is unknown for ever.
    """

    name: str
    generation_tokens: tuple[Quantity, ...] = ()
    prompt_tokens: tuple[Quantity, ...] = ()
    computed_prompt_tokens: tuple[Quantity, ...] = ()
    requests_finished: tuple[Quantity, ...] = ()
    requests_aborted: tuple[Quantity, ...] = ()
    running: tuple[Quantity, ...] = ()
    waiting: tuple[Quantity, ...] = ()
    transferring: tuple[Quantity, ...] = ()
    kv_usage: Series = UNTOLD
    time_to_first_token: Series = UNTOLD
    time_between_tokens: Series = UNTOLD
    replica_labels: frozenset[str] = frozenset()
    model_labels: tuple[str, ...] = ("model_name",)
    """Labels that say which of several served models a series speaks of."""
    counters_appear_on_use: bool = False
    """The engine shows no counter at all before its first request; then they all stand at zero."""
    experimental: bool = False
    """Written from documented names alone: no text recorded from a release stands in the tests."""
    refusals: Mapping[int, str] = field(default_factory=dict)
    """What an HTTP status of the metrics page means with this engine, and what to do about it."""

    @cached_property
    def counter_names(self) -> frozenset[str]:
        """Names of everything that only ever grows."""
        quantities = (
            *self.generation_tokens,
            *self.prompt_tokens,
            *self.computed_prompt_tokens,
            *self.requests_finished,
            *self.requests_aborted,
        )
        histograms = (self.time_to_first_token, self.time_between_tokens)
        found = (s for q in quantities for s in q.all_series())
        return frozenset(name for s in (*found, *histograms) for name in s.names)

    @cached_property
    def filter(self) -> FamilyFilter:
        """The lines of a metrics text that this mapping can use."""
        quantities = (*self.running, *self.waiting, *self.transferring)
        gauges = (s for q in quantities for s in q.all_series())
        names = {name for s in (*gauges, self.kv_usage) for name in s.names}
        return FamilyFilter(names | self.counter_names)


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

    return PageReader(mapping.name, mapping.filter, lay_out, EngineScrape)


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
