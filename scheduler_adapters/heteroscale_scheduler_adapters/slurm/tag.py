"""What is written on a job of ours, in its comment: enough to know it again, by us and by administrators.

    heteroscale:{"instance":"i-3f2a","service":"chat","role":"decode","request":"r-77","of":2, …}

Jobs of others may carry ``heteroscale:service=chat,role=decode,port=8000``: then they are shown as
instances of that service, and never touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from heteroscale_scheduler_adapters.slurm.records import JobRecord

MARK = "heteroscale:"
LONGEST = 1024
"""Bytes of a comment that slurmctld takes."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A job of ours: one instance."""

    instance: str
    service: str
    role: str
    template: str
    request: str
    """The step that it belongs to."""
    of: int = 1
    """How many jobs that step has."""
    decision: str = ""
    ranks: int = 1
    gpus: int = 0
    """Of each rank."""
    group: str = ""
    order: str = ""
    """Its nodes, rank 0 first; empty: as Slurm lists them."""
    cluster: str = ""
    """The adapter's name: of two that share a Slurm cluster (two partitions) each has its own jobs."""
    stop: float = 0.0
    """Told to end, and cancelled at this time at the latest (seconds since 1970); 0: it was not told."""

    def stopped(self, at: float) -> Tag:
        """Return the same, told to end."""
        return replace(self, stop=round(at, 3))


def write(tag: Tag) -> str:
    """Return a comment.

    Raises:
        ValueError: it would be longer than Slurm takes.

    """
    said = {key: value for key, value in asdict(tag).items() if value}
    text = MARK + json.dumps(said, separators=(",", ":"))
    if len(text.encode()) > LONGEST:
        raise ValueError(f"a comment of {len(text.encode())} bytes; Slurm takes {LONGEST}")
    return text


def read(comments: Iterable[str]) -> Tag | None:
    """Return the tag of a job of ours; None: it has none."""
    for text in comments:
        if not text.startswith(MARK + "{"):
            continue
        try:
            told = json.loads(text.removeprefix(MARK))
        except (ValueError, RecursionError):
            continue
        if isinstance(told, dict) and (tag := _tag(told)):
            return tag
    return None


def foreign(comments: Iterable[str]) -> dict[str, str]:
    """Return what a job of others says that it serves: ``service``, ``role``, ``port`` …; or nothing."""
    for text in comments:
        word = next((w for w in text.split() if w.startswith(f"{MARK}service=")), "")
        if word:
            parts = (part.partition("=") for part in word.removeprefix(MARK).split(","))
            return {key: value for key, _, value in parts}
    return {}


def ours(job: JobRecord, user: str, cluster: str) -> Tag | None:
    """Return the tag of a job that is ours to command: ``cluster`` is in it, ``user`` submitted it."""
    one = read(job.comments) if job.user == user else None
    return one if one and one.cluster in ("", cluster) else None


def _tag(told: dict[str, Any]) -> Tag | None:
    values: dict[str, Any] = {}
    for key, default in _DEFAULTS.items():
        value = told.get(key, default)
        if isinstance(default, float) and isinstance(value, int):
            value = float(value)
        if type(value) is not type(default):
            return None
        values[key] = value
    tag = Tag(**values)
    return tag if tag.instance and tag.request else None


_DEFAULTS = asdict(Tag("", "", "", "", ""))
