"""Routers: those of the journal's instances, since only commands name them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from heteroscale_agent.doctor.finding import Case, Finding, note, ok, problem
from heteroscale_agent.exchange import ExchangeError, exchange
from heteroscale_agent.hands.http import MAX_BODY_BYTES
from heteroscale_agent.instances import Record, load_record
from heteroscale_agent.journal import JournalError, peek

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


def gate_folder(case: Case) -> Iterator[Finding]:
    """Yield whether `file` gates can be written, where they are set apart."""
    folder = case.spec.gate_dir
    if folder is None:
        return
    if not folder.is_dir():
        yield note("gateDir", f"{folder} does not exist", "the first `file` gate makes it")
    elif os.access(folder, os.W_OK | os.X_OK):
        yield ok("gateDir", f"{folder} can be written")
    else:
        yield problem("gateDir", f"{folder} cannot be written by us", "chown it, or mend `gateDir`")


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
