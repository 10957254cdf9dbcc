"""One look: everything a Prometheus tells of a service at one moment of the server's own clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from heteroscale.engines import MAPPINGS
from heteroscale_coordinator.core.spec.source import FindingSpec
from heteroscale_coordinator.edge.prometheus import gpus, identify, promql
from heteroscale_coordinator.edge.prometheus.answers import PrometheusError, Vector
from heteroscale_coordinator.edge.prometheus.identify import Found, Seen

WINDOW = 60.0
"""Seconds that ``$window`` is in queries of one's own."""
LEARN_AGAIN = 60.0
"""Seconds after which it is asked anew which metrics there are, and which GPUs pods have."""


class Asks(Protocol):
    """What is asked: a Prometheus, by whatever client."""

    async def instant(self, query: str, at: float | None = None) -> Vector:
        """Return what a query gives at a moment. PrometheusError: no usable answer."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen. Instances are named by the value of the label ``found.by``."""

    at: float
    """The moment, in seconds since 1970 by the server's clock."""
    found: Found
    ages: Mapping[str, float]
    """By instance: seconds since its newest sample. Who has none is not there."""
    values: Mapping[str, Mapping[str, float]]
    """By signal and instance; what is unknown is missing."""
    rates: frozenset[str] = frozenset()
    """Signals that are a rise per second, where they are of a query of one's own."""
    scraped: Mapping[str, float] = field(default_factory=dict)
    """Of instances that were asked about and are not there: 0, if they are scraped in vain."""


class Looker:
    """Looks at one service. What seldom changes is learned once in a while."""

    def __init__(self, asks: Asks, service: str, finding: FindingSpec) -> None:
        self._asks, self._service, self._finding = asks, service, finding
        self._select = finding.select
        self._learned_at = float("-inf")
        self._engines: tuple[str, ...] = ()
        self._gpus: Mapping[str, str] = {}
        self._pods: frozenset[str] = frozenset()
        self.queries: Mapping[str, Mapping[str, str]] = {}
        """By engine, by signal, as they are asked."""

    async def look(self, missed: Iterable[str] = ()) -> Look:
        """Return what is there now; ``missed`` are instances to be asked about if they are not.

        Raises:
            PrometheusError: the server cannot be used, what it tells is not all, or the service cannot
                be told from others. Nothing is known then.

        """
        present = await self._ask(identify.presence_match(self._select))
        if present.at is None:
            if not self._select:
                raise PrometheusError(identify.nothing_there())
            # Whether it is empty or just begins: its own clock tells that it answers.
            clock = (await self._ask("vector(time())")).at
            empty = Found(self._select, "", ())
            return Look(clock or 0.0, empty, {}, {})
        seen = [labels for labels, _ in present.rows]
        self._select = self._select or identify.choose(self._service, self._finding, seen)
        found = identify.identify(self._finding, self._select, seen, live=True)
        await self._learn(found, present.at)
        found = replace(found, instances=tuple(map(self._with_gpu, found.instances)))
        ages, values = await self._values(found, present.at)
        lost = sorted(set(missed) - ages.keys())
        scraped = await self._scraped(found.by, lost, present.at) if lost and found.by else {}
        rates = promql.rates() & self._finding.queries.keys()
        return Look(present.at, found, ages, values, frozenset(rates), scraped)

    async def _ask(self, query: str, at: float | None = None) -> Vector:
        answer = await self._asks.instant(query, at)
        if answer.warnings:
            raise PrometheusError(f"the answer is not all: {'; '.join(answer.warnings)[:500]}")
        return answer

    async def _learn(self, found: Found, at: float) -> None:
        """Learn which metrics there are; anew when there are other engines, or after a while."""
        engines = tuple(sorted({one.engine for one in found.instances}))
        if engines == self._engines and 0 <= at - self._learned_at < LEARN_AGAIN:
            return
        made: dict[str, Mapping[str, str]] = {}
        own = {str(name): query for name, query in self._finding.queries.items()}
        for engine in engines:
            mapping = MAPPINGS[engine]
            match = identify.names_match(promql.names(mapping), self._select)
            told = await self._ask(f"count by (__name__) ({match})", at)
            shown = identify.shown_names(labels for labels, _ in told.rows)
            ours = promql.queries(mapping, shown, found.by, newest=True)
            asked = {"age": promql.ages(mapping, shown, found.by), **ours, **own}
            made[engine] = {
                name: promql.fill(query, self._select, WINDOW)
                for name, query in asked.items()
                if query
            }
        await self._learn_gpus(found, at)
        self.queries, self._engines, self._learned_at = made, engines, at

    async def _learn_gpus(self, found: Found, at: float) -> None:
        pods = [one.name for one in found.instances] if found.by == "pod" else []
        told = [await self._asks.instant(match, at) for match in gpus.matches(pods)]
        rows = (labels for one in told if not one.warnings for labels, _ in one.rows)
        self._gpus = {pod: known.gpu_type for pod, known in gpus.by_pod(rows).items()}

    def _with_gpu(self, one: Seen) -> Seen:
        return replace(one, gpu_type=one.gpu_type or self._gpus.get(one.name, ""))

    async def _values(
        self, found: Found, at: float
    ) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """Ask all queries at the one moment; equal ones of several engines once."""
        asked = {(n, q) for made in self.queries.values() for n, q in made.items()}
        ordered = sorted(asked)
        answers = await asyncio.gather(*(self._ask(query, at) for _, query in ordered))
        values: dict[str, dict[str, float]] = {}
        for (name, query), answer in zip(ordered, answers, strict=True):
            mine = values.setdefault(name, {})
            for labels, value in answer.rows:
                if found.by not in labels:
                    raise PrometheusError(
                        f"{name}: its answer has no label {found.by!r}, which tells instances apart: "
                        f"{query[:200]}"
                    )
                mine[labels[found.by]] = value
        return values.pop("age", {}), values

    async def _scraped(self, by: str, names: list[str], at: float) -> dict[str, float]:
        answer = await self._ask(promql.scraped(by, names), at)
        return {labels[by]: value for labels, value in answer.rows if by in labels}
