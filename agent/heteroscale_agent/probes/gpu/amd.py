"""AMD's GPUs through amdsmi, AMD's own binding; where it is not installed there is nothing to read.

The binding gives "N/A" for what a GPU does not tell, and raises for what it does not support: both
are unknown.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from heteroscale.words import GpuHealth
from heteroscale_agent.model import (
    THROTTLE_HARDWARE,
    THROTTLE_HEAT,
    THROTTLE_OTHER,
    THROTTLE_POWER,
    Gpu,
    GpuProcess,
    GpuReading,
)
from heteroscale_agent.probes.gpu.amd_library import load_amdsmi
from heteroscale_agent.probes.gpu.naming import (
    PCI_DEVICES,
    UNKNOWN_TYPE,
    numa_node,
    pci_address,
    short_type,
)
from heteroscale_agent.probes.gpu.port import GpuError, LostError

SLOW_PERIOD = 5.0
"""Seconds between looks at error counters."""

_MIB = 1 << 20
_MAX_GPUS = 64
_MAX_PROCESSES = 256
_MAX_PERCENT = 100
_MAX_WATTS = 10_000
_MAX_CELSIUS = 200
_MAX_MHZ = 20_000
_MAX_COUNT = 1 << 31
_MAX_MEMORY = 1 << 44

_UNSUPPORTED = frozenset({"NOT_SUPPORTED", "NOT_YET_IMPLEMENTED", "NO_PERM", "NO_DATA"})
_GONE = frozenset({"NOT_FOUND", "DRIVER_NOT_LOADED", "NO_DRV", "NOT_INIT"})
_VIOLATIONS = (
    ("active_ppt_pwr", THROTTLE_POWER),
    ("active_socket_thrm", THROTTLE_HEAT),
    ("active_vr_thrm", THROTTLE_HEAT),
    ("active_hbm_thrm", THROTTLE_HEAT),
    ("active_prochot_thrm", THROTTLE_HARDWARE),
    ("active_gfx_clk_below_host_limit", THROTTLE_OTHER),
)


class AmdDriver:
    """`Driver` over amdsmi.

    What holds the clocks down costs the library 0.1 s of watching a GPU: so it is asked of one GPU a
    reading, in turn, and what one said stays until its next turn.
    """

    def __init__(
        self,
        *,
        types: Mapping[str, str] | None = None,
        pci_devices: Path = PCI_DEVICES,
        clock: Callable[[], float] = time.monotonic,
        load: Callable[[], Any] | None = None,
    ) -> None:
        """`types` maps names to types; `load` returns the module amdsmi, or raises GpuError."""
        self._types, self._pci_devices, self._clock = types or {}, pci_devices, clock
        self._load = load or load_amdsmi
        self._smi: Any = None
        self._cards: list[_Card] = []
        self._stamp: tuple[str, ...] = ()
        self._turn = 0
        self.version = ""

    def open(self) -> tuple[Gpu, ...]:
        """Load the binding and list the GPUs; see `Driver`."""
        smi = self._load()
        try:
            smi.amdsmi_init()
            self._smi = smi
            handles = smi.amdsmi_get_processor_handles()[:_MAX_GPUS]
        except smi.AmdSmiException as error:
            raise GpuError(f"amdsmi: {' '.join(str(error).split())}") from error
        self._cards = [_Card(smi, handle) for handle in handles]
        # In ROCm's own order where that is known, so that its numbers are our indices.
        numbers = [card.hip("hip_id") for card in self._cards]
        if all(isinstance(number, int) for number in numbers):
            self._cards.sort(key=lambda card: card.hip("hip_id"))
        gpus = tuple(self._gpu(place, card) for place, card in enumerate(self._cards))
        driver = next(iter(self._cards), None)
        told = driver.quiet("amdsmi_get_gpu_driver_info") if driver is not None else None
        self.version = _text(told, "driver_version")
        self._stamp = self._bound()
        return gpus

    def close(self) -> None:
        """Let go of the library."""
        smi, self._smi, self._cards = self._smi, None, []
        if smi is not None:
            with contextlib.suppress(smi.AmdSmiException):
                smi.amdsmi_shut_down()

    def read(self) -> tuple[GpuReading, ...]:
        """Return what every GPU says now; see `Driver`."""
        now = self._clock()
        self._turn = (self._turn + 1) % max(1, len(self._cards))
        return tuple(
            card.read(now, turn=place == self._turn) for place, card in enumerate(self._cards)
        )

    def changed(self) -> bool:
        """Tell whether the kernel's driver has other devices than when they were listed."""
        return self._bound() != self._stamp

    def _bound(self) -> tuple[str, ...]:
        try:
            entries = (self._pci_devices.parent / "drivers" / "amdgpu").iterdir()
            return tuple(sorted(entry.name for entry in entries if pci_address(entry.name)))
        except OSError:
            return ()

    def _gpu(self, place: int, card: _Card) -> Gpu:
        asic = card.quiet("amdsmi_get_gpu_asic_info")
        board = card.quiet("amdsmi_get_gpu_board_info")
        name = _text(asic, "market_name") or _text(board, "product_name")
        address = pci_address(_word(card.quiet("amdsmi_get_gpu_device_bdf")))
        # ROCm names a GPU to a process by this uuid, and counts by this number.
        uuid = _word(card.hip("hip_uuid")) or _word(card.quiet("amdsmi_get_gpu_device_uuid"))
        number = _plain(card.hip("hip_id"), _MAX_GPUS)
        memory = card.quiet("amdsmi_get_gpu_vram_usage")
        if not uuid and memory is not None:
            uuid = f"PCI-{address}"  # it answers, but an old library has no name for it
        return Gpu(
            index=place if number is None else int(number),
            uuid=uuid,
            name=name,
            type=self._types.get(name) or (short_type(name) if name else UNKNOWN_TYPE),
            memory_bytes=int(_number(memory, "vram_total", _MAX_MEMORY) or 0) * _MIB,
            pci_address=address,
            numa_node=numa_node(self._pci_devices, address),
            vendor="amd",
        )


