"""Asks a Prometheus for a service's history: its series, then each signal over the time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from heteroscale.engines import MAPPINGS
from heteroscale.words import Role
from heteroscale_advisor.history import Grid, History, fold
from heteroscale_coordinator.edge.prometheus import gpus, identify, promql
from heteroscale_coordinator.edge.prometheus.answers import Labels, Matrix, PrometheusError
from heteroscale_coordinator.edge.prometheus.client import PrometheusClient, spans
from heteroscale_coordinator.edge.prometheus.identify import Found
from heteroscale_coordinator.edge.prometheus.spec import PrometheusSpec

STEPS = (15, 30, 60, 120, 300, 600, 1800, 3600)
"""Widths of a slot in seconds; the first that makes no more than ``MOST`` of them is used."""
MOST = 1500
LEAST_WINDOW = 60.0
"""A rate needs two scrapes, and many scrape every 15 or 30 seconds."""
Tell = Callable[[float, float], None]


@dataclass(frozen=True)
class Asked:
    """What was found, and the queries that found it."""

    found: Found
    queries: Mapping[str, Mapping[str, str]]
    """By engine, by signal, with ``$select`` and ``$window`` in them."""
    window: float
    """What ``$window`` was, in seconds."""


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
    for engine in engines:
        mapping = MAPPINGS[engine]
        match = identify.names_match(promql.names(mapping), select)
        there, warnings = await client.series(match, start, end)
        _refuse_partial(warnings)
        made = promql.queries(mapping, identify.shown_names(there), found.by)
        queries[engine] = made | {str(name): own for name, own in spec.queries.items()}
    found = await _with_gpus(client, found, start, end)
    return Asked(found, queries, LEAST_WINDOW)


async def history(
    client: PrometheusClient, asked: Asked, grid: Grid, told: Tell
) -> tuple[History, Asked]:
    """Return the history of the instances that were found, and the queries with the window used.

    Raises:
        PrometheusError: the server cannot be used, or the engines do not tell what is needed.

    """
    window = max(LEAST_WINDOW, grid.step)
    parts = spans(grid.start, grid.points, grid.step, len(asked.found.instances))
    total = sum(len(made) for made in asked.queries.values()) * len(parts)
    answers: dict[str, list[Matrix]] = {}
    done = 0
    for made in asked.queries.values():
        for signal, query in made.items():
            filled = promql.fill(query, asked.found.select, window)
            for start, end in parts:
                answers.setdefault(signal, []).append(
                    await client.range(filled, start, end, grid.step)
                )
                done += 1
                told(done, total)
    found = fold(grid, asked.found.instances, answers, asked.found.by)
    _require(found, asked)
    return found, Asked(asked.found, asked.queries, window)


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
