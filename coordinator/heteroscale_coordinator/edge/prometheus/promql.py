"""PromQL for each signal, made from the names that agents read by, and only from those that are there.

Every query gives one value for each instance: rates per second over ``$window``, gauges as they were
last told within it. Nothing older answers, whatever a server's look-back is: silence stays silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from heteroscale.engines.base import EngineMapping, Quantity, Series
from heteroscale_coordinator.core.spec.matchers import none_of, one_of
from heteroscale_coordinator.edge.prometheus.spec import RATES

ANCHOR = "running"
"""The signal by which an engine shows that it is there, and how old what it tells is."""

_SUFFIXES = ("", "_total")
_COUNTERS = (
    *("generation_tokens", "prompt_tokens", "computed_prompt_tokens"),
    *("requests_finished", "requests_aborted"),
)
_GAUGES = ("running", "waiting", "transferring")
_LATENCIES = {"ttft": "time_to_first_token", "tbt": "time_between_tokens"}


def names(mapping: EngineMapping) -> frozenset[str]:
    """Return every name that a query of this engine may read, with the suffixes that exporters add."""
    plain = {name + end for name in mapping.gauge_names for end in _SUFFIXES}
    plain |= {name + end for name in mapping.counter_names for end in _SUFFIXES}
    sums = (mapping.time_to_first_token, mapping.time_between_tokens)
    latencies = {name + end for one in sums for name in one.names for end in ("_sum", "_count")}
    return frozenset(plain - {name for one in sums for name in one.names} | latencies)


def presence_names(mapping: EngineMapping) -> frozenset[str]:
    """Return the names by which an engine is known to be there: how many it runs."""
    series = (s for quantity in mapping.running for s in quantity.all_series())
    return frozenset(name + end for s in series for name in s.names for end in _SUFFIXES)


def queries(
    mapping: EngineMapping, shown: frozenset[str], by: str, *, newest: bool = False
) -> dict[str, str]:
    """Return the query of each signal, with ``$select`` and ``$window`` in it.

    ``shown`` are the names that are there, ``by`` is the label that tells instances apart. A signal
    that the engine does not tell has no query: it is unknown. ``newest``: for counters what they stand
    at now, not their rates; and for gauges too what was scraped last, but nothing of what has ended.
    """
    maker = _Maker(mapping, shown, by, newest=newest)
    found = {name: maker.first(getattr(mapping, name), rate=True) for name in _COUNTERS}
    found |= {name: maker.first(getattr(mapping, name), rate=False) for name in _GAUGES}
    found["kv_usage"] = maker.highest(mapping.kv_usage)
    for short, name in _LATENCIES.items():
        for end in ("sum", "count"):
            found[f"{short}_{end}"] = maker.part(getattr(mapping, name), f"_{end}")
    return {name: query for name, query in found.items() if query}


def ages(mapping: EngineMapping, shown: frozenset[str], by: str) -> str:
    """Return the query for how old an engine's newest sample is in seconds, by the server's clock."""
    names = sorted(shown & presence_names(mapping))
    oldest = (f"max by ({by}) (time() - timestamp({name}{{$select}}))" for name in names)
    return " or ".join(oldest)


def scraped(by: str, instances: Iterable[str]) -> str:
    """Return the query for whether instances are still scraped at all: 1; 0: in vain."""
    return f"max by ({by}) (up{{{one_of(by, tuple(sorted(instances)))}}})"


def fill(query: str, select: str, window: float) -> str:
    """Return a query that can be asked: ``$select`` by matchers, ``$window`` by a duration."""
    joined = query.replace(",$select", f",{select}" if select else "")
    return joined.replace("$select", select).replace("$window", f"{window:.0f}s")


def rates() -> frozenset[str]:
    """Return the signals that are per second."""
    return RATES


class _Maker:
    def __init__(
        self, mapping: EngineMapping, shown: frozenset[str], by: str, *, newest: bool
    ) -> None:
        self._shown, self._by, self._newest = shown, by, newest
        self._replicas = ", ".join(sorted(mapping.replica_labels))
        self._anchor = self.first(mapping.running, rate=False)

    def first(self, alternatives: Iterable[Quantity], *, rate: bool) -> str:
        """Return the sum of each alternative that is there, the newer before the older."""
        found = [made for one in alternatives if (made := self._quantity(one, rate=rate))]
        return " or ".join(f"({made})" for made in found) if len(found) > 1 else "".join(found)

    def highest(self, wanted: Series) -> str:
        """Return the highest value of an instance's ranks."""
        found = self._present(wanted, _SUFFIXES)
        shown = [f"max by ({self._by}) ({self._selected(n, wanted, rate=False)})" for n in found]
        return " or ".join(shown)

    def part(self, wanted: Series, suffix: str) -> str:
        """Return the rate of a histogram's sum or count."""
        found = self._present(wanted, (suffix,))
        return " or ".join(self._sum(self._selected(n, wanted, rate=True)) for n in found)

    def _quantity(self, quantity: Quantity, *, rate: bool) -> str:
        plus = [self._series(one, rate=rate) for one in quantity.plus]
        minus = [self._series(one, rate=rate) for one in quantity.minus]
        extra = [made for one in quantity.optional if (made := self._series(one, rate=rate))]
        if not all(plus) or not all(minus) or not (plus or extra):
            return ""
        zero = f" or ({self._anchor}) * 0" if extra and self._anchor else ""
        terms = [f"({made})" for made in plus] + [f"({made}{zero})" for made in extra]
        added = " + ".join(terms) if len(terms) > 1 or minus else terms[0][1:-1]
        taken = "".join(f" - ({made})" for made in minus)
        # Rates of two counters are never quite of the same moments.
        return f"clamp_min({added}{taken}, 0)" if minus else added

    def _series(self, wanted: Series, *, rate: bool) -> str:
        found = self._present(wanted, _SUFFIXES)
        return " or ".join(self._sum(self._selected(name, wanted, rate=rate)) for name in found)

    def _present(self, wanted: Series, suffixes: Iterable[str]) -> list[str]:
        return [n + s for n in wanted.names for s in suffixes if n + s in self._shown]

    def _sum(self, inner: str) -> str:
        if self._replicas:
            inner = f"max without ({self._replicas}) ({inner})"
        return f"sum by ({self._by}) ({inner})"

    def _selected(self, name: str, wanted: Series, *, rate: bool) -> str:
        parts = [one_of(label, values) for label, values in wanted.where.items()]
        parts += [none_of(label, values) for label, values in wanted.unless.items()]
        selected = f"{name}{{{','.join([*parts, '$select'])}}}"
        if self._newest:
            return selected
        return f"{'rate' if rate else 'last_over_time'}({selected}[$window])"


def shown_queries(found: Mapping[str, str], select: str, window: float) -> list[str]:
    """Return queries as a person may paste them, a line each."""
    return [f"{name}: {fill(query, select, window)}" for name, query in found.items()]
