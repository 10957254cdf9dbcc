"""Names of network domains as people and programs write them: a variable, lines, YAML or JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import yaml

from heteroscale.words import TOPOLOGY_LEVELS

MAX_NAME = 253
MAX_TEXT = 64 * 1024
_LINE = re.compile(r"\s*\w+\s*=.*")


class TopologyError(ValueError):
    """A text names no network domains; the message says what would be right."""


def parse_variable(name: str, text: str) -> dict[str, str]:
    """Read ``level=name,level=name``; an empty name is kept, it says that there is no such domain.

    Raises:
        TopologyError: an entry is not of that form, or its level does not exist.

    """
    return _checked(name, filter(None, (part.strip() for part in text.split(","))))


def parse_text(text: str) -> dict[str, str]:
    """Read lines ``LEVEL=NAME`` (``#`` begins a comment line), or a map in YAML or JSON.

    Raises:
        TopologyError: it is neither, or a level does not exist, or a name is none.

    """
    if len(text) > MAX_TEXT:
        raise TopologyError(f"longer than {MAX_TEXT} characters")
    lines = [line for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
    if all(_LINE.fullmatch(line) for line in lines):
        entries = (part.strip() for line in lines for part in line.split(","))
        return _checked("text", filter(None, entries))
    try:
        # Every scalar stays text: a rack may be called `no`, or `007`.
        data = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it makes text, lists and maps
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise TopologyError("neither lines LEVEL=NAME nor a YAML or JSON map") from error
    if not isinstance(data, Mapping):
        raise TopologyError("neither lines LEVEL=NAME nor a YAML or JSON map")
    return {str(level): name_of(str(level), name) for level, name in data.items()}


def name_of(level: str, name: object) -> str:
    """Return ``name`` if it can be the name of a domain of ``level``; empty says that there is none.

    Raises:
        TopologyError: the level does not exist, or the name is none.

    """
    if level not in TOPOLOGY_LEVELS:
        raise TopologyError(f"no level {level[:40]!r}: the levels are {', '.join(TOPOLOGY_LEVELS)}")
    if not isinstance(name, str) or len(name) > MAX_NAME or not name.isprintable():
        raise TopologyError(f"the name of {level} is no name")
    return name.strip()


def _checked(where: str, entries: Iterable[str]) -> dict[str, str]:
    levels: dict[str, str] = {}
    for entry in entries:
        level, equals, name = (part.strip() for part in entry.partition("="))
        if not equals or level not in TOPOLOGY_LEVELS:
            known = ", ".join(TOPOLOGY_LEVELS)
            raise TopologyError(
                f"{where}: {entry[:80]!r} is not LEVEL=NAME with LEVEL one of {known}"
            )
        try:
            levels[level] = name_of(level, name)
        except TopologyError as error:
            raise TopologyError(f"{where}: {error}") from None
    return levels
