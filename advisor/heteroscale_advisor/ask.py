"""Asks a Prometheus for a service's history: its series, then each signal over the time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from heteroscale.engines import MAPPINGS
from heteroscale.words import Role
from heteroscale_advisor.history import STOOD, UP, Grid, History, fold
from heteroscale_coordinator.edge.prometheus import gpus, identify, promql
from heteroscale_coordinator.edge.prometheus.answers import Labels, Matrix, PrometheusError
from heteroscale_coordinator.edge.prometheus.client import PrometheusClient, spans
from heteroscale_coordinator.edge.prometheus.identify import Found
from heteroscale_coordinator.edge.prometheus.spec import PrometheusSpec

STEPS = (15, 30, 60, 120, 300, 600, 1800, 3600)
"""Widths of a slot in seconds; the first that makes no more than ``MOST`` of them is used."""
MOST = 1500
LEAST_WINDOW, MOST_WINDOW, SCRAPES = 60.0, 300.0, 4
"""Width of a rate in seconds, and how many scrapes it should hold: it needs two, and one may fail."""
_COUNTED = 600
"""Seconds in which scrapes are counted."""
_NAMES = 200
"""Instances in one query for whether they were scraped."""
_STANDS = ("prompt_tokens", "generation_tokens")
"""Counters by which a restart is seen; the last that is told is used."""
Tell = Callable[[float, float], None]


@dataclass(frozen=True)
class Asked:
    """What was found, and the queries that found it."""

    found: Found
    queries: Mapping[str, Mapping[str, str]]
    """By engine, by signal, with ``$select`` and ``$window`` in them."""
    window: float
    """What ``$window`` was, in seconds."""
    stands: Mapping[str, str] = field(default_factory=dict)
    """By engine: the query for what one of its counters stands at."""

    def all_in_one(self) -> Self:
        """Return it with every instance doing all of the work, whatever its labels say."""
        alike = (replace(one, role=Role.AGGREGATED) for one in self.found.instances)
        return replace(self, found=replace(self.found, instances=tuple(alike)))


def step_for(since: float) -> float:
    """Return the width of a slot for so many seconds of history."""
    return float(next((one for one in STEPS if since / one <= MOST), math.ceil(since / MOST)))


async def find(
    client: PrometheusClient, service: str, spec: PrometheusSpec, start: float, end: float
) -> Asked:
    """Return the instances of a service between two moments, and the queries for their signals.

    Raises:
        PrometheusError: the server cannot be used, or the service is not there; what to do about it.

    """
    everything, warnings = await client.series(identify.presence_match(spec.select), start, end)
    _refuse_partial(warnings)
    if not everything:
        if not spec.select:
            raise PrometheusError(identify.nothing_there())
        raise PrometheusError(
            f"no engine's series match {{{spec.select}}}: check `select` or --select"
        )
    select = identify.choose(service, spec, everything)
    found = identify.identify(spec, select, everything)
    engines = sorted({one.engine for one in found.instances})
    queries: dict[str, Mapping[str, str]] = {}
    stands: dict[str, str] = {}
    for engine in engines:
        mapping = MAPPINGS[engine]
        match = identify.names_match(promql.names(mapping), select)
        there, warnings = await client.series(match, start, end)
        _refuse_partial(warnings)
        made = promql.queries(mapping, identify.shown_names(there), found.by)
        queries[engine] = made | {str(name): own for name, own in spec.queries.items()}
        now = promql.queries(mapping, identify.shown_names(there), found.by, newest=True)
        if told := [now[name] for name in _STANDS if name in now]:
            stands[engine] = told[-1]
    found = await _with_gpus(client, found, start, end)
    window = await _window(client, select, identify.shown_names(everything), start, end)
    return Asked(found, queries, window, stands)


async def history(
    client: PrometheusClient, asked: Asked, grid: Grid, told: Tell
) -> tuple[History, Asked]:
    """Return the history of the instances that were found, and the queries with the window used.

    Raises:
        PrometheusError: the server cannot be used, or the engines do not tell what is needed.

    """
    window = max(asked.window, grid.step)
    parts = spans(grid.start, grid.points, grid.step, len(asked.found.instances))
    wanted = [
        (signal, promql.fill(query, asked.found.select, window)) for signal, query in _wanted(asked)
    ]
    answers: dict[str, list[Matrix]] = {}
    for number, (signal, query) in enumerate(wanted):
        for place, (start, end) in enumerate(parts):
            answers.setdefault(signal, []).append(await client.range(query, start, end, grid.step))
            told(number * len(parts) + place + 1, len(wanted) * len(parts))
    found = fold(grid, asked.found.instances, answers, asked.found.by)
    _require(found, asked)
    return found, replace(asked, window=window)


def _wanted(asked: Asked) -> Iterator[tuple[str, str]]:
    """Yield (signal, query) of everything that a history is made of."""
    for made in asked.queries.values():
        yield from made.items()
    for query in asked.stands.values():
        yield STOOD, query
    names = [one.name for one in asked.found.instances]
    for first in range(0, len(names), _NAMES):
        yield UP, promql.scraped(asked.found.by, names[first : first + _NAMES])


async def _window(
    client: PrometheusClient, select: str, shown: frozenset[str], start: float, end: float
) -> float:
    """Return the width of a rate that a failed scrape leaves whole; the least where none tells."""
    span = max(_COUNTED, round(end - start))
    counted = " or ".join(
        f"max(count_over_time({name}{{{select}}}[{_COUNTED}s]))" for name in sorted(shown)
    )
    try:
        answer = await client.instant(f"max_over_time(({counted})[{span}s:{_COUNTED}s])", end)
    except PrometheusError:
        return LEAST_WINDOW
    told = [value for _, value in answer.rows if value > 0]
    if answer.warnings or not told:
        return LEAST_WINDOW
    wide = math.ceil(SCRAPES * _COUNTED / max(told) / 5) * 5
    return float(min(max(LEAST_WINDOW, wide), MOST_WINDOW))


async def _with_gpus(client: PrometheusClient, found: Found, start: float, end: float) -> Found:
    """Return the instances with the GPUs that dcgm-exporter tells of their pods, if it does.

    What it does not tell, or what is told only in part, stays unknown.
    """
    pods = [one.name for one in found.instances] if found.by == "pod" else []
    seen: list[Labels] = []
    for match in gpus.matches(pods):
        there, warnings = await client.series(match, start, end)
        seen += () if warnings else there
    known = gpus.by_pod(seen)
    told = tuple(
        replace(one, gpu_type=one.gpu_type or known[one.name].gpu_type, gpus=known[one.name].count)
        if one.name in known
        else one
        for one in found.instances
    )
    return replace(found, instances=told)


def _refuse_partial(warnings: tuple[str, ...]) -> None:
    if warnings:
        raise PrometheusError(
            f"the server says that its answer is not all: {'; '.join(warnings)}. What is missing would "
            "look like instances that do not exist: mend that first"
        )


def _require(history: History, asked: Asked) -> None:
    """Refuse a history in which a role's work is nowhere known, and say what was looked for."""
    if history.warnings and not history.known.any():
        _refuse_partial(history.warnings)
    for role, past in history.roles.items():
        name = "computed_prompt_tokens" if role is Role.PREFILL else "generation_tokens"
        work = past.work
        if not bool((work == work).any()):  # noqa: PLR0124 - NaN alone is unequal to itself
            engines = sorted({p.seen.engine for p in history.instances if p.seen.role is role})
            looked = sorted(MAPPINGS[engines[0]].counter_names)
            there = sorted(asked.queries[engines[0]])
            raise PrometheusError(
                f"{role}: its work ({name}) is nowhere known. Looked for {', '.join(looked)}; signals "
                f"that were found: {', '.join(there)}. Let Prometheus keep these (a relabelling may drop "
                "them), or give a query of your own in `queries`"
            )
