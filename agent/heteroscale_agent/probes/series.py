"""What a metrics page says of one reading: where on it stands what `heteroscale.engines.base` names.

A mapping says for each reading which series make it up, newest names first. What is missing, NaN,
infinite, negative or absurd is unknown (None), never zero.

Which lines make up a reading follows from names and labels alone. A `Layout` works it out, once for
as long as a page shows the same series; see `reading` for what is then done with the values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from heteroscale.engines.base import UNTOLD, Quantity, Series, series
from heteroscale_agent.probes.engines.text import Head
from heteroscale_agent.probes.reading import (
    NEVER,
    Amount,
    Buckets,
    Difference,
    Group,
    Histogram,
    Never,
    Share,
)

__all__ = [
    "MAX_QUEUE",
    "MAX_REQUESTS",
    "MAX_TOKENS",
    "UNTOLD",
    "Layout",
    "Quantity",
    "Series",
    "series",
]

MAX_TOKENS = 1e15
MAX_REQUESTS = 1e12
MAX_QUEUE = 1e7
MAX_SECONDS = 1e13


class Layout:
    """The series that a page shows, in the order of their lines, and where on it each reading stands.

    ``model_name`` restricts to that model's series. A series that names no model (SGLang has a few)
    speaks of the whole engine; empty takes all.
    """

    def __init__(
        self,
        heads: Sequence[Head],
        *,
        replica_labels: frozenset[str] = frozenset(),
        model_labels: tuple[str, ...] = ("model_name",),
        model_name: str = "",
    ) -> None:
        self._heads = heads
        self._replica_labels = replica_labels
        self._model_labels = model_labels
        self._models = ("", model_name) if model_name else ()
        self._places: dict[str, list[int]] = {}
        for place, head in enumerate(heads):
            self._places.setdefault(head.name, []).append(place)

    def shows(self, names: Iterable[str]) -> bool:
        """Return whether any of these families is there, whatever its labels."""
        suffixes = ("", "_total", "_bucket", "_sum", "_count")
        return any(name + suffix in self._places for name in names for suffix in suffixes)

    def first(self, alternatives: Iterable[Quantity], ceiling: float) -> Difference | Never:
        """Return the first quantity that is shown; more than ``ceiling`` of anything is unknown."""
        for quantity in alternatives:
            plus = [self._find(s) for s in quantity.plus]
            minus = [self._find(s) for s in quantity.minus]
            optional = [self._find(s) for s in quantity.optional]
            if None in plus or None in minus or all(found is None for found in plus + optional):
                continue
            added = Amount(self._groups(plus + optional), ceiling)
            return Difference(added, Amount(self._groups(minus), ceiling))
        return NEVER

    def share(self, wanted: Series) -> Share | Never:
        """Return where the usage of each rank stands."""
        groups = self._groups([self._find(wanted)])
        return Share(groups) if groups else NEVER

    def latency(self, wanted: Series) -> Histogram | Never:
        """Return a histogram, ranks added; without buckets where those do not fit together."""
        for name in wanted.names:
            one = Series((name,), wanted.where, wanted.unless)
            counts, sums = self._find(one, ("_count",)), self._find(one, ("_sum",))
            if not counts:
                continue
            if len(counts) != len(sums or ()):
                return NEVER
            return Histogram(
                Amount(self._groups([sums]), MAX_SECONDS),
                Amount(self._groups([counts]), MAX_TOKENS),
                self._buckets(self._find(one, ("_bucket",)) or ()),
            )
        return NEVER

    def _buckets(self, places: Iterable[int]) -> Buckets | None:
        """Return the bounds and what stands below each; None when they do not fit together."""
        by_bound: dict[float, list[int]] = {}
        for place in places:
            try:
                bound = float(self._heads[place].labels.get("le", ""))
            except ValueError:
                return None
            by_bound.setdefault(bound, []).append(place)
        by_bound.pop(math.inf, None)
        bounds = tuple(sorted(by_bound))
        # A summary, or nothing but the total: where they lie is unknown. And ranks with other bounds
        # than their peers cannot be added bucket by bucket.
        uneven = len({len(found) for found in by_bound.values()}) > 1
        if not bounds or uneven or not all(map(math.isfinite, bounds)):
            return None
        below = (Amount(self._groups([by_bound[bound]]), MAX_TOKENS) for bound in bounds)
        return Buckets(bounds, tuple(below))

    def _find(self, wanted: Series, suffixes: Sequence[str] = ("", "_total")) -> list[int] | None:
        """Return the places of the first name that is shown, none where it stands at zero; else None."""
        for name in wanted.names:
            for suffix in suffixes:
                places = self._places.get(name + suffix, ())
                if found := [place for place in places if self._is_of(wanted, place)]:
                    return found
        return [] if wanted.beside and self.shows(wanted.beside) else None

    def _is_of(self, wanted: Series, place: int) -> bool:
        labels = self._heads[place].labels
        if not wanted.wants(labels):
            return False
        return not self._models or all(
            labels.get(name, "") in self._models for name in self._model_labels
        )

    def _groups(self, found: Iterable[Sequence[int] | None]) -> tuple[Group, ...]:
        """Return the places of each rank that speaks for itself, its replicas together."""
        groups: list[Group] = []
        for places in found:
            ranks: dict[frozenset[tuple[str, str]], list[int]] = {}
            for place in places or ():
                labels = self._heads[place].labels.items()
                rank = frozenset((k, v) for k, v in labels if k not in self._replica_labels)
                ranks.setdefault(rank, []).append(place)
            groups += map(tuple, ranks.values())
        return tuple(groups)
