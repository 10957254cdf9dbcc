"""Prometheus text, read cheaply: lines are chosen by family name, and each series is parsed once.

An engine's answer is 50-85 KB, of which a tenth is of use, and from scrape to scrape nothing in it
changes but the values. So only wanted lines are looked at, what stands before the value is parsed
by prometheus_client when it is first seen, and is remembered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

MAX_CHOSEN_CHARS = 512 * 1024
"""More text than this about the wanted families is no engine's: it is refused, not parsed."""

MAX_REMEMBERED = 20_000
"""Series remembered per engine kind; an endpoint that invents new labels cannot fill the memory."""


class Sample(NamedTuple):
    """One line: labels and value."""

    labels: Mapping[str, str]
    value: float


Samples = Mapping[str, Sequence[Sample]]
"""Samples by their full name, such as `vllm:inter_token_latency_seconds_bucket`."""


class MetricsTextError(ValueError):
    """The answer is no metrics text of this engine; the message says why."""


class FamilyFilter:
    """Picks the samples of the named families out of a metrics text."""

    def __init__(self, names: Iterable[str]) -> None:
        """Choose `names`, each also with the suffixes that exporters add."""
        choice = "|".join(re.escape(name) for name in sorted(names, reverse=True))
        family = rf"(?:{choice})(?:_total|_bucket|_sum|_count)?(?=[ {{\t])"
        # A series as far as its labels go, then the value; a timestamp may follow.
        self._line = re.compile(rf"^({family}[ \t]*(?:{{.*}})?)[ \t]*(.*)$", re.MULTILINE)
        self._known: dict[str, tuple[str, Mapping[str, str]]] = {}

    def samples(self, text: str) -> Samples:
        """Return the wanted samples of `text`; empty when it has none.

        Raises:
            MetricsTextError: a wanted line cannot be read, or there are far too many.

        """
        chosen = self._line.findall(text)
        if sum(len(head) for head, _ in chosen) > MAX_CHOSEN_CHARS:
            raise MetricsTextError(f"more than {MAX_CHOSEN_CHARS} characters of wanted series")
        found: dict[str, list[Sample]] = {}
        for head, tail in chosen:
            name, labels = self._known.get(head) or self._parse(head)
            try:
                value = float(tail.split(None, 1)[0])
            except (ValueError, IndexError):
                raise MetricsTextError(f"{head[:200]} has no value: {tail[:50]!r}") from None
            found.setdefault(name, []).append(Sample(labels, value))
        return found

    def _parse(self, head: str) -> tuple[str, Mapping[str, str]]:
        try:
            (family,) = text_string_to_metric_families(f"{head} 0\n")
            (sample,) = family.samples
        except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
            raise MetricsTextError(f"malformed series {head[:200]!r}: {error}") from error
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        parsed = self._known[head] = (sample.name, sample.labels)
        return parsed
