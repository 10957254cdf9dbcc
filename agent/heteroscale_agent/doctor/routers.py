"""Routers: those of the journal's instances, since only commands name them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from pydantic import ValidationError

from heteroscale_agent.config.routers import Router
from heteroscale_agent.doctor.finding import Case, Finding, note, ok, problem
from heteroscale_agent.exchange import ExchangeError, exchange
from heteroscale_agent.hands.http import MAX_BODY_BYTES
from heteroscale_agent.instances import Record, load_record
from heteroscale_agent.journal import JournalError, peek
from heteroscale_agent.probes.engines.text import MetricsTextError
from heteroscale_agent.probes.http import FetchError, get_text
from heteroscale_agent.probes.routers import ROUTERS
from heteroscale_agent.probes.routers.base import read

MAX_ROUTERS = 32


def look(case: Case) -> Iterator[Finding]:
    """Yield whether each router that instances here are gated by answers at all."""
    urls = sorted({url for record in records(case) for url in record.launch.gate.routers})
    if not urls:
        yield note(
            "routers",
            "none known here: a launch names those of its service",
            "to try one: curl ROUTER/workers from this host",
        )
        return
    yield from asyncio.run(_ask(urls[:MAX_ROUTERS], case.deadline))


async def _ask(urls: list[str], deadline: float) -> list[Finding]:
    return list(await asyncio.gather(*(_one(url, deadline) for url in urls)))


async def _one(url: str, deadline: float) -> Finding:
    try:
        status, _ = await exchange("GET", url, deadline=deadline, limit=MAX_BODY_BYTES)
    except ExchangeError as error:
        todo = "no drain goes on while it is silent: start it, or mend the way to it"
        return problem(url, f"does not answer: {error}", todo)
    return ok(url, f"answers ({status})")


def watched(case: Case) -> Iterator[Finding]:
    """Yield whether each router of the document shows the metrics that it should."""
    yield from asyncio.run(_pages(case.spec.routers[:MAX_ROUTERS], case.deadline))


async def _pages(listed: Sequence[Router], deadline: float) -> list[Finding]:
    return list(await asyncio.gather(*(_page(router, deadline) for router in listed)))


async def _page(router: Router, deadline: float) -> Finding:
    check = f"router {router.name}"
    try:
        text = await get_text(router.metrics_url, deadline=deadline)
        scrape = read(ROUTERS[router.kind], text, router.model_name)
    except FetchError as error:
        todo = "mend `url` or `metricsPath`; what users feel stays unknown until then"
        return problem(check, f"{router.metrics_url}: {error}", todo)
    except MetricsTextError as error:
        return problem(check, f"{router.metrics_url}: {error}", "mend `kind` or `modelName`")
    unknown = [f.name for f in fields(scrape) if getattr(scrape, f.name) is None]
    if unknown:
        said = f"{router.kind}; does not tell {', '.join(unknown)}"
        return note(check, said, "until it has served a request, many tell nothing")
    return ok(check, f"{router.kind}, tells everything")


def records(case: Case) -> list[Record]:
    """Return the live instances of the journal that can be read; none when it cannot."""
    try:
        ledger, _ = peek(Path(case.spec.state_dir))
    except (OSError, JournalError):
        return []
    found: list[Record] = []
    for data in ledger.records.values():
        try:
            record = load_record(data)
        except ValidationError:
            continue
        if not record.ended:
            found.append(record)
    return found
