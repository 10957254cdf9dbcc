"""Prometheus text, read cheaply: lines are chosen by family name, and only values are read every time.

An engine's answer is 50-85 KB, of which a tenth is of use, and from scrape to scrape nothing in it
changes but the values. So only wanted lines are looked at, and what stands before their values, the
*heads*, is parsed when other heads are shown than before. prometheus_client would parse it too, but
brings an HTTP server, a registry and three megabytes into the process; tests hold us to what it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from os.path import commonprefix
from typing import NamedTuple

MAX_CHOSEN_CHARS = 512 * 1024
"""More text than this about the wanted families is no engine's: it is refused, not parsed."""

_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(,|$)')
_ESCAPED = re.compile(r"\\(.)")
_UNESCAPED = {"n": "\n", "\\": "\\", '"': '"'}

Heads = tuple[str, ...]
"""What stands before the values of the wanted lines, in their order."""


class Head(NamedTuple):
    """What stands before a value: a full name, such as `vllm:request_success_total`, and labels."""

    name: str
    labels: Mapping[str, str]


class MetricsTextError(ValueError):
    """The answer is no metrics text of this engine; the message says why."""


class FamilyFilter:
    """Picks the lines of the named families out of a metrics text."""

    def __init__(self, names: Iterable[str]) -> None:
        """Choose `names`, each also with the suffixes that exporters add."""
        ordered = sorted(names, reverse=True)
        # A pattern that begins with plain text is searched for four times as fast.
        prefix = commonprefix(ordered)  # noqa: RUF071 - names, not paths
        choice = "|".join(re.escape(name.removeprefix(prefix)) for name in ordered)
        family = rf"{re.escape(prefix)}(?:{choice})(?:_total|_bucket|_sum|_count)?(?=[ {{\t])"
        # A series as far as its labels go, then the value; a timestamp may follow.
        self._line = re.compile(rf"\n({family}[ \t]*(?:{{.*}})?)[ \t]*(\S*)")

    def lines(self, text: str) -> tuple[Heads, list[float]]:
        """Return the heads and the values of the wanted lines of `text`; empty when it has none.

        Raises:
            MetricsTextError: a wanted line has no value.

        """
        chosen = self._line.findall("\n" + text)
        try:
            values = [float(value) for _, value in chosen]
        except ValueError as error:
            raise MetricsTextError(f"a series has no value: {str(error)[:200]}") from None
        return tuple([head for head, _ in chosen]), values


def parse(heads: Sequence[str]) -> list[Head]:
    """Return the series of `heads`, in their order.

    Raises:
        MetricsTextError: one cannot be read, or there are far too many.

    """
    if sum(map(len, heads)) > MAX_CHOSEN_CHARS:
        raise MetricsTextError(f"more than {MAX_CHOSEN_CHARS} characters of wanted series")
    return [_parse(head) for head in heads]


def _parse(head: str) -> Head:
    name, brace, rest = head.partition("{")
    labels = _labels(rest.removesuffix("}")) if brace else {}
    if labels is None:
        raise MetricsTextError(f"malformed series {head[:200]!r}")
    return Head(name.rstrip(), labels)


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
        labels[found[1]] = value
        place = found.end()
    return labels


def _unescape(found: re.Match[str]) -> str:
    # Any other character after a backslash stays as it is, backslash and all.
    return _UNESCAPED.get(found[1], found[0])
