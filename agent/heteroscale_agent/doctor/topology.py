"""Where the host stands in the network, as the coordinator will hear it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from heteroscale_agent.doctor.finding import Case, Finding, note, ok, problem
from heteroscale_agent.probes.topology import VARIABLE, TopologyError, meaning
from heteroscale_agent.probes.topology import look as look_up

_PLACED = ("s1", "s2")
"""Levels that placement keeps prefill and decode together by."""
_SHARE = 0.8
"""The part of the doctor's time that sources may take; the rest is for saying what came of it."""


def look(case: Case) -> Iterator[Finding]:
    """Yield every level that is known, each source that fails, and what is missing."""
    try:
        found = asyncio.run(look_up(case.spec, case.environ, case.deadline * _SHARE))
    except TopologyError as error:
        yield problem("environment", str(error), f"mend {VARIABLE} in the agent's environment")
        return
    for level, name in found.levels.items():
        yield ok(level, f"{name} ({found.sources[level]})")
    for said in found.problems:
        source, _, why = said.partition(": ")
        yield problem(source, why, "the agent asks again every minute; see `topologyFrom`")
    missing = [level for level in _PLACED if level not in found.levels]
    if missing:
        said = " ".join(f"{level}: {meaning(found, level)}" for level in missing)
        todo = f"name them: `topology`, `topologyFrom`, or {VARIABLE}"
        yield note("unknown levels", said, todo)
