"""One NVIDIA GPU, and its MIG devices where it is split: every reading of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pynvml

from heteroscale.words import GpuHealth
from heteroscale_agent.model import (
    THROTTLE_HARDWARE,
    THROTTLE_HEAT,
    THROTTLE_OTHER,
    THROTTLE_POWER,
    GpuReading,
)
from heteroscale_agent.probes.gpu.asking import (
    MAX_PERCENT,
    Asked,
    clock_reasons,
    memory,
    within,
)
from heteroscale_agent.probes.gpu.gpm import Gpm, Links
from heteroscale_agent.probes.gpu.port import LostError
from heteroscale_agent.probes.gpu.usage import Usage

SLOW_PERIOD = 5.0
"""Seconds between looks at counters that seldom move: errors of the memory."""

_MAX_MILLIWATTS = 10_000_000
_MAX_CELSIUS = 200
_MAX_MHZ = 20_000
_MAX_ECC = 1 << 31
_LOST = GpuReading(health=GpuHealth.LOST)

_REASONS = (
    (pynvml.nvmlClocksEventReasonSwPowerCap, THROTTLE_POWER),
    (pynvml.nvmlClocksEventReasonSwThermalSlowdown, THROTTLE_HEAT),
    (pynvml.nvmlClocksEventReasonHwThermalSlowdown, THROTTLE_HEAT),
    (pynvml.nvmlClocksEventReasonHwSlowdown, THROTTLE_HARDWARE),
    (pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown, THROTTLE_HARDWARE),
    (pynvml.nvmlClocksEventReasonSyncBoost, THROTTLE_OTHER),
    (pynvml.nvmlClocksEventReasonDisplayClockSetting, THROTTLE_OTHER),
)
"""Idleness and clocks that somebody has set are no throttling."""

Xid = Callable[[int | None], tuple[int, int] | None]
"""How many Xids a GPU (or a GPU instance of it) has had, and the last's code."""


class Board:
    """A whole GPU; `handle` None: lost when it was listed."""

    def __init__(self, handle: Any, xid: Xid) -> None:
        self.handle = handle
        self.migs: list[Mig] = []
        self._xid = xid
        self._gpm = Gpm(handle) if handle is not None and Gpm.supported(handle) else None
        self._links, self._usage = Links(handle), Usage(handle)
        self._slow: dict[str, int | None] = {}
        self._slow_at: float | None = None
        self._broken = False

    @property
    def has_gpm(self) -> bool:
        """Whether it is Hopper or newer, under a driver that knows GPM."""
        return self._gpm is not None

    def read(self, now: float, *, turn: bool) -> list[GpuReading]:
        """Return its reading, or one of each MIG device; `turn`: see `Links`."""
        try:
            whole = self._whole(now, turn=turn)
        except LostError:
            whole = _LOST
        if self.migs:
            return [mig.read(whole, now) for mig in self.migs]
        return [whole]

    def _whole(self, now: float, *, turn: bool) -> GpuReading:
        handle = self.handle
        if handle is None:
            return _LOST
        # What an extra call fails of makes no GPU sick.
        asked, extra = Asked(), Asked()
        power = within(asked(pynvml.nvmlDeviceGetPowerUsage, handle), _MAX_MILLIWATTS)
        celsius = asked(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
        self._read_slow(asked, now)
        xid = self._xid(None)
        values: dict[str, Any] = {
            "power_watts": None if power is None else power / 1000,
            "temperature_celsius": within(celsius, _MAX_CELSIUS),
            "sm_clock_mhz": _clock(extra, handle, pynvml.NVML_CLOCK_SM),
            "memory_clock_mhz": _clock(extra, handle, pynvml.NVML_CLOCK_MEM),
            "throttle": _throttle(extra(clock_reasons, handle)),
            "xid_count": None if xid is None else xid[0],
            "last_xid": None if xid is None else xid[1],
            **self._slow,
        }
        if not self.migs:
            values |= self._busy(asked, extra, now, turn=turn)
        sick = asked.failed or self._broken
        return GpuReading(health=GpuHealth.ERROR if sick else GpuHealth.OK, **values)

    def _busy(self, asked: Asked, extra: Asked, now: float, *, turn: bool) -> dict[str, Any]:
        """Return what only a GPU that is not split tells."""
        rates = asked(pynvml.nvmlDeviceGetUtilizationRates, self.handle)
        values: dict[str, Any] = {
            "utilization_percent": within(rates.gpu, MAX_PERCENT) if rates else None,
            "memory_utilization_percent": within(rates.memory, MAX_PERCENT) if rates else None,
            **_holding(asked, self.handle, self._usage, extra, now),
        }
        if self._gpm is not None:
            values |= self._gpm.read(extra)
        if self._gpm is None or not self._gpm.works:
            values |= self._links.read(extra, now, turn=turn)
        return values

    def _read_slow(self, asked: Asked, now: float) -> None:
        if self._slow_at is not None and now - self._slow_at < SLOW_PERIOD:
            return
        self._slow_at = now
        self._slow = {
            "ecc_uncorrected": _ecc(asked, self.handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            "ecc_corrected": _ecc(asked, self.handle, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
        }
        # A row that could not be remapped means that bad memory stays in use. One that waits to be
        # does no harm until the GPU is reset.
        rows = Asked()(pynvml.nvmlDeviceGetRemappedRows, self.handle)
        self._broken = rows is not None and bool(rows[3])

    def close(self) -> None:
        """Free what the library holds for it; the library must still be open."""
        for gpm in (self._gpm, *(mig.gpm for mig in self.migs)):
            if gpm is not None:
                gpm.close()


class Mig:
    """A MIG device: memory, processes and activity are its own, the rest is the whole GPU's."""

    def __init__(self, handle: Any, board: Board, instance: int | None, xid: Xid) -> None:
        self.handle, self._instance, self._xid = handle, instance, xid
        self._usage = Usage(handle)
        self.gpm = Gpm(board.handle, instance) if board.has_gpm and instance is not None else None

    def read(self, whole: GpuReading, now: float) -> GpuReading:
        """Return its reading, given that of the GPU it is a part of."""
        if whole.health is GpuHealth.LOST:
            return whole
        asked, extra = Asked(), Asked()
        try:
            values = _holding(asked, self.handle, self._usage, extra, now)
            if self.gpm is not None:
                values |= self.gpm.read(extra)
        except LostError:
            return _LOST
        xid = self._xid(self._instance)
        return replace(
            whole,
            health=GpuHealth.ERROR if asked.failed else whole.health,
            xid_count=None if xid is None else xid[0],
            last_xid=None if xid is None else xid[1],
            **values,
        )


def _holding(asked: Asked, handle: Any, usage: Usage, extra: Asked, now: float) -> dict[str, Any]:
    used = asked(memory, handle)
    processes = usage.read(extra, now)
    return {
        "memory_used_bytes": within(used.used, used.total) if used else None,
        "process_count": None if processes is None else len(processes),
        "processes": processes or (),
    }


def _clock(asked: Asked, handle: Any, kind: int) -> int | None:
    return within(asked(pynvml.nvmlDeviceGetClockInfo, handle, kind), _MAX_MHZ)


def _ecc(asked: Asked, handle: Any, kind: int) -> int | None:
    count = asked(pynvml.nvmlDeviceGetTotalEccErrors, handle, kind, pynvml.NVML_VOLATILE_ECC)
    return within(count, _MAX_ECC)


def _throttle(reasons: int | None) -> int | None:
    if reasons is None:
        return None
    total = 0
    for theirs, ours in _REASONS:
        if reasons & theirs:
            total |= ours
    return total
