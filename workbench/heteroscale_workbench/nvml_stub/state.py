"""What the stub's GPUs show: rows of values, written to the state file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

STATE_VARIABLE = "HETEROSCALE_NVML_STUB_STATE"
"""The environment variable that tells the stub where its state file is; one per agent."""

GPU_IS_LOST = 15
UNKNOWN_ERROR = 999
"""nvmlReturn_t values for `StubGpu.return_code`."""

SUPPORTED = frozenset(
    {
        *("utilization", "memory", "power", "temperature", "clocks", "throttle", "ecc", "pci"),
        *("remapped_rows", "pcie", "fields", "nvlink", "gpm", "mig", "attributes", "events"),
        *("processes", "process_memory", "process_utilization", "p2p"),
    }
)
"""What a GPU can be made not to support."""

_FIRST_BUS = 0x10


@dataclass(frozen=True, slots=True)
class StubMig:
    """A MIG device of a GPU; NVML tells its memory, its processes and, through GPM, its activity."""

    profile: str = "1g.10gb"
    uuid: str = ""
    """Empty: made from its place among the GPU's others, and the GPU's."""
    name: str = ""
    """As the driver names it; empty: the GPU's name, `MIG` and the profile."""
    gpu_instance: int = 0
    gpu_slices: int = 1
    compute_slices: int = 1
    memory_used_mib: int = 0
    memory_total_mib: int = 9856
    sm_activity_percent: float = 0.0
    pids: tuple[int, ...] = ()
    unsupported: frozenset[str] = frozenset()


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
    sm_clock_mhz: int = 1980
    memory_clock_mhz: int = 2619
    throttle_reasons: int = 1
    """NVML's own bits; 1: idle."""
    ecc_uncorrected: int = 0
    ecc_corrected: int = 0
    remap_pending: bool = False
    remap_failed: bool = False
    return_code: int = 0
    """What every call about it returns: 0, GPU_IS_LOST, UNKNOWN_ERROR, any nvmlReturn_t."""
    xid: int = 0
    """A change to another number fires an Xid event."""
    xid_instance: int | None = None
    """The GPU instance that the event is of; None: of the whole GPU."""
    delay_ms: int = 0
    """How long every call about it blocks."""
    sm_activity_percent: float = 0.0
    """This and what follows is what GPM says."""
    dram_activity_percent: float = 0.0
    tensor_activity_percent: float = 0.0
    pcie_mib_per_s: tuple[float, float] = (0.0, 0.0)
    """Received, sent."""
    nvlink_mib_per_s: tuple[float, float] = (0.0, 0.0)
    pcie_kb_per_s: tuple[int, int] = (0, 0)
    """Received, sent, as the calls from before GPM say."""
    nvlink_kib: tuple[int, int] = (0, 0)
    """The same of NVLink, cumulative."""
    unsupported: frozenset[str] = frozenset()
    pids: tuple[int, ...] = ()
    """They share the GPU's memory and time alike."""
    process_time_us: int = 0
    """When the processes' time was sampled; 0: whenever one asks."""
    mig: tuple[StubMig, ...] | None = None
    """None: not in MIG mode."""
    nvlink_group: int | None = None
    """GPUs of one number reach each other by NVLink; None: the driver does not tell."""

    def lines(self, index: int) -> Iterator[str]:
        """Yield its line of the state file, and one of each MIG device."""
        uuid = self.uuid or f"GPU-{index:08x}-0000-4000-8000-000000000000"
        values = {
            "uuid": uuid,
            "name": self.name.replace(" ", "_"),
            "bus": _FIRST_BUS + index,
            "util": self.utilization_percent,
            "mem_util": self.memory_utilization_percent,
            "used_mib": self.memory_used_mib,
            "total_mib": self.memory_total_mib,
            "milliwatts": self.power_milliwatts,
            "celsius": self.temperature_celsius,
            "sm_clock": self.sm_clock_mhz,
            "mem_clock": self.memory_clock_mhz,
            "reasons": self.throttle_reasons,
            "ecc": self.ecc_uncorrected,
            "ecc_corrected": self.ecc_corrected,
            "remap_pending": int(self.remap_pending),
            "remap_failed": int(self.remap_failed),
            "rc": self.return_code,
            "xid": self.xid,
            "delay_ms": self.delay_ms,
            "sm": self.sm_activity_percent,
            "dram": self.dram_activity_percent,
            "tensor": self.tensor_activity_percent,
            "process_time": self.process_time_us,
            **_pair("gpm_pcie_{}", self.pcie_mib_per_s),
            **_pair("gpm_link_{}", self.nvlink_mib_per_s),
            **_pair("pcie_{}_kb", self.pcie_kb_per_s),
            **_pair("link_{}_kib", self.nvlink_kib),
            "mig": int(self.mig is not None),
        }
        if self.nvlink_group is not None:
            values["link_group"] = self.nvlink_group
        if self.xid_instance is not None:
            values["xid_instance"] = self.xid_instance
        yield _line(values, self.unsupported, self.pids)
        for place, mig in enumerate(self.mig or ()):
            yield self._mig_line(index, place, mig)

    def _mig_line(self, index: int, place: int, mig: StubMig) -> str:
        values = {
            "uuid": mig.uuid or f"MIG-{index:08x}-{place:04x}-5000-8000-000000000000",
            "name": (mig.name or f"{self.name} MIG {mig.profile}").replace(" ", "_"),
            "parent": index,
            "instance": mig.gpu_instance,
            "bus": _FIRST_BUS + index,
            "gpu_slices": mig.gpu_slices,
            "compute_slices": mig.compute_slices,
            "used_mib": mig.memory_used_mib,
            "total_mib": mig.memory_total_mib,
            "rc": self.return_code,
            "sm": mig.sm_activity_percent,
        }
        return _line(values, mig.unsupported, mig.pids)


def _pair(key: str, values: tuple[float, float]) -> dict[str, float]:
    return {key.format(way): value for way, value in zip(("rx", "tx"), values, strict=True)}


def _line(values: Mapping[str, object], unsupported: frozenset[str], pids: Iterable[int]) -> str:
    if unknown := unsupported - SUPPORTED:
        raise ValueError(f"{sorted(unknown)} are none of {sorted(SUPPORTED)}")
    words = [f"{key}={value}" for key, value in values.items()]
    if unsupported:
        words.append("unsupported=" + ",".join(sorted(unsupported)))
    if pids:
        words.append("pids=" + ",".join(map(str, pids)))
    return " ".join(words)


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
        text = "".join(
            line + "\n" for index, gpu in enumerate(self.gpus) for line in gpu.lines(index)
        )
        descriptor, scratch = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
            Path(scratch).replace(self.path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
