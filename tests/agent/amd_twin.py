"""A twin of the module amdsmi: its documented names and shapes, over cards that a test changes.

The real one cannot even be imported without ROCm's library. Names, units, "N/A" and exceptions are
those of amdsmi 7.0.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class AmdSmiException(Exception):  # noqa: N818 - its name there
    pass


class AmdSmiLibraryException(AmdSmiException):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def get_error_info(self) -> str:
        return f"AMDSMI_STATUS_{self.name} - as the library says"


class AmdSmiTemperatureType(IntEnum):
    EDGE = 0
    HOTSPOT = 1


class AmdSmiTemperatureMetric(IntEnum):
    CURRENT = 0


class AmdSmiClkType(IntEnum):
    GFX = 0
    MEM = 4


@dataclass
class Card:
    """One GPU; ``fails`` maps a call's name to the status that it raises, ``all`` every call's."""

    name: str = "AMD Instinct MI300X"
    uuid: str = "GPU-5a3f9e0000000001"
    bdf: str = "0000:0c:00.0"
    hip_id: int = 0
    activity: dict[str, Any] = field(
        default_factory=lambda: {"gfx_activity": 0, "umc_activity": 0, "mm_activity": "N/A"}
    )
    vram_total: int = 196_592
    vram_used: int = 0
    power: dict[str, Any] = field(
        default_factory=lambda: {
            "socket_power": 0,
            "current_socket_power": 140,
            "average_socket_power": "N/A",
        }
    )
    hotspot: int = 40
    clocks: dict[int, Any] = field(default_factory=lambda: {0: 2100, 4: 1300})
    ecc: tuple[int, int] = (0, 0)
    """Correctable, uncorrectable."""
    processes: list[dict[str, Any]] = field(default_factory=list)
    violations: dict[str, Any] = field(default_factory=dict)
    fails: dict[str, str] = field(default_factory=dict)


def process(pid: int, vram: int) -> dict[str, Any]:
    """Return an entry of a process list."""
    return {
        "name": "python3",
        "pid": pid,
        "mem": vram,
        "engine_usage": {"gfx": 0, "enc": 0},
        "memory_usage": {"gtt_mem": 0, "cpu_mem": 0, "vram_mem": vram},
        "cu_occupancy": "N/A",
    }


class AmdSmi:
    """The module. ``cards`` None: the driver is not loaded."""

    AmdSmiException = AmdSmiException
    AmdSmiLibraryException = AmdSmiLibraryException
    AmdSmiTemperatureType = AmdSmiTemperatureType
    AmdSmiTemperatureMetric = AmdSmiTemperatureMetric
    AmdSmiClkType = AmdSmiClkType

    def __init__(self, cards: list[Card] | None) -> None:
        self.cards = cards
        self.listed: list[Card] = []
        self.initialised = 0
        self.asked: list[str] = []

    def amdsmi_init(self) -> None:
        if self.cards is None:
            raise AmdSmiLibraryException("DRIVER_NOT_LOADED")
        self.initialised += 1
        self.listed = list(self.cards)

    def amdsmi_shut_down(self) -> None:
        self.initialised -= 1

    def amdsmi_get_processor_handles(self) -> list[int]:
        return list(range(len(self.listed)))

    def _card(self, handle: int, call: str) -> Card:
        self.asked.append(call)
        card = self.listed[handle]
        if status := card.fails.get(call) or card.fails.get("all"):
            raise AmdSmiLibraryException(status)
        return card

    def amdsmi_get_gpu_asic_info(self, handle: int) -> dict[str, Any]:
        card = self._card(handle, "amdsmi_get_gpu_asic_info")
        return {"market_name": card.name, "num_compute_units": 304, "vendor_id": "0x1002"}

    def amdsmi_get_gpu_board_info(self, handle: int) -> dict[str, Any]:
        self._card(handle, "amdsmi_get_gpu_board_info")
        return {"product_name": "N/A", "model_number": "N/A"}

    def amdsmi_get_gpu_device_bdf(self, handle: int) -> str:
        return self._card(handle, "amdsmi_get_gpu_device_bdf").bdf

    def amdsmi_get_gpu_device_uuid(self, handle: int) -> str:
        self._card(handle, "amdsmi_get_gpu_device_uuid")
        return f"{handle:08x}-0000-1000-80a1-000000000000"

    def amdsmi_get_gpu_enumeration_info(self, handle: int) -> dict[str, Any]:
        card = self._card(handle, "amdsmi_get_gpu_enumeration_info")
        return {"drm_card": handle, "hip_id": card.hip_id, "hip_uuid": card.uuid}

    def amdsmi_get_gpu_driver_info(self, handle: int) -> dict[str, Any]:
        self._card(handle, "amdsmi_get_gpu_driver_info")
        return {"driver_name": "amdgpu", "driver_version": "6.12.12", "driver_date": "N/A"}

    def amdsmi_get_gpu_activity(self, handle: int) -> dict[str, Any]:
        return self._card(handle, "amdsmi_get_gpu_activity").activity

    def amdsmi_get_gpu_vram_usage(self, handle: int) -> dict[str, Any]:
        card = self._card(handle, "amdsmi_get_gpu_vram_usage")
        return {"vram_total": card.vram_total, "vram_used": card.vram_used}

    def amdsmi_get_power_info(self, handle: int) -> dict[str, Any]:
        return self._card(handle, "amdsmi_get_power_info").power

    def amdsmi_get_temp_metric(self, handle: int, kind: Any, metric: Any) -> int:
        assert metric is AmdSmiTemperatureMetric.CURRENT
        card = self._card(handle, "amdsmi_get_temp_metric")
        if kind is not AmdSmiTemperatureType.HOTSPOT:
            raise AmdSmiLibraryException("NOT_SUPPORTED")
        return card.hotspot

    def amdsmi_get_clock_info(self, handle: int, kind: int) -> dict[str, Any]:
        card = self._card(handle, "amdsmi_get_clock_info")
        return {"clk": card.clocks[kind], "min_clk": 500, "max_clk": 2100}

    def amdsmi_get_gpu_total_ecc_count(self, handle: int) -> dict[str, Any]:
        correctable, uncorrectable = self._card(handle, "amdsmi_get_gpu_total_ecc_count").ecc
        return {"correctable_count": correctable, "uncorrectable_count": uncorrectable}

    def amdsmi_get_gpu_process_list(self, handle: int) -> list[dict[str, Any]]:
        return self._card(handle, "amdsmi_get_gpu_process_list").processes

    def amdsmi_get_violation_status(self, handle: int) -> dict[str, Any]:
        return self._card(handle, "amdsmi_get_violation_status").violations
