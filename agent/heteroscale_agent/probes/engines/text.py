"""Prometheus text, read cheaply: lines are chosen by family name, and each series is parsed once.

An engine's answer is 50-85 KB, of which a tenth is of use, and from scrape to scrape nothing in it
changes but the values. So only wanted lines are looked at, and what stands before the value is
parsed when it is first seen, and is remembered. prometheus_client would parse it too, but brings an
HTTP server, a registry and three megabytes into the process; tests hold us to what it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from os.path import commonprefix
from sys import intern
from typing import NamedTuple

MAX_CHOSEN_CHARS = 512 * 1024
"""More text than this about the wanted families is no engine's: it is refused, not parsed."""

MAX_REMEMBERED = 4_000
"""Series remembered per engine kind in one generation; two are kept. An endpoint that invents new labels
cannot fill the memory."""
GENERATION = 1_000
"""Texts until the next generation begins: four minutes of four engines. What is shown goes over into it,
and the series of engines that are gone do not."""


_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(,|$)')
_ESCAPED = re.compile(r"\\(.)")
_UNESCAPED = {"n": "\n", "\\": "\\", '"': '"'}


class Sample(NamedTuple):
    """One line: labels and value."""

    labels: Mapping[str, str]
    value: float


_Series = tuple[str, Mapping[str, str]]
"""A full name, and labels."""

Samples = Mapping[str, Sequence[Sample]]
"""Samples by their full name, such as `vllm:inter_token_latency_seconds_bucket`."""


class MetricsTextError(ValueError):
    """The answer is no metrics text of this engine; the message says why."""


class FamilyFilter:
    """Picks the samples of the named families out of a metrics text."""

    def __init__(self, names: Iterable[str]) -> None:
        """Choose `names`, each also with the suffixes that exporters add."""
        ordered = sorted(names, reverse=True)
        # A pattern that begins with plain text is searched for four times as fast.
        prefix = commonprefix(ordered)  # noqa: RUF071 - names, not paths
        choice = "|".join(re.escape(name.removeprefix(prefix)) for name in ordered)
        family = rf"{re.escape(prefix)}(?:{choice})(?:_total|_bucket|_sum|_count)?(?=[ {{\t])"
        # A series as far as its labels go, then the value; a timestamp may follow.
        self._line = re.compile(rf"\n({family}[ \t]*(?:{{.*}})?)[ \t]*(.*)")
        self._known: dict[str, _Series] = {}
        self._earlier: dict[str, _Series] = {}
        self._texts = 0

    def samples(self, text: str) -> Samples:
        """Return the wanted samples of `text`; empty when it has none.

        Raises:
            MetricsTextError: a wanted line cannot be read, or there are far too many.

        """
        chosen = self._line.findall("\n" + text)
        if sum(len(head) for head, _ in chosen) > MAX_CHOSEN_CHARS:
            raise MetricsTextError(f"more than {MAX_CHOSEN_CHARS} characters of wanted series")
        self._texts += 1
        if self._texts % GENERATION == 0:
            self._begin_generation()
        found: dict[str, list[Sample]] = {}
        for head, tail in chosen:
            name, labels = self._known.get(head) or self._remember(head)
            try:
                value = float(tail.split(None, 1)[0])
            except (ValueError, IndexError):
                raise MetricsTextError(f"{head[:200]} has no value: {tail[:50]!r}") from None
            found.setdefault(name, []).append(Sample(labels, value))
        return found

    @property
    def remembered(self) -> int:
        """Return how many series are kept in mind."""
        return len(self._known) + len(self._earlier)

    def _remember(self, head: str) -> _Series:
        series = self._earlier.get(head) or _parse(head)
        if len(self._known) >= MAX_REMEMBERED:
            self._begin_generation()
        self._known[head] = series
        return series

    def _begin_generation(self) -> None:
        self._earlier, self._known = self._known, {}


def _parse(head: str) -> _Series:
    name, brace, rest = head.partition("{")
    labels = _labels(rest.removesuffix("}")) if brace else {}
    if labels is None:
        raise MetricsTextError(f"malformed series {head[:200]!r}")
    return name.rstrip(), labels


def _labels(text: str) -> dict[str, str] | None:
    """Return the labels of what stands between the braces; None when it is malformed."""
    text = text.rstrip(" \t")
    labels: dict[str, str] = {}
    place = 0
    while place < len(text):
        found = _LABEL.match(text, place)
        if found is None or found[1] in labels:
            return None
        value = _ESCAPED.sub(_unescape, found[2]) if "\\" in found[2] else found[2]
        # Hundreds of series share the same few words.
        labels[intern(found[1])] = intern(value)
        place = found.end()
    return labels


def _unescape(found: re.Match[str]) -> str:
    # Any other character after a backslash stays as it is, backslash and all.
    return _UNESCAPED.get(found[1], found[0])
