"""Which GPU has which index: kept while GPUs come and go, and over the agent's own restarts.

A launch, a journal and a coordinator's placement all speak of a GPU by its index. So an index never
moves to another GPU while something may hold it: a GPU that is lost keeps its seat, a new one takes
the lowest free. Seats are on disk, for after a restart the driver may count otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from heteroscale_agent.model import Gpu

log = structlog.get_logger(__name__)

_KEPT = (
    *("index", "uuid", "name", "type", "memory_bytes", "pci_address", "numa_node", "vendor"),
    *("partition", "parent_uuid", "nvlink_group"),
)
_MAX_FILE = 1 << 20


@dataclass(slots=True)
class Seat:
    """A GPU in its place."""

    gpu: Gpu
    number: int
    """The driver's own, when it was last listed."""
    place: int | None = None
    """In the driver's list; None: it is not in it."""
    answers: bool = False
    recalled: bool = False
    """Known from before the agent's start alone."""


class Seats:
    """The seats of one host; `file` keeps them, None: they live as long as the agent."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._seats = [Seat(gpu, gpu.index, recalled=True) for gpu in _recall(file)]
        self._written: list[dict[str, Any]] = []

    def seat(self, listed: Sequence[Gpu], held: Collection[int] | None) -> list[Seat]:
        """Return the seats by index, given what the driver lists now and which indices are held.

        `held` None: not known yet, so nothing is given up. When CUDA's own numbers are not our
        indices, every GPU is to be named by its uuid (`Gpu.visible`).
        """
        waiting = dict(enumerate(listed))
        for seat in self._seats:
            seat.place, seat.answers = None, False
        for same in (_same, _same_place):
            for seat in self._seats:
                if seat.place is None:
                    found = next((p for p, gpu in waiting.items() if same(seat, gpu)), None)
                    if found is not None:
                        _take(seat, waiting.pop(found), found)
        before = {seat.gpu.index for seat in self._seats}
        addresses = {gpu.pci_address for gpu in listed if gpu.pci_address}
        self._seats = [
            seat
            for seat in self._seats
            if seat.place is not None
            or held is None
            or seat.gpu.index in held
            or not (seat.gpu.partition or seat.recalled or seat.gpu.pci_address in addresses)
        ]
        for place, gpu in waiting.items():
            # Not one that has just become free: a command may be under way for what was there.
            taken = before | {seat.gpu.index for seat in self._seats}
            index = next(i for i in range(len(taken) + 1) if i not in taken)
            new = Seat(replace(gpu, index=index), gpu.index, place, answers=bool(gpu.uuid))
            self._seats.append(new)
        self._seats.sort(key=lambda seat: seat.gpu.index)
        self._name()
        self._keep()
        return self._seats

    def lose(self) -> list[Seat]:
        """Return the seats when there is no driver any more."""
        for seat in self._seats:
            seat.place, seat.answers = None, False
            seat.gpu = replace(seat.gpu, present=False)
        return self._seats

    def _name(self) -> None:
        plain = all(
            seat.answers and not seat.gpu.partition and seat.number == seat.gpu.index
            for seat in self._seats
        )
        for seat in self._seats:
            seat.gpu = replace(
                seat.gpu,
                visible="" if plain else seat.gpu.uuid,
                present=seat.answers,
            )

    def _keep(self) -> None:
        rows = [{k: v for k, v in asdict(seat.gpu).items() if k in _KEPT} for seat in self._seats]
        if self._file is None or rows == self._written or not self._file.parent.is_dir():
            return
        try:
            scratch = self._file.with_suffix(".new")
            scratch.write_text(json.dumps(rows, indent=1), encoding="utf-8")
            scratch.replace(self._file)
        except OSError as error:
            log.warning("cannot keep the GPUs' indices", file=str(self._file), error=str(error))
        self._written = rows


def _same(seat: Seat, gpu: Gpu) -> bool:
    return bool(gpu.uuid) and seat.gpu.uuid == gpu.uuid


def _same_place(seat: Seat, gpu: Gpu) -> bool:
    """A GPU that is lost has no name: then its number tells, on either side."""
    return seat.number == gpu.index and not (seat.gpu.uuid and gpu.uuid) and not seat.gpu.partition


def _take(seat: Seat, gpu: Gpu, place: int) -> None:
    if gpu.uuid:
        seat.gpu, seat.number = replace(gpu, index=seat.gpu.index), gpu.index
        seat.recalled = False
    seat.place, seat.answers = place, bool(gpu.uuid)


def _recall(file: Path | None) -> list[Gpu]:
    if file is None:
        return []
    try:
        if file.stat().st_size > _MAX_FILE:
            raise ValueError(f"more than {_MAX_FILE} bytes")  # noqa: TRY301 - one way to say it
        gpus = [_gpu(row) for row in json.loads(file.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        log.warning("GPUs are numbered anew", file=str(file), error=str(error))
        return []
    indices = {gpu.index for gpu in gpus}
    return gpus if len(indices) == len(gpus) else []


def _gpu(row: dict[str, Any]) -> Gpu:
    gpu = Gpu(**{name: value for name, value in row.items() if name in _KEPT})
    texts = (gpu.uuid, gpu.name, gpu.type, gpu.pci_address, gpu.partition, gpu.parent_uuid)
    if type(gpu.index) is not int or gpu.index < 0 or not all(isinstance(t, str) for t in texts):
        raise ValueError(f"no GPU: {str(row)[:200]}")
    numbers = (gpu.numa_node, gpu.nvlink_group)
    if type(gpu.memory_bytes) is not int or not all(isinstance(n, int | None) for n in numbers):
        raise ValueError(f"no GPU: {str(row)[:200]}")
    return gpu
