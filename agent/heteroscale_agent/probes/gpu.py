"""GPUs through NVML (module `pynvml` of nvidia-ml-py, NVIDIA's own binding).

What a GPU or its driver does not support is unknown; a GPU that fell off the bus is LOST and all
of it unknown. Calls may hang in the driver, so `open` and `read` belong in a thread of their own.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pynvml

from heteroscale.words import GpuHealth
from heteroscale_agent.model import Gpu, GpuProcess, GpuReading

PCI_DEVICES = Path("/sys/bus/pci/devices")
UNKNOWN_TYPE = "unknown"

_MAX_GPUS = 64
_MAX_PERCENT = 100
_MAX_MEMORY = 1 << 44
_MAX_MILLIWATTS = 10_000_000
_MAX_CELSIUS = 200
_MAX_ECC = 1 << 31

Value = TypeVar("Value")


class GpuError(Exception):
    """The driver cannot be asked; the message says why."""


class _LostError(Exception):
    """The GPU no longer answers its driver."""


class GpuProbe:
    """The GPUs that the driver listed when it was opened, in the order of `gpus`."""

    def __init__(
        self,
        *,
        library: Path | None = None,
        types: Mapping[str, str] | None = None,
        pci_devices: Path = PCI_DEVICES,
    ) -> None:
        """Prepare to use `library` (default: the system's NVML); `types` maps names to types."""
        self._library = library
        self._types = types or {}
        self._pci_devices = pci_devices
        self._handles: list[Any] = []
        self.gpus: tuple[Gpu, ...] = ()
        self.driver_version = ""

    def open(self) -> None:
        """Load the library and list the GPUs. May take seconds while the driver wakes up.

        Raises:
            GpuError: there is no NVML, no driver, or they do not fit together.

        """
        try:
            _load(self._library)
            pynvml.nvmlInit()
            self.driver_version = _text(pynvml.nvmlSystemGetDriverVersion()) or ""
            count = min(pynvml.nvmlDeviceGetCount(), _MAX_GPUS)
        except pynvml.NVMLError as error:
            raise GpuError(f"NVML: {error}") from error
        except OSError as error:
            raise GpuError(f"cannot load {self._library}: {error}") from error
        self._handles = [_quiet(pynvml.nvmlDeviceGetHandleByIndex, i) for i in range(count)]
        self.gpus = tuple(self._gpu(i, handle) for i, handle in enumerate(self._handles))

    def close(self) -> None:
        """Let go of the driver."""
        if self._handles:
            self._handles = []
            _quiet(pynvml.nvmlShutdown)

    def read(self) -> tuple[GpuReading, ...]:
        """Return what every GPU says now. May block in the driver; never raises."""
        return tuple(_read(handle) for handle in self._handles)

    def _gpu(self, index: int, handle: Any) -> Gpu:
        if handle is None:
            # Lost before we came: it keeps its place, so that the indices of the others are right.
            return Gpu(index, "", "", UNKNOWN_TYPE, 0)
        name = _text(_quiet(pynvml.nvmlDeviceGetName, handle)) or ""
        memory = _quiet(_memory, handle)
        pci = _quiet(pynvml.nvmlDeviceGetPciInfo, handle)
        address = _pci_address(_text(pci.busId) or "") if pci is not None else ""
        return Gpu(
            index=index,
            uuid=_text(_quiet(pynvml.nvmlDeviceGetUUID, handle)) or "",
            name=name,
            type=self._types.get(name) or short_type(name),
            memory_bytes=_within(memory.total, _MAX_MEMORY) or 0 if memory else 0,
            pci_address=address,
            numa_node=self._numa_node(address),
        )

    def _numa_node(self, address: str) -> int | None:
        if not address:
            return None
        try:
            node = int((self._pci_devices / address / "numa_node").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return node if node >= 0 else None


def short_type(name: str) -> str:
    """Shorten a driver's name to the type that specifications use.

    `NVIDIA H100 80GB HBM3` is `H100`, `Tesla T4` is `T4`, `NVIDIA GeForce RTX 4090` is `RTX4090`.
    """
    words = [w for w in name.split() if w.lower() not in {"nvidia", "tesla", "geforce", "quadro"}]
    kept: list[str] = []
    for word in words:
        part = word.split("-")[0]
        if re.fullmatch(r"[A-Za-z]+[0-9]+[A-Za-z]*", part):
            return part
        kept.append(part)
        if re.search("[0-9]", part):
            break
    return "".join(kept) or UNKNOWN_TYPE


def _load(library: Path | None) -> None:
    if library is None:
        return
    # pynvml asks for libnvidia-ml.so.1 by that name unless it holds a library already.
    pynvml.nvmlLib = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def _read(handle: Any) -> GpuReading:
    if handle is None:
        return GpuReading(health=GpuHealth.LOST)
    asked = _Asked()
    try:
        rates = asked(pynvml.nvmlDeviceGetUtilizationRates, handle)
        memory = asked(_memory, handle)
        power = _within(asked(pynvml.nvmlDeviceGetPowerUsage, handle), _MAX_MILLIWATTS)
        celsius = asked(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
        ecc = asked(
            pynvml.nvmlDeviceGetTotalEccErrors,
            handle,
            pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            pynvml.NVML_VOLATILE_ECC,
        )
        processes = asked(_processes, handle)
    except _LostError:
        return GpuReading(health=GpuHealth.LOST)
    return GpuReading(
        health=GpuHealth.ERROR if asked.failed else GpuHealth.OK,
        utilization_percent=_within(rates.gpu, _MAX_PERCENT) if rates else None,
        memory_utilization_percent=_within(rates.memory, _MAX_PERCENT) if rates else None,
        memory_used_bytes=_within(memory.used, memory.total) if memory else None,
        power_watts=None if power is None else power / 1000,
        temperature_celsius=_within(celsius, _MAX_CELSIUS),
        ecc_uncorrected=_within(ecc, _MAX_ECC),
        process_count=None if processes is None else len(processes),
        processes=tuple(GpuProcess(process.pid) for process in processes or ()),
    )


class _Asked:
    """Calls the driver about one GPU and remembers whether it failed where it should not."""

    def __init__(self) -> None:
        self.failed = False

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `function` says, None when it is not to be known; raises _LostError."""
        try:
            return function(*arguments)
        except (
            pynvml.NVMLError_NotSupported,
            pynvml.NVMLError_FunctionNotFound,
            pynvml.NVMLError_NoPermission,
        ):
            return None
        except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_GpuNotFound) as error:
            raise _LostError from error
        except pynvml.NVMLError:
            self.failed = True
            return None


def _memory(handle: Any) -> Any:
    """Prefer the call that does not count what the driver keeps for itself as used."""
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except (
        pynvml.NVMLError_FunctionNotFound,
        pynvml.NVMLError_NotSupported,
        pynvml.NVMLError_ArgumentVersionMismatch,
    ):
        return pynvml.nvmlDeviceGetMemoryInfo(handle)


def _processes(handle: Any) -> Any:
    # By version: the function without one raises something of its own when a driver is older.
    try:
        return pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
    except pynvml.NVMLError_FunctionNotFound:
        return pynvml.nvmlDeviceGetComputeRunningProcesses_v2(handle)


def _quiet(function: Callable[..., Value], *arguments: Any) -> Value | None:
    try:
        return function(*arguments)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None


def _within(value: int | None, highest: int) -> int | None:
    return value if value is not None and 0 <= value <= highest else None


def _text(value: str | bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _pci_address(bus_id: str) -> str:
    """Write NVML's `00000000:1B:00.0` as sysfs does, `0000:1b:00.0`."""
    found = re.fullmatch(r"0*([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", bus_id.lower())
    return found[1] if found else ""