class _Card:
    """One GPU of amdsmi."""

    def __init__(self, smi: Any, handle: Any) -> None:
        self._smi, self._handle = smi, handle
        self._failed = False
        self._slow: dict[str, int | None] = {}
        self._slow_at: float | None = None
        self._throttle: int | None = None
        told = self.quiet("amdsmi_get_gpu_enumeration_info")
        self._hip = told if isinstance(told, dict) else {}

    def hip(self, name: str) -> Any:
        """Return one of ROCm's own ids of it, None where they are not told."""
        return self._hip.get(name)

    def read(self, now: float, *, turn: bool) -> GpuReading:
        self._failed = False
        try:
            if turn:
                self._throttle = _throttle(self._ask("amdsmi_get_violation_status"))
            values = {**self._busy(), **self._heat(), **self._rest(now)}
        except LostError:
            return GpuReading(health=GpuHealth.LOST)
        health = GpuHealth.ERROR if self._failed else GpuHealth.OK
        return GpuReading(health=health, **values)

    def quiet(self, name: str, *arguments: Any) -> Any:
        """Call amdsmi; None when it says nothing, for whatever reason."""
        try:
            return self._ask(name, *arguments)
        except LostError:
            return None

    def _ask(self, name: str, *arguments: Any) -> Any:
        """Call amdsmi; None when it is not to be known; raises LostError."""
        smi = self._smi
        function = getattr(smi, name, None)
        if function is None:
            return None
        try:
            return function(self._handle, *arguments)
        except smi.AmdSmiLibraryException as error:
            status = _status(error)
            if status in _GONE:
                raise LostError(status) from error
            self._failed = self._failed or status not in _UNSUPPORTED
        except (smi.AmdSmiException, UnicodeDecodeError, ValueError):
            pass  # a call of another version, or text that is none
        return None

    def _busy(self) -> dict[str, Any]:
        activity = self._ask("amdsmi_get_gpu_activity")
        memory = self._ask("amdsmi_get_gpu_vram_usage")
        total = _number(memory, "vram_total", _MAX_MEMORY)
        used = None if total is None else _number(memory, "vram_used", total)
        listed = self._ask("amdsmi_get_gpu_process_list")
        return {
            "utilization_percent": _whole(_number(activity, "gfx_activity", _MAX_PERCENT)),
            "memory_utilization_percent": _whole(_number(activity, "umc_activity", _MAX_PERCENT)),
            "memory_used_bytes": None if used is None else int(used) * _MIB,
            "process_count": None if listed is None else len(listed),
            "processes": tuple(_processes(listed or ())),
        }

    def _heat(self) -> dict[str, Any]:
        smi = self._smi
        power = self._ask("amdsmi_get_power_info")
        watts = [
            _number(power, name, _MAX_WATTS)
            for name in ("current_socket_power", "socket_power", "average_socket_power")
        ]
        now = smi.AmdSmiTemperatureMetric.CURRENT
        kinds = (smi.AmdSmiTemperatureType.HOTSPOT, smi.AmdSmiTemperatureType.EDGE)
        heat = [self._ask("amdsmi_get_temp_metric", kind, now) for kind in kinds]
        clock = [
            self._ask("amdsmi_get_clock_info", kind)
            for kind in (smi.AmdSmiClkType.GFX, smi.AmdSmiClkType.MEM)
        ]
        return {
            "power_watts": next((value for value in watts if value), None),
            "temperature_celsius": next(
                (value for one in heat if (value := _whole(_plain(one, _MAX_CELSIUS))) is not None),
                None,
            ),
            "sm_clock_mhz": _whole(_number(clock[0], "clk", _MAX_MHZ)),
            "memory_clock_mhz": _whole(_number(clock[1], "clk", _MAX_MHZ)),
        }

    def _rest(self, now: float) -> dict[str, Any]:
        if self._slow_at is None or now - self._slow_at >= SLOW_PERIOD:
            self._slow_at = now
            errors = self._ask("amdsmi_get_gpu_total_ecc_count")
            self._slow = {
                "ecc_uncorrected": _whole(_number(errors, "uncorrectable_count", _MAX_COUNT)),
                "ecc_corrected": _whole(_number(errors, "correctable_count", _MAX_COUNT)),
            }
        return {**self._slow, "throttle": self._throttle}


