"""The network position of a host in plain words: what was found, by whom, and what is missing."""

from __future__ import annotations

from heteroscale.words import TOPOLOGY_LEVELS
from heteroscale_agent.probes.topology.found import Found

_MEANS = {
    "s0": "the rack or NVLink domain",
    "s1": "the minipod: hosts under one leaf switch",
    "s2": "the bigpod: minipods under one spine switch",
    "logical_cluster": "the logical cluster",
    "physical_cluster": "the physical cluster",
    "vdc": "the virtual data centre",
}
_GROUPING = ("s1", "s2", "logical_cluster")
"""Levels at which a service can ask for prefill and decode to stand together."""


def explain(found: Found) -> list[str]:
    """Return lines, one for each level and trouble; for a person, and for `heteroscale doctor`."""
    lines = [_line(found, level) for level in TOPOLOGY_LEVELS]
    if not found.levels:
        lines.append(
            "Nothing is known of this host's place: services that ask for affinity never get it, "
            "and all others treat every host as equally far. Set `topology` or `topologyFrom`."
        )
    lines += [f"trouble: {problem}" for problem in found.problems]
    return lines


def _line(found: Found, level: str) -> str:
    if level in found.levels:
        return f"{level} = {found.levels[level]} ({found.sources[level]})"
    why = f"none, says {found.removed[level]}" if level in found.removed else "nobody names it"
    return f"{level}: {why}. {meaning(found, level)}"


def meaning(found: Found, level: str) -> str:
    """Return what ``level`` is, and what it means that nobody names it."""
    about = _MEANS[level]
    if level not in _GROUPING:
        return f"It is {about}; placement can do without."
    outward = TOPOLOGY_LEVELS[TOPOLOGY_LEVELS.index(level) + 1 :]
    nearest = next((other for other in outward if other in found.levels), None)
    if any(other in found.levels for other in _GROUPING[: _GROUPING.index(level)]):
        return f"It is {about}; this host cannot serve groups that are bound to that level."
    if nearest is None:
        return f"It is {about}; without it nothing says which hosts are near this one."
    return f"It is {about}; placement treats the {nearest} domain as the nearest."
