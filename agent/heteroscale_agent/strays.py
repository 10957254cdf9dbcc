"""Engines that run though the journal does not tell of them: it was lost, or cannot be read.

Each engine carries its launch in its own environment, as a record. So it is adopted whole: it is
probed, let into its routers, and can be drained. What it went through since its launch is lost; like
anything a lease kept out, it goes back into service. Where the environment does not say enough, the
engine is a fact that nobody commands: it holds its GPUs until it ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from heteroscale.words import InstanceState, Role
from heteroscale_agent.hands.process import Found
from heteroscale_agent.instances import Record, dump_record, load_record
from heteroscale_agent.model import Launch

RECORD = "HETEROSCALE_RECORD"
SERVICE = "HETEROSCALE_SERVICE"
ROLE = "HETEROSCALE_ROLE"
GPUS = "HETEROSCALE_GPUS"
"""Our indices; what CUDA is told may be uuids."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
STRAY_ORIGIN = "stray"
"""Origin of an engine that is this agent's, but cannot be commanded."""

_INDICES = re.compile(r"[0-9]{1,4}(,[0-9]{1,4})*")


def carried(record: Record) -> dict[str, str]:
    """Return what the engine of ``record`` carries in its environment."""
    launch = record.launch
    return {
        SERVICE: launch.service,
        ROLE: launch.role.value,
        GPUS: ",".join(str(gpu) for gpu in launch.gpu_indices),
        RECORD: json.dumps(dump_record(record), separators=(",", ":")),
    }


def record_of(found: Found, now: float, boot_id: str) -> Record:
    """Return the record of an engine that only its environment tells of."""
    try:
        told = load_record(json.loads(found.environ.get(RECORD, "")))
    except (ValueError, RecursionError):
        return _held(found, now, boot_id, "carries no launch that can be read")
    if told.instance_id != found.instance_id:
        return _held(found, now, boot_id, f"carries the launch of {told.instance_id[:140]!r}")
    return replace(
        told,
        # Whether it was held once is lost, and it may serve already.
        launch=replace(told.launch, ratio_hold=None),
        state=InstanceState.LAUNCHING,
        since_at=now,
        launched_at=now,
        # Above any it can have had: nothing changes a thousand times in a second.
        generation=told.generation + int(1000 * max(0.0, now - told.launched_at)),
        pid=found.ident.pid,
        start_ticks=found.ident.start_ticks,
        boot_id=boot_id,
        recovered=True,
        adopted=True,
        cause="",
        message="runs, but the journal does not know it; adopted from its environment",
    )


def _held(found: Found, now: float, boot_id: str, why: str) -> Record:
    return Record(
        instance_id=found.instance_id,
        launch=Launch(
            service=_service(found.environ),
            role=_role(found.environ),
            template="",
            gpu_indices=_gpus(found.environ),
        ),
        state=InstanceState.UNKNOWN,
        since_at=now,
        launched_at=now,
        origin=STRAY_ORIGIN,
        pid=found.ident.pid,
        start_ticks=found.ident.start_ticks,
        boot_id=boot_id,
        adopted=True,
        message=f"pid {found.ident.pid} {why}; it holds its GPUs until it ends: stop it by hand",
    )


def _service(environ: Mapping[str, str]) -> str:
    text = environ.get(SERVICE, "")
    return text if text.isascii() else ""


def _role(environ: Mapping[str, str]) -> Role:
    with suppress(ValueError):
        return Role(environ.get(ROLE, ""))
    return Role.AGGREGATED


def _gpus(environ: Mapping[str, str]) -> tuple[int, ...]:
    """Return the GPUs it was given; none when that cannot be read."""
    # Engines from before there was a tag for it carry the indices where CUDA looks for them.
    text = environ.get(GPUS, environ.get(VISIBLE, ""))
    return tuple(map(int, text.split(","))) if _INDICES.fullmatch(text) else ()
