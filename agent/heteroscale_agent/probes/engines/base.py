"""How an engine's metrics become an `EngineScrape`: what a mapping file says, and its reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from heteroscale_agent.model import EngineScrape, LatencyReading
from heteroscale_agent.probes.engines.text import FamilyFilter, MetricsTextError
from heteroscale_agent.probes.series import (
    MAX_QUEUE,
    MAX_REQUESTS,
    MAX_TOKENS,
    UNTOLD,
    Page,
    Quantity,
    Series,
    series,
)

__all__ = ["EngineMapping", "Quantity", "Series", "read", "series"]


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


def read(mapping: EngineMapping, text: str, model_name: str = "") -> EngineScrape:
    """Read one scrape. `model_name` restricts to that model's series; empty takes all.

    Raises:
        MetricsTextError: the text has no metric of this engine, or cannot be read.

    """
    samples = mapping.filter.samples(text)
    if not samples:
        raise MetricsTextError(f"no {mapping.name} metric in the answer")
    page = Page(
        samples,
        replica_labels=mapping.replica_labels,
        model_labels=mapping.model_labels,
        model_name=model_name,
    )
    running = page.first(mapping.running, MAX_QUEUE)
    waiting = page.first(mapping.waiting, MAX_QUEUE)
    transferring = page.first(mapping.transferring, MAX_QUEUE)
    kv_usage = page.share(mapping.kv_usage)
    appears = mapping.counters_appear_on_use and running == 0 and waiting == 0
    if appears and not page.shows(mapping.counter_names):
        nothing = LatencyReading(0.0, 0.0)
        return EngineScrape(*(0.0,) * 5, running, waiting, transferring, kv_usage, nothing, nothing)
    return EngineScrape(
        generation_tokens=page.first(mapping.generation_tokens, MAX_TOKENS),
        prompt_tokens=page.first(mapping.prompt_tokens, MAX_TOKENS),
        computed_prompt_tokens=page.first(mapping.computed_prompt_tokens, MAX_TOKENS),
        requests_finished=page.first(mapping.requests_finished, MAX_REQUESTS),
        requests_aborted=page.first(mapping.requests_aborted, MAX_REQUESTS),
        running=running,
        waiting=waiting,
        transferring=transferring,
        kv_usage=kv_usage,
        time_to_first_token=page.latency(mapping.time_to_first_token),
        time_between_tokens=page.latency(mapping.time_between_tokens),
    )
