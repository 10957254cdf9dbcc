"""Where the host stands in the network: from the configuration, overridden by the environment."""

from __future__ import annotations

from collections.abc import Mapping

from heteroscale.words import TOPOLOGY_LEVELS

VARIABLE = "HETEROSCALE_TOPOLOGY"
MAX_NAME = 253


class TopologyError(ValueError):
    """The variable names no network domains; the message says what would be right."""


def topology(configured: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return level to domain name, nearest level first.

    `HETEROSCALE_TOPOLOGY="s1=minipod-3,s2=pod-0"` overrides the configured levels it names; an
    empty value (`s0=`) removes one.

    Raises:
        TopologyError: an entry is not `level=name`, or its level does not exist.

    """
    levels = {**configured, **parse(environ.get(VARIABLE, ""))}
    return {level: levels[level] for level in TOPOLOGY_LEVELS if levels.get(level)}


def parse(text: str) -> dict[str, str]:
    """Read `level=name,level=name`; raises TopologyError."""
    levels: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        level, equals, name = (part.strip() for part in entry.partition("="))
        if not equals or level not in TOPOLOGY_LEVELS:
            known = ", ".join(TOPOLOGY_LEVELS)
            raise TopologyError(
                f"{VARIABLE}: {entry!r} is not LEVEL=NAME with LEVEL one of {known}"
            )
        if len(name) > MAX_NAME or not name.isprintable():
            raise TopologyError(f"{VARIABLE}: the name of {level} is no name")
        levels[level] = name
    return levels
