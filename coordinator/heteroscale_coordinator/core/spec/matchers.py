"""PromQL's label matchers: read, and applied here to labels that were already fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_ONE = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(,|$)')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Matcher:
    """One of ``label OP "value"``; an absent label has the value ``""``, as in PromQL."""

    label: str
    operator: str
    value: str

    def accepts(self, labels: Mapping[str, str]) -> bool:
        """Return whether the labels match."""
        found = labels.get(self.label, "")
        if self.operator in ("=", "!="):
            return (found == self.value) == (self.operator == "=")
        return bool(re.fullmatch(self.value, found)) == (self.operator == "=~")


def matchers(text: str) -> tuple[Matcher, ...]:
    """Return the matchers of ``a="x",b=~"y.*"``, with or without braces around it.

    Raises:
        ValueError: what cannot be read, and how it is written.

    """
    rest = text.strip().removeprefix("{").removesuffix("}").strip()
    found, place = [], 0
    while place < len(rest):
        one = _ONE.match(rest, place)
        if one is None:
            raise ValueError(
                f'{rest[place:]!r} is no matcher: write label="value" or label=~"re.*"'
            )
        value = _ESCAPED.sub(lambda m: "\n" if m[1] == "n" else m[1], one[3])
        if "~" in one[2]:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"{value!r} is no regular expression: {error}") from None
        found.append(Matcher(one[1], one[2], value))
        place = one.end()
    return tuple(found)


def quoted(value: str) -> str:
    """Return a value as PromQL writes it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def one_of(label: str, values: tuple[str, ...]) -> str:
    """Return a matcher for any of the values."""
    if len(values) == 1:
        return f"{label}={quoted(values[0])}"
    return f"{label}=~{quoted('|'.join(re.escape(value) for value in values))}"


def none_of(label: str, values: tuple[str, ...]) -> str:
    """Return a matcher for none of the values."""
    return f"{label}!~{quoted('|'.join(re.escape(value) for value in values))}"