def _status(error: Any) -> str:
    """Return an error's name, such as `NOT_SUPPORTED`; its numbers differ between versions."""
    name = str(error.get_error_info()).split(" ")[0]
    return name.removeprefix("AMDSMI_STATUS_").removeprefix("AMD_SMI_")


def _plain(value: Any, highest: float) -> float | None:
    """Return a number where it can be meant; the binding says "N/A" for what it does not know."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
        return None
    return value


def _number(told: Any, name: str, highest: float) -> float | None:
    return _plain(told.get(name), highest) if isinstance(told, dict) else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _word(value: Any) -> str:
    return value if isinstance(value, str) and value != "N/A" else ""


def _text(told: Any, name: str) -> str:
    return _word(told.get(name)) if isinstance(told, dict) else ""


def _processes(listed: Any) -> Iterator[GpuProcess]:
    for one in listed[:_MAX_PROCESSES]:
        pid = _number(one, "pid", _MAX_COUNT)
        if pid is not None:
            used = _number(one.get("memory_usage"), "vram_mem", _MAX_MEMORY)
            yield GpuProcess(int(pid), _whole(used))


def _throttle(told: Any) -> int | None:
    states = {name: told.get(name) for name, _ in _VIOLATIONS} if isinstance(told, dict) else {}
    if not any(isinstance(state, bool) for state in states.values()):
        return None
    total = 0
    for name, bit in _VIOLATIONS:
        if states[name] is True:
            total |= bit
    return total
