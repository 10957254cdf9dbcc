"""What the stub's GPUs show: rows of values, written to the state file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

STATE_VARIABLE = "HETEROSCALE_NVML_STUB_STATE"
"""The environment variable that tells the stub where its state file is; one per agent."""

GPU_IS_LOST = 15
UNKNOWN_ERROR = 999
"""nvmlReturn_t values for `StubGpu.return_code`."""

SUPPORTED = frozenset(
    {"utilization", "memory", "power", "temperature", "ecc", "processes", "pci", "events"}
)
"""What a GPU can be made not to support."""


@dataclass(frozen=True, slots=True)
class StubGpu:
    """One GPU; the stub's next call shows it."""

    name: str = "NVIDIA H20"
    uuid: str = ""
    """Empty: made from its place among the others."""
    utilization_percent: int = 0
    memory_utilization_percent: int = 0
    memory_used_mib: int = 0
    memory_total_mib: int = 97871
    power_milliwatts: int = 80_000
    temperature_celsius: int = 35
    ecc_uncorrected: int = 0
    return_code: int = 0
    """What every call about it returns: 0, GPU_IS_LOST, UNKNOWN_ERROR, any nvmlReturn_t."""
    xid: int = 0
    """A change to another number fires an Xid event."""
    delay_ms: int = 0
    """How long every call about it blocks."""
    unsupported: frozenset[str] = frozenset()
    pids: tuple[int, ...] = ()

    def line(self, index: int) -> str:
        """Return its line of the state file."""
        unknown = self.unsupported - SUPPORTED
        if unknown:
            raise ValueError(f"{sorted(unknown)} are none of {sorted(SUPPORTED)}")
        columns = (
            self.uuid or f"GPU-{index:08x}-0000-4000-8000-000000000000",
            self.name.replace(" ", "_"),
            self.utilization_percent,
            self.memory_utilization_percent,
            self.memory_used_mib,
            self.memory_total_mib,
            self.power_milliwatts,
            self.temperature_celsius,
            self.ecc_uncorrected,
            self.return_code,
            self.xid,
            self.delay_ms,
            ",".join(sorted(self.unsupported)) or "-",
            ",".join(map(str, self.pids)) or "-",
        )
        return " ".join(map(str, columns))


class StubState:
    """The GPUs of one stub. Change them in memory, then `write`."""

    def __init__(self, path: Path, gpus: Iterable[StubGpu]) -> None:
        """Keep the state of `gpus` in the file `path`; nothing is written yet."""
        self.path = path
        self.gpus = list(gpus)

    def change(self, index: int, **values: Any) -> None:
        """Change some values of one GPU."""
        self.gpus[index] = replace(self.gpus[index], **values)

    def write(self) -> None:
        """Write the file; the stub sees either the state before or this one.

        Raises:
            OSError: the file cannot be written.

        """
        text = "".join(gpu.line(index) + "\n" for index, gpu in enumerate(self.gpus))
        descriptor, scratch = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
            Path(scratch).replace(self.path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
