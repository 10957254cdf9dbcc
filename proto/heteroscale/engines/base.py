"""What an engine's metrics are called: the language of the mapping files, without a reader.

Agents read a page of text by it, and PromQL is made from it: a name is written down once. Every name
is also tried with `_total`. Samples that differ only in a *replica* label (tensor and pipeline ranks
say the same thing several times) count once; all others, data-parallel ranks above all, are summed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

__all__ = ["UNTOLD", "EngineMapping", "Quantity", "Series", "series"]


@dataclass(frozen=True, slots=True)
class Series:
    """One family under all its names, restricted to some label values (absent label: `""`)."""

    names: tuple[str, ...]
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    """Families that come into being before this one. A family, or a set of labels, that appears with
    its first event stands at zero once one of them is shown."""

    def wants(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels are among those asked for."""
        return all(labels.get(k, "") in v for k, v in self.where.items()) and not any(
            labels.get(k, "") in v for k, v in self.unless.items()
        )


def series(
    *names: str,
    where: Mapping[str, tuple[str, ...]] | None = None,
    unless: Mapping[str, tuple[str, ...]] | None = None,
    beside: tuple[str, ...] = (),
) -> Series:
    """Shorthand of mapping files."""
    return Series(names, where or {}, unless or {}, beside)


@dataclass(frozen=True, slots=True)
class Quantity:
    """Sum of `plus`, less `minus`, and of those of `optional` that are shown at all."""

    plus: tuple[Series, ...] = ()
    minus: tuple[Series, ...] = ()
    optional: tuple[Series, ...] = ()

    def all_series(self) -> Iterator[Series]:
        """Every series that can play a part."""
        yield from (*self.plus, *self.minus, *self.optional)


UNTOLD = Series(())
"""What is never told."""


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
    def gauge_names(self) -> frozenset[str]:
        """Names of everything that goes up and down."""
        quantities = (*self.running, *self.waiting, *self.transferring)
        gauges = (s for q in quantities for s in q.all_series())
        return frozenset(name for s in (*gauges, self.kv_usage) for name in s.names)
