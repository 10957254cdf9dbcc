"""How a router's metrics become a `RouterScrape`: what a mapping file says, and its reading.

The language is that of engines (`probes/series.py`). What a mapping leaves out, the router never
tells: it is unknown for ever. Above all TTFT: a router that answers once its stream has begun, but
does not say when the first token went by, knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from heteroscale_agent.model import RouterScrape
from heteroscale_agent.probes.engines.text import FamilyFilter, Head
from heteroscale_agent.probes.page import PageReader
from heteroscale_agent.probes.reading import Reading
from heteroscale_agent.probes.series import (
    MAX_QUEUE,
    MAX_REQUESTS,
    UNTOLD,
    Layout,
    Quantity,
    Series,
    series,
)

__all__ = ["Quantity", "RouterMapping", "Series", "read", "reader", "series"]


@dataclass(frozen=True)
class RouterMapping:
    """What a router calls our readings. Several quantities: the first that is shown wins."""

    name: str
    time_to_first_token: Series = UNTOLD
    time_between_tokens: Series = UNTOLD
    requests_finished: tuple[Quantity, ...] = ()
    requests_failed: tuple[Quantity, ...] = ()
    """Ended with an error that is the service's: neither a refusal nor a client's mistake."""
    requests_rejected: tuple[Quantity, ...] = ()
    """Refused for want of room: 429 and 503."""
    running: tuple[Quantity, ...] = ()
    waiting: tuple[Quantity, ...] = ()
    shown_at_once: tuple[str, ...] = ()
    """Families by which a router is known that has served nothing yet."""
    model_labels: tuple[str, ...] = ("model",)
    experimental: bool = False
    """Written from documented names alone: no text recorded from a release stands in the tests."""
    refusals: Mapping[int, str] = field(default_factory=dict)
    """What an HTTP status of the metrics page means with this router, and what to do about it."""

    @cached_property
    def filter(self) -> FamilyFilter:
        """The lines of a metrics text that this mapping can use."""
        quantities = (
            *self.requests_finished,
            *self.requests_failed,
            *self.requests_rejected,
            *self.running,
            *self.waiting,
        )
        parts = [s for q in quantities for s in q.all_series()]
        parts += [self.time_to_first_token, self.time_between_tokens]
        names = {name for s in parts for name in (*s.names, *s.beside)}
        return FamilyFilter(names | set(self.shown_at_once))


def reader(mapping: RouterMapping, model_name: str = "") -> PageReader[RouterScrape]:
    """Return a reader of one router's page, of the series of `model_name` alone unless it is empty."""

    def lay_out(heads: Sequence[Head]) -> dict[str, Reading[Any]]:
        layout = Layout(heads, model_labels=mapping.model_labels, model_name=model_name)
        return {
            "time_to_first_token": layout.latency(mapping.time_to_first_token),
            "time_between_tokens": layout.latency(mapping.time_between_tokens),
            "requests_finished": layout.first(mapping.requests_finished, MAX_REQUESTS),
            "requests_failed": layout.first(mapping.requests_failed, MAX_REQUESTS),
            "requests_rejected": layout.first(mapping.requests_rejected, MAX_REQUESTS),
            "running": layout.first(mapping.running, MAX_QUEUE),
            "waiting": layout.first(mapping.waiting, MAX_QUEUE),
        }

    return PageReader(mapping.name, mapping.filter, lay_out, RouterScrape)


def read(mapping: RouterMapping, text: str, model_name: str = "") -> RouterScrape:
    """Read one scrape alone; see `reader`.

    Raises:
        MetricsTextError: the text has no metric of this router, or cannot be read.

    """
    return reader(mapping, model_name).read(text)
