"""``heteroscale advise``: reads a Prometheus, plays the policy over it, and tells."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console

from heteroscale.documents import DocumentError, write_document
from heteroscale_advisor import ask, text
from heteroscale_advisor.arguments import STDOUT, Options, options
from heteroscale_advisor.files import UsageError
from heteroscale_advisor.findings import Findings
from heteroscale_advisor.history import Grid, History
from heteroscale_advisor.page import page
from heteroscale_advisor.policy import ALONE, PAIR, plain_name
from heteroscale_advisor.replay import replay
from heteroscale_coordinator.core.spec.source import FindingSpec
from heteroscale_coordinator.edge.prometheus import identify, promql
from heteroscale_coordinator.edge.prometheus.answers import PrometheusError
from heteroscale_coordinator.edge.prometheus.client import PrometheusClient
from heteroscale_simulator.command.progress import Watch, watch
from heteroscale_simulator.report.files import Batch, UnwritableError, check_file

EXIT_UNUSABLE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
_NAMED = 6
"""Instances named in one complaint."""


def run(argv: Sequence[str]) -> int:
    """Run ``heteroscale advise ARGV…`` and return the exit code."""
    return execute(argv, sys.stdout, Console(stderr=True), time.time(), os.environ)


def execute(
    argv: Sequence[str], out: TextIO, console: Console, now: float, environment: Mapping[str, str]
) -> int:
    """Run a command line at ``now``; ``console`` is standard error."""
    try:
        asked = options(argv, now)
        for name, path in (
            ("--html", asked.html),
            ("--json", asked.json),
            ("--write", asked.write),
        ):
            if path is not None and path != STDOUT:
                check_file(path, name)
        with watch(quiet=asked.quiet, wanted=not asked.quiet, console=console) as told:
            found = asyncio.run(_read(asked, told, environment))
            if isinstance(found, ask.Asked):
                out.write(plain("\n".join(_queries(found, asked)) + "\n"))
                return 0
            queries, history = found
            _require_roles(queries)
            played = replay(history, asked.wishes, told.stage("playing the policy over it"))
        _deliver(Findings(asked.wishes, queries, history, played), asked, out, console)
    except (DocumentError, UsageError, UnwritableError) as error:
        console.file.write(f"{_told(error)}\n")
        return EXIT_USAGE
    except (PrometheusError, ValueError, OSError) as error:
        console.file.write(f"{_told(error)}\n")
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        console.file.write("interrupted: nothing was written\n")
        return EXIT_INTERRUPTED
    return 0


def _told(error: Exception) -> str:
    return plain(str(error) if isinstance(error, DocumentError) else f"error: {error}")


def plain(said: str) -> str:
    """Return what strangers may have written (labels, a server's answer) without control signs."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in said)


async def _read(
    asked: Options, told: Watch, environment: Mapping[str, str]
) -> ask.Asked | tuple[ask.Asked, History]:
    wishes = asked.wishes
    points = round(wishes.since / wishes.step)
    grid = Grid(wishes.end - (points - 1) * wishes.step, wishes.step, points)
    async with PrometheusClient(wishes.prometheus, environment) as client:
        told.stage("looking for the service")
        found = await ask.find(client, wishes.service, wishes.prometheus, grid.start, wishes.end)
        if wishes.aggregated:
            found = found.all_in_one()
        if asked.show_queries:
            return found
        _require_roles(found)
        history, queries = await ask.history(client, found, grid, told.stage("reading its history"))
        return queries, history


def _require_roles(asked: ask.Asked) -> None:
    """Refuse what is neither a pair of roles nor one for all, in words that say what to write."""
    instances = asked.found.instances
    unknown = [one.name for one in instances if one.role is None]
    have = {one.role for one in instances if one.role is not None}
    if not unknown and have in (set(PAIR), set(ALONE)):
        return
    labels = sorted({label for one in instances for label in one.labels} - {"__name__"})
    listed = ", ".join(unknown[:_NAMED]) + (" …" if len(unknown) > _NAMED else "")
    what = (
        f"no label says the role of {listed}"
        if unknown
        else f"there is {', '.join(sorted(have))} alone"
    )
    raise PrometheusError(
        f"{what}. Say which are which: --prefill 'pod=~\"x-prefill-.*\"' --decode "
        f"'pod=~\"x-decode-.*\"'; their labels are {', '.join(labels)}. Where every instance does "
        "both: --aggregated"
    )


def _queries(found: ask.Asked, asked: Options) -> list[str]:
    lines = [f"# {len(found.found.instances)} instances by label {found.found.by!r}"]
    lines += [
        f"# {one.name}: {one.engine}, {one.role.value if one.role else 'role unknown'}"
        for one in found.found.instances
    ]
    window = max(found.window, asked.wishes.step)
    lines.append(f"# found by {identify.presence_match(found.found.select)}")
    for engine, made in found.queries.items():
        lines.append(f"# {engine}")
        lines += promql.shown_queries(made, found.found.select, window)
    return lines


def _deliver(found: Findings, asked: Options, out: TextIO, console: Console) -> None:
    """Write what was asked for, all of it or none; then tell."""
    with Batch() as batch:
        if asked.json is not None and asked.json != STDOUT:
            batch.write(asked.json, [text.as_json(found)])
        if asked.html is not None:
            batch.write(asked.html, page(found))
        if asked.write is not None:
            batch.write(asked.write, [service_document(found)])
    if asked.json == STDOUT:
        out.write(text.as_json(found))
    elif not asked.quiet:
        out.write(plain("\n".join(text.lines(found)) + "\n"))
    if not asked.quiet:
        target = console.file if asked.json == STDOUT else out
        for name, path in (("page", asked.html), ("service", asked.write)):
            if path is not None:
                target.write(f"{name}: {path}\n")


def service_document(found: Findings) -> str:
    """Return the service as it was played; one of our making is ready for a coordinator that watches."""
    wishes, spec = found.wishes, found.replay.spec
    if wishes.spec is not None:
        spec = spec.model_copy(update={"actuation": wishes.spec.actuation})
    written = {**spec.document(), "advisory": True}
    note = (
        "# As `heteroscale advise` played it. Advisory: each decision is explained, none is sent.\n"
    )
    if wishes.spec is None:
        finding = wishes.prometheus.model_dump(
            include=set(FindingSpec.model_fields), exclude_unset=True, by_alias=True, mode="json"
        )
        select = found.asked.found.select
        written["signals"] = {**finding, "source": "prometheus", "select": select}
        written["actuation"] = {"by": "external"}
        note += (
            f"# Look live: heteroscale coordinator --prometheus {wishes.prometheus.url} "
            "--data-dir ./state\n"
        )
    document = {
        "apiVersion": "heteroscale/v1",
        "kind": "Service",
        "metadata": {"name": plain_name(wishes.service)},
        "spec": written,
    }
    return note + write_document(document)
