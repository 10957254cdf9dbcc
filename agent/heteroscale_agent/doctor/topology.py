"""Where the host stands in the network, as the coordinator will hear it."""

from __future__ import annotations

from collections.abc import Iterator

from heteroscale.words import TOPOLOGY_LEVELS
from heteroscale_agent.doctor.finding import Case, Finding, note, ok, problem
from heteroscale_agent.probes.topology import VARIABLE, TopologyError, topology

_PLACED = ("s1", "s2")
"""Levels that placement keeps prefill and decode together by."""


def look(case: Case) -> Iterator[Finding]:
    """Yield every level that is known, and what follows from those that are not."""
    configured = {str(level): name for level, name in case.spec.topology.items()}
    try:
        levels = topology(configured, case.environ)
    except TopologyError as error:
        yield problem("environment", str(error), f"mend {VARIABLE} in the agent's environment")
        return
    for level, name in levels.items():
        source = "document" if configured.get(level) == name else VARIABLE
        yield ok(
            level, f"{name} (from the {source})" if source == "document" else f"{name} ({source})"
        )
    missing = [level for level in TOPOLOGY_LEVELS if level not in levels]
    if any(level in missing for level in _PLACED):
        yield note(
            "unknown levels",
            ", ".join(missing),
            "hosts whose level is unknown are taken to be far from each other at it; write "
            "`topology: {s1: …, s2: …}`, or set " + VARIABLE,
        )
