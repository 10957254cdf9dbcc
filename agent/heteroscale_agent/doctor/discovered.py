"""Engines that nobody configured: who is seen here, and which of them the agent will watch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from heteroscale_agent.discovery.merge import merge, place, served
from heteroscale_agent.discovery.procs import ProcessScan, addresses
from heteroscale_agent.discovery.sighting import Sighting, ruled
from heteroscale_agent.discovery.sources import Source, job_source, pod_source
from heteroscale_agent.doctor.finding import Case, Finding, note, ok, problem
from heteroscale_agent.probes.source import SourceError

_SHARE = 0.8
"""The part of the doctor's time that sources may take; the rest is for saying what came of it."""


def look(case: Case) -> Iterator[Finding]:
    """Yield each source that fails, and each engine with its service, or what it lacks."""
    sources = [pod_source(case.spec, case.environ, _nothing)]
    sources += [job_source(case.spec, case.environ, _nothing)]
    asked = [source for source in sources if source is not None]
    seen, troubles = asyncio.run(_ask(asked, case.deadline * _SHARE))
    yield from troubles
    seen += ProcessScan(case.proc).look({}).engines
    here = {"localhost", case.spec.advertise_host, *addresses(case.proc)}
    configured = {served(engine.endpoint, here) for engine in case.spec.engines}
    others = [o for o in merge(seen, here) if place(o.host, o.port, here) not in configured]
    for one in others:
        yield _engine(case, one)
    if not others and (asked or case.spec.discovery.processes is not None):
        yield ok("discovery", "no engine here but those of the configuration")


async def _ask(
    sources: Sequence[Source[list[Sighting]]], deadline: float
) -> tuple[list[Sighting], list[Finding]]:
    answers = await asyncio.gather(
        *(asyncio.wait_for(source.ask(), deadline) for source in sources), return_exceptions=True
    )
    seen: list[Sighting] = []
    troubles: list[Finding] = []
    for source, answer in zip(sources, answers, strict=True):
        source.close()
        if isinstance(answer, BaseException):
            troubles.append(problem(f"discovery by {source.name}", _said(answer), _TODO))
        else:
            seen += answer
    return seen, troubles


_TODO = "mend it, or leave it out of `discovery`; the agent keeps what it knew and asks again"


def _said(error: Any) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) if isinstance(error, SourceError) else repr(error)


def _engine(case: Case, one: Sighting) -> Finding:
    check, kind = one.origin, one.engine or "engine"
    at = f" at port {one.port}" if one.port else ""
    wanted = case.spec.discovery
    looked_for = one.origin.startswith(("pod/", "job/")) or wanted.processes is not None
    if not looked_for:
        todo = "`discovery: {processes: {}}` watches such engines; or name it under `engines`"
        return note(check, f"{kind}{at} runs here, and nobody watches it", todo)
    if one.told_as:
        return ok(check, f"{kind}{at}, measured only: an adapter tells of it as {one.told_as}")
    service = one.service or ruled(wanted.services, one.model)
    if not service:
        model = f"model {one.model}" if one.model else "no model"
        todo = "add a rule to `discovery.services`, or label it"
        return note(check, f"{kind}{at} names no service ({model})", todo)
    role = f" as {one.role}" if one.role is not None else ""
    return ok(check, f"{kind}{at}, watched for service {service}{role}")


def _nothing() -> None:
    """Take no note of news: each source is asked once."""
