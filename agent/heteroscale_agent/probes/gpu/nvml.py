"""NVIDIA's GPUs through NVML (module `pynvml` of nvidia-ml-py, NVIDIA's own binding)."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pynvml

from heteroscale_agent.model import Gpu, GpuReading
from heteroscale_agent.probes.gpu import mig, nvlink
from heteroscale_agent.probes.gpu.asking import memory, quiet, text, within
from heteroscale_agent.probes.gpu.board import Board, Mig
from heteroscale_agent.probes.gpu.events import Xids
from heteroscale_agent.probes.gpu.naming import (
    PCI_DEVICES,
    UNKNOWN_TYPE,
    numa_node,
    pci_address,
    short_type,
)
from heteroscale_agent.probes.gpu.port import GpuError

_MAX_GPUS = 64
_MAX_MEMORY = 1 << 44


class NvmlDriver:
    """`Driver` over NVML; a GPU in MIG mode is listed as its MIG devices, which a launch can hold."""

    def __init__(
        self,
        *,
        library: Path | None = None,
        types: Mapping[str, str] | None = None,
        pci_devices: Path = PCI_DEVICES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to use `library` (default: the system's NVML); `types` maps names to types."""
        self._library, self._types, self._clock = library, types or {}, clock
        self._pci_devices = pci_devices
        self._boards: list[Board] = []
        self._xids = Xids()
        self._open = False
        self._stamp: object = None
        self._turn = 0
        self.version = ""

    def open(self) -> tuple[Gpu, ...]:
        """Load the library and list the GPUs; see `Driver`."""
        try:
            _load(self._library)
            pynvml.nvmlInit()
            self._open = True
            self.version = text(pynvml.nvmlSystemGetDriverVersion())
            count = min(pynvml.nvmlDeviceGetCount(), _MAX_GPUS)
        except pynvml.NVMLError as error:
            raise GpuError(f"NVML: {error}") from error
        except OSError as error:
            raise GpuError(f"cannot load {self._library}: {error}") from error
        found = [quiet(pynvml.nvmlDeviceGetHandleByIndex, place) for place in range(count)]
        # A GPU that is split into MIG devices has no use for NVLink.
        whole = [None if one is None or mig.is_on(one) else one for one in found]
        links = nvlink.groups(whole)
        listed: list[Gpu] = []
        handles: dict[str, Any] = {}
        self._boards = []
        for place, handle in enumerate(found):
            listed += self._list(place, handle, links[place])
            if handle is not None:
                handles[text(quiet(pynvml.nvmlDeviceGetUUID, handle))] = handle
        self._xids.start(handles)
        self._stamp = self._signature()
        return tuple(listed)

    def close(self) -> None:
        """Free what is held and let go of the driver."""
        if not self._open:
            return
        self._open = False
        idle = self._xids.stop()
        for board in self._boards:
            board.close()
        self._boards = []
        if idle:  # NVML must not be shut down under a thread that is still in it
            quiet(pynvml.nvmlShutdown)

    def read(self) -> tuple[GpuReading, ...]:
        """Return what every GPU says now; see `Driver`."""
        now = self._clock()
        # See `Links`: the PCIe of one GPU a reading.
        self._turn = (self._turn + 1) % max(1, len(self._boards))
        return tuple(
            reading
            for place, board in enumerate(self._boards)
            for reading in board.read(now, turn=place == self._turn)
        )

    def changed(self) -> bool:
        """Tell whether the kernel's devices, or the GPUs' MIG devices, are others than when listed."""
        return self._signature() != self._stamp

    def _signature(self) -> object:
        """NVML lists GPUs when it begins and never again; what came since only the kernel tells."""
        try:
            bound = sorted(
                entry.name
                for entry in (self._pci_devices.parent / "drivers" / "nvidia").iterdir()
                if pci_address(entry.name)
            )
        except OSError:
            bound = []
        parts = [mig.uuids(board.handle) for board in self._boards if board.handle is not None]
        return bound, parts

    def _list(self, place: int, handle: Any, link: int | None) -> list[Gpu]:
        """Make a board of what stands at `place`, and return it as the GPUs that it is to a launch."""
        if handle is None:
            # Lost before we came: it keeps its place, so that the numbers of the others are right.
            self._boards.append(Board(None, _unheard))
            return [Gpu(place, "", "", UNKNOWN_TYPE, 0)]
        gpu = self._gpu(place, handle)
        board = Board(handle, partial(self._xids.seen, gpu.uuid))
        if not mig.is_on(handle):
            self._boards.append(board)
            return [replace(gpu, nvlink_group=link)]
        parts = []
        for device in mig.devices(handle):
            instance = quiet(pynvml.nvmlDeviceGetGpuInstanceId, device)
            xid = partial(self._xids.seen, gpu.uuid)
            board.migs.append(Mig(device, board, instance, xid))
            parts.append(self._part(gpu, device))
        if parts:  # a GPU that is split into nothing is nothing that anybody could hold
            self._boards.append(board)
        return parts

    def _gpu(self, place: int, handle: Any) -> Gpu:
        name = text(quiet(pynvml.nvmlDeviceGetName, handle))
        pci = quiet(pynvml.nvmlDeviceGetPciInfo, handle)
        address = pci_address(text(pci.busId)) if pci is not None else ""
        return Gpu(
            index=place,
            uuid=text(quiet(pynvml.nvmlDeviceGetUUID, handle)),
            name=name,
            type=self._types.get(name) or short_type(name),
            memory_bytes=_total(handle),
            pci_address=address,
            numa_node=numa_node(self._pci_devices, address),
        )

    def _part(self, whole: Gpu, device: Any) -> Gpu:
        profile = mig.profile(device, whole.memory_bytes)
        name = text(quiet(pynvml.nvmlDeviceGetName, device)) or f"{whole.name} MIG {profile}"
        return Gpu(
            index=whole.index,
            uuid=text(quiet(pynvml.nvmlDeviceGetUUID, device)),
            name=name,
            type=self._types.get(name) or f"{whole.type}-{profile}",
            memory_bytes=_total(device),
            pci_address=whole.pci_address,
            numa_node=whole.numa_node,
            partition=profile,
            parent_uuid=whole.uuid,
        )


def _load(library: Path | None) -> None:
    if library is None:
        return
    # pynvml asks for libnvidia-ml.so.1 by that name unless it holds a library already.
    pynvml.nvmlLib = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def _total(handle: Any) -> int:
    found = quiet(memory, handle)
    return within(found.total, _MAX_MEMORY) or 0 if found else 0


def _unheard(_instance: int | None = None) -> None:
    return None
