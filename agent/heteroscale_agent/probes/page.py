"""One page of metrics read again and again: what its series mean is worked out when they are others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from heteroscale_agent.probes.engines.text import (
    FamilyFilter,
    Head,
    Heads,
    MetricsTextError,
    parse,
)
from heteroscale_agent.probes.reading import Reading

Scrape = TypeVar("Scrape")


class PageReader(Generic[Scrape]):
    """Reads the texts of one page; it keeps in mind no more than the series of the last one."""

    def __init__(
        self,
        kind: str,
        family: FamilyFilter,
        lay_out: Callable[[Sequence[Head]], Mapping[str, Reading[Any]]],
        make: Callable[..., Scrape],
    ) -> None:
        """Read lines of ``family``; ``lay_out`` finds readings on them, by the names ``make`` takes."""
        self._kind, self._family = kind, family
        self._lay_out, self._make = lay_out, make
        self._heads: Heads = ()
        self._readings: Mapping[str, Reading[Any]] = {}

    def read(self, text: str) -> Scrape:
        """Return what ``text`` says.

        Raises:
            MetricsTextError: it has no metric of this kind, or cannot be read.

        """
        heads, values = self._family.lines(text)
        if not heads:
            raise MetricsTextError(f"no {self._kind} metric in the answer")
        if heads != self._heads:
            self._readings = self._lay_out(parse(heads))
            self._heads = heads
        return self._make(**{name: one.of(values) for name, one in self._readings.items()})
