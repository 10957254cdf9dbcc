"""GPUs that a test can change, behind each driver: NVML's stub, and the twin of amdsmi."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from heteroscale_agent.probes.gpu.amd import AmdDriver
from heteroscale_agent.probes.gpu.nvml import NvmlDriver
from heteroscale_agent.probes.gpu.port import Driver
from heteroscale_workbench.nvml_stub import GPU_IS_LOST, UNKNOWN_ERROR, StubGpu, StubState
from tests.agent.amd_twin import AmdSmi, Card, process

TOTAL = 80_000
PIDS = (101, 202)


class Rig(Protocol):
    """Two GPUs of 80,000 MiB, the first at work.

    `shows` is what its reading must hold, `bare` all that is left of it after `forget`.
    """

    driver: Driver
    shows: dict[str, Any]
    bare: dict[str, Any]
    type: str

    def lose(self, index: int) -> None: ...
    def break_down(self, index: int) -> None: ...
    def heal(self, index: int) -> None: ...
    def unload(self) -> None: ...
    def forget(self) -> None:
        """Let the first GPU support nothing but its utilization."""

    def exaggerate(self) -> None:
        """Let the first GPU say what cannot be."""


class NvmlRig:
    """Real nvidia-ml-py over the stub; the environment variable must name `state`."""

    type = "H20"
    bare: dict[str, Any] = {
        "health": "ok",
        "utilization_percent": 37,
        "memory_utilization_percent": 20,
    }
    shows: dict[str, Any] = {
        "utilization_percent": 37,
        "memory_utilization_percent": 20,
        "memory_used_bytes": 40_000 << 20,
        "power_watts": 350.5,
        "temperature_celsius": 55,
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "throttle": 1,
        "ecc_uncorrected": 2,
        "ecc_corrected": 7,
        "process_count": 2,
    }

    def __init__(self, library: Path, state: Path) -> None:
        busy = StubGpu(
            utilization_percent=37,
            memory_utilization_percent=20,
            memory_used_mib=40_000,
            memory_total_mib=TOTAL,
            power_milliwatts=350_500,
            temperature_celsius=55,
            throttle_reasons=4,
            ecc_uncorrected=2,
            ecc_corrected=7,
            pids=PIDS,
        )
        self.state = StubState(state, [busy, StubGpu(memory_total_mib=TOTAL)])
        self.state.write()
        self.driver: Driver = NvmlDriver(library=library)

    def _change(self, index: int, **values: Any) -> None:
        self.state.change(index, **values)
        self.state.write()

    def lose(self, index: int) -> None:
        self._change(index, return_code=GPU_IS_LOST)

    def break_down(self, index: int) -> None:
        self._change(index, return_code=UNKNOWN_ERROR)

    def heal(self, index: int) -> None:
        self._change(index, return_code=0)

    def unload(self) -> None:
        self.state.path.unlink()

    def forget(self) -> None:
        gone = {"memory", "power", "temperature", "clocks", "throttle", "ecc", "processes"}
        gone |= {"remapped_rows", "gpm", "pcie", "fields", "events", "mig"}
        self._change(0, unsupported=frozenset(gone))

    def exaggerate(self) -> None:
        self._change(
            0,
            utilization_percent=4_000_000_000,
            memory_used_mib=200_000,
            temperature_celsius=60_000,
            power_milliwatts=4_000_000_000,
            sm_clock_mhz=4_000_000_000,
        )


class AmdRig:
    """Our driver over a twin of the module amdsmi."""

    type = "MI300X"
    bare: dict[str, Any] = {"health": "ok", "utilization_percent": 37}
    shows: dict[str, Any] = {
        **NvmlRig.shows,
        "sm_clock_mhz": 2100,
        "memory_clock_mhz": 1300,
        "power_watts": 350,
    }

    def __init__(self) -> None:
        busy = Card(
            activity={"gfx_activity": 37, "umc_activity": 20, "mm_activity": "N/A"},
            vram_total=TOTAL,
            vram_used=40_000,
            power={"socket_power": 0, "current_socket_power": 350, "average_socket_power": "N/A"},
            hotspot=55,
            ecc=(7, 2),
            processes=[process(pid, 20_000 << 20) for pid in PIDS],
            violations={"active_ppt_pwr": True, "active_socket_thrm": False},
        )
        idle = Card(uuid="GPU-5a3f9e0000000002", bdf="0000:0d:00.0", hip_id=1, vram_total=TOTAL)
        self.cards = [busy, idle]
        self.smi = AmdSmi(self.cards)
        self.driver: Driver = AmdDriver(load=lambda: self.smi)

    def lose(self, index: int) -> None:
        self.cards[index].fails["all"] = "NOT_FOUND"

    def break_down(self, index: int) -> None:
        self.cards[index].fails["all"] = "UNKNOWN_ERROR"

    def heal(self, index: int) -> None:
        self.cards[index].fails.clear()

    def unload(self) -> None:
        self.smi.cards = None

    def forget(self) -> None:
        card = self.cards[0]
        card.activity["umc_activity"] = "N/A"
        calls = ("gpu_vram_usage", "power_info", "temp_metric", "clock_info", "gpu_process_list")
        more = ("gpu_total_ecc_count", "violation_status")
        card.fails |= {f"amdsmi_get_{call}": "NOT_SUPPORTED" for call in calls + more}

    def exaggerate(self) -> None:
        card = self.cards[0]
        card.activity["gfx_activity"] = 4_000_000_000
        card.vram_used, card.hotspot = 200_000, 60_000
        card.power = dict.fromkeys(card.power, 4_000_000_000)
        card.clocks = dict.fromkeys(card.clocks, 4_000_000_000)
