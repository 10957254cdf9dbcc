"""Slurm jobs on this node that say what they serve, in their comment or their name.

    sbatch --comment "heteroscale:service=chat,role=decode,port=8000,engine=vllm" …

Several engines in one job are several such words, separated by blanks. ``squeue`` is read in either of
its forms: text with a separator that no name has, or JSON, old (a state is a text) and new (a list).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from heteroscale_agent.discovery.sighting import (
    Sighting,
    engine_of,
    path_of,
    port_of,
    role_of,
    service_of,
)
from heteroscale_agent.probes.hostlist import contains
from heteroscale_agent.probes.source import SourceError, run

MARK = "heteroscale:"
_SEPARATOR = "\x1f"
_FIELDS = _SEPARATOR.join(("%A", "%T", "%N", "%j", "%k"))
_RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED"})
_LEAVING = frozenset({"COMPLETING"})
_INDICES = re.compile(r"gpu[^(]*\(IDX:([0-9,-]+)\)")
MAX_OUTPUT = 8 * 1024 * 1024


def ask(node: str, form: str, deadline: float) -> list[Sighting]:
    """Return the engines among the jobs on ``node``; blocks. Raises SourceError."""
    command = ["squeue", "-w", node]
    if form == "json":
        return list(from_json(run([*command, "--json"], deadline, MAX_OUTPUT), node))
    return list(from_text(run([*command, "-h", "-o", _FIELDS], deadline, MAX_OUTPUT), node))


def from_text(text: str, node: str) -> Iterator[Sighting]:
    """Read what ``squeue -h -o`` prints."""
    for line in text.splitlines():
        fields = line.split(_SEPARATOR)
        if len(fields) == _FIELDS.count(_SEPARATOR) + 1:
            job, state, _, name, comment = (field.strip() for field in fields)
            yield from _engines(job, state, (comment, name), None, node)


def from_json(text: str, node: str) -> Iterator[Sighting]:
    """Read what ``squeue --json`` prints, of any version.

    Raises:
        SourceError: it is no such text.

    """
    try:
        jobs = json.loads(text)["jobs"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise SourceError("squeue --json prints no jobs") from error
    for job in jobs if isinstance(jobs, list) else ():
        if not isinstance(job, dict):
            continue
        state = job.get("job_state")
        state = state[0] if isinstance(state, list) and state else state
        comment = job.get("comment")
        comment = comment.get("job") if isinstance(comment, dict) else comment
        said = (str(comment or ""), str(job.get("name") or ""))
        yield from _engines(str(job.get("job_id")), str(state), said, _gpus(job, node), node)


def _engines(
    job: str, state: str, said: Iterable[str], gpus: tuple[int, ...] | None, node: str
) -> Iterator[Sighting]:
    if state not in _RUNNING or not job.isdecimal():
        return
    marked = next((text for text in said if MARK in text), "")
    words = [word.removeprefix(MARK) for word in marked.split() if word.startswith(MARK)]
    for word in words:
        told = dict(part.partition("=")[::2] for part in word.strip("\"'").split(","))
        service = service_of(told.get("service", ""))
        if not service or not contains(told.get("node", node), node):
            continue
        yield Sighting(
            owner=f"job:{job}",
            origin=f"job/{job}",
            host=told.get("host", ""),
            port=port_of(told.get("port", "")),
            service=service,
            role=role_of(told.get("role", "")),
            engine=engine_of(told.get("engine", "")),
            metrics_path=path_of(told.get("metrics", "")),
            # A job of several engines is not all of one engine's.
            gpus=gpus if len(words) == 1 else None,
            leaving=state in _LEAVING,
        )


def _gpus(job: Mapping[str, Any], node: str) -> tuple[int, ...] | None:
    """Return the GPUs that Slurm gave the job on this node, where it ran on one node only."""
    details = job.get("gres_detail")
    nodes = job.get("nodes")
    if not isinstance(details, list) or len(details) != 1 or nodes != node:
        return None
    match = _INDICES.search(str(details[0]))
    if match is None:
        return None
    found: list[int] = []
    for part in match.group(1).split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found += range(int(first), min(int(last or first), int(first) + 1000) + 1)
    return tuple(found)
