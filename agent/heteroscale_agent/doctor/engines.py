"""Engines of the configuration: do they answer, are they what they are said to be, what do they tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import fields

from heteroscale_agent.config import StaticEngine
from heteroscale_agent.doctor.finding import Case, Finding, Look, note, ok, problem
from heteroscale_agent.exchange import ExchangeError, exchange
from heteroscale_agent.experimental import notes
from heteroscale_agent.model import EngineScrape
from heteroscale_agent.probes.engines import MAPPINGS
from heteroscale_agent.probes.engines.base import read
from heteroscale_agent.probes.engines.text import MetricsTextError
from heteroscale_agent.probes.http import ContentError, FetchError, get_text

_READINESS = "/health"
_OK = 200
_SMALL = 64 * 1024
MAX_LOOKS = 64
"""Threads for engines; what is listed beyond is not looked at."""


def looks(case: Case) -> Iterator[Look]:
    """Yield one look for each engine, so that one that hangs hides no other."""
    for engine in case.spec.engines[:MAX_LOOKS]:
        yield Look("engines", f"engine {engine.instance_id}", _look_at(engine))


def unproven(case: Case) -> Iterator[Finding]:
    """Yield what the document uses that was never seen to work on a real release."""
    for sentence in notes(case.spec):
        yield note("experimental", sentence, "compare its readings with the engine's own page")


def _look_at(engine: StaticEngine) -> Callable[[Case], Iterator[Finding]]:
    return lambda case: _engine(case, engine)


def _engine(case: Case, engine: StaticEngine) -> Iterator[Finding]:
    check, base = f"engine {engine.instance_id}", engine.endpoint.rstrip("/")
    url = base + engine.metrics_path
    try:
        text = asyncio.run(get_text(url, deadline=case.deadline))
    except ContentError as error:
        yield problem(
            check, f"{url}: {error}", "mend `metricsPath`, or let the engine show metrics"
        )
        return
    except FetchError as error:
        yield problem(
            check, f"{url}: {error}", "start it, or mend `endpoint`; until then it is stale"
        )
        return
    yield _metrics(check, engine, text)
    yield from _readiness(check, base, case.deadline)


def _metrics(check: str, engine: StaticEngine, text: str) -> Finding:
    kind = engine.engine
    try:
        scrape = read(MAPPINGS[kind], text, engine.model_name)
    except MetricsTextError as error:
        others = [name for name in MAPPINGS if name != kind and _speaks(name, text)]
        if others:
            return problem(
                check,
                f"is said to be {kind}, and shows metrics of {others[0]}",
                f"`engine: {others[0]}`",
            )
        todo = "mend `metricsPath` or `engine`; vLLM and SGLang show them with metrics enabled"
        return problem(check, f"answers, but {error}", todo)
    model = f", model {engine.model_name}" if engine.model_name else ""
    unknown = [f.name for f in fields(EngineScrape) if getattr(scrape, f.name) is None]
    if unknown:
        todo = "mend `modelName`" if model and len(unknown) == len(fields(EngineScrape)) else ""
        said = f"{kind}{model}; does not tell {', '.join(unknown)}"
        return note(check, said, todo or "unknown to policies, never zero")
    return ok(check, f"{kind}{model}, tells everything")


def _speaks(name: str, text: str) -> bool:
    try:
        read(MAPPINGS[name], text)
    except MetricsTextError:
        return False
    return True


def _readiness(check: str, base: str, deadline: float) -> Iterator[Finding]:
    url = base + _READINESS
    try:
        status, _ = asyncio.run(exchange("GET", url, deadline=deadline, limit=_SMALL))
    except ExchangeError as error:
        yield note(check, f"{url}: {error}", "it shows metrics, and may not be ready")
        return
    if status != _OK:
        yield note(check, f"{url} answers {status}", "it may not be ready")
