"""Which GPUs a process was given, by what stands in its environment.

A device plugin names GPUs by uuid in NVIDIA_VISIBLE_DEVICES; Slurm lists a job's by index; and
CUDA_VISIBLE_DEVICES narrows either down, counted from 0 within what it can see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_INDEX = re.compile(r"[0-9]{1,4}")
_NONE = frozenset({"void", "none", "-1", "nodevfiles"})


def held(environ: Mapping[str, str], uuids: Mapping[str, int]) -> tuple[int, ...] | None:
    """Return GPU indices, or None when the environment does not tell. ``uuids``: index by uuid."""
    given = _first(environ, uuids, "SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "NVIDIA_VISIBLE_DEVICES")
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return given
    chosen = _listed(visible, uuids)
    if chosen is None or given is None or not _counted(visible):
        return given if chosen is None else chosen
    if set(chosen) <= set(given):
        return chosen
    if all(place < len(given) for place in chosen):
        return tuple(given[place] for place in chosen)
    return given


def _first(
    environ: Mapping[str, str], uuids: Mapping[str, int], *names: str
) -> tuple[int, ...] | None:
    for name in names:
        # `all` says nothing: images of CUDA have it by default.
        if (listed := _listed(environ.get(name, "all"), uuids)) is not None:
            return listed
    return None


def _counted(text: str) -> bool:
    return all(_INDEX.fullmatch(part.strip()) for part in text.split(","))


def _listed(text: str, uuids: Mapping[str, int]) -> tuple[int, ...] | None:
    """Return indices of a list of indices or uuids; None: it is neither, or a uuid is not known."""
    if not text.strip() or text.strip().lower() in _NONE:
        return ()
    found: list[int] = []
    for part in (part.strip() for part in text.split(",")):
        if _INDEX.fullmatch(part):
            found.append(int(part))
            continue
        fitting = [index for uuid, index in uuids.items() if part and uuid.startswith(part)]
        if len(fitting) != 1:
            return None
        found += fitting
    return tuple(dict.fromkeys(found))
