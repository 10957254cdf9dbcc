"""What only NVML tells: GPM, links, throttling, events, MIG, processes; over the stub."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml
import pytest

from heteroscale.words import GpuHealth
from heteroscale_agent.model import (
    THROTTLE_HARDWARE,
    THROTTLE_HEAT,
    THROTTLE_OTHER,
    THROTTLE_POWER,
    GpuReading,
)
from heteroscale_agent.probes.gpu.board import SLOW_PERIOD
from heteroscale_agent.probes.gpu.nvml import NvmlDriver
from heteroscale_agent.probes.gpu.usage import SETTLE
from heteroscale_workbench.nvml_stub import STATE_VARIABLE, StubGpu, StubMig, StubState

DEADLINE = 20.0


@dataclass
class Host:
    """GPUs of the stub, and a driver that reads them on a clock moved by hand."""

    state: StubState
    driver: NvmlDriver
    now: float = 1000.0

    def open(self, *gpus: StubGpu) -> Any:
        self.state.gpus = list(gpus)
        self.state.write()
        return self.driver.open()

    def change(self, index: int, **values: Any) -> None:
        self.state.change(index, **values)
        self.state.write()

    def read(self, after: float = 1.0) -> tuple[GpuReading, ...]:
        self.now += after
        return self.driver.read()


@pytest.fixture
def host(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    state = StubState(tmp_path / "gpus.state", [])
    monkeypatch.setenv(STATE_VARIABLE, str(state.path))
    driver = NvmlDriver(library=nvml_library, clock=lambda: made.now)
    made = Host(state, driver)
    yield made
    driver.close()


def live_samples() -> int:
    return int(pynvml.nvmlLib.nvmlStubLiveSamples())


def test_gpm_tells_from_the_second_reading_on(host: Host) -> None:
    host.open(
        StubGpu(
            sm_activity_percent=41.5,
            dram_activity_percent=30.25,
            tensor_activity_percent=12.0,
            pcie_mib_per_s=(100.0, 50.0),
            nvlink_mib_per_s=(9000.0, 8000.0),
            pcie_kb_per_s=(1, 1),
        )
    )
    (first,) = host.read()
    (second,) = host.read()
    assert (first.sm_activity_percent, first.pcie_sent_mib_per_s) == (None, None)
    assert (second.sm_activity_percent, second.dram_activity_percent) == (41.5, 30.25)
    assert second.tensor_activity_percent == 12.0
    assert (second.pcie_received_mib_per_s, second.pcie_sent_mib_per_s) == (100.0, 50.0)
    assert (second.nvlink_received_mib_per_s, second.nvlink_sent_mib_per_s) == (9000.0, 8000.0)


@pytest.mark.parametrize("value", [float("nan"), -1.0, 250.0, float("inf")])
def test_an_activity_that_cannot_be_is_unknown_alone(host: Host, value: float) -> None:
    host.open(StubGpu(sm_activity_percent=value, dram_activity_percent=5.0))
    host.read()
    (reading,) = host.read()
    assert (reading.sm_activity_percent, reading.dram_activity_percent) == (None, 5.0)
    assert reading.health is GpuHealth.OK


def test_gpm_without_nvlink(host: Host) -> None:
    host.open(StubGpu(sm_activity_percent=3.0, unsupported=frozenset({"nvlink"})))
    host.read()
    (reading,) = host.read()
    assert (reading.sm_activity_percent, reading.nvlink_sent_mib_per_s) == (3.0, None)


def test_gpm_that_stops_gives_nothing_until_it_has_two_samples_again(host: Host) -> None:
    gpu = StubGpu(sm_activity_percent=3.0)
    host.open(gpu)
    host.read()
    host.change(0, unsupported=frozenset({"gpm"}))
    assert host.read()[0].sm_activity_percent is None
    host.change(0, unsupported=frozenset())
    assert host.read()[0].sm_activity_percent is None
    assert host.read()[0].sm_activity_percent == 3.0


def test_samples_are_freed(host: Host) -> None:
    for _ in range(3):
        host.open(StubGpu(), StubGpu(mig=(StubMig(), StubMig(gpu_instance=2))))
        host.read()
        host.read()
        assert live_samples() == 6
        host.driver.close()
        assert live_samples() == 0


OLDER = frozenset({"gpm"})


def test_before_gpm_one_gpus_pcie_is_asked_a_reading(host: Host) -> None:
    older = StubGpu(pcie_kb_per_s=(2048, 1024), unsupported=OLDER)
    host.open(older, older)
    rates = [[one.pcie_received_mib_per_s for one in host.read()] for _ in range(2)]
    assert sorted(rates[0], key=str) == [2.0, None]
    assert rates[1] == [2.0, 2.0]
    host.change(0, pcie_kb_per_s=(4096, 0))
    host.change(1, pcie_kb_per_s=(4096, 0))
    assert sorted(one.pcie_received_mib_per_s or 0 for one in host.read()) == [2.0, 4.0]


def test_before_gpm_nvlink_is_the_rate_of_its_counters(host: Host) -> None:
    host.open(StubGpu(nvlink_kib=(1000, 5000), unsupported=OLDER))
    assert host.read()[0].nvlink_received_mib_per_s is None
    host.change(0, nvlink_kib=(1000 + 3 * 1024, 5000 + 2048))
    (reading,) = host.read(after=2.0)
    assert (reading.nvlink_received_mib_per_s, reading.nvlink_sent_mib_per_s) == (1.5, 1.0)
    host.change(0, nvlink_kib=(0, 7048))
    (reset,) = host.read()
    assert (reset.nvlink_received_mib_per_s, reset.nvlink_sent_mib_per_s) == (None, 0.0)


def test_before_gpm_without_nvlink(host: Host) -> None:
    host.open(StubGpu(pcie_kb_per_s=(1024, 0), unsupported=OLDER | {"nvlink"}))
    host.read()
    (reading,) = host.read()
    assert (reading.nvlink_sent_mib_per_s, reading.pcie_received_mib_per_s) == (None, 1.0)


@pytest.mark.parametrize(
    ("reasons", "ours"),
    [
        (0x00, 0),
        (0x01, 0),  # idle
        (0x02, 0),  # clocks that somebody has set
        (0x04, THROTTLE_POWER),
        (0x20, THROTTLE_HEAT),
        (0x48, THROTTLE_HEAT | THROTTLE_HARDWARE),
        (0x88, THROTTLE_HARDWARE),
        (0x10, THROTTLE_OTHER),
        (0x124, THROTTLE_POWER | THROTTLE_HEAT | THROTTLE_OTHER),
        (1 << 40, 0),
    ],
)
def test_what_holds_the_clocks_down(host: Host, reasons: int, ours: int) -> None:
    host.open(StubGpu(throttle_reasons=reasons))
    assert host.read()[0].throttle == ours


def test_memory_that_cannot_be_repaired_is_an_error_one_that_waits_is_none(host: Host) -> None:
    host.open(StubGpu(remap_pending=True), StubGpu(remap_failed=True))
    assert [one.health for one in host.read()] == [GpuHealth.OK, GpuHealth.ERROR]
    assert host.read()[1].utilization_percent == 0


def test_error_counters_are_looked_at_now_and_then(host: Host) -> None:
    host.open(StubGpu())
    host.read()
    host.change(0, ecc_corrected=9)
    assert host.read()[0].ecc_corrected == 0
    assert host.read(after=SLOW_PERIOD)[0].ecc_corrected == 9


# ---- processes ----


def test_processes_shares_are_those_since_the_last_reading(host: Host) -> None:
    host.open(StubGpu(pids=(7, 8), utilization_percent=60, memory_used_mib=100))
    assert [one.sm_percent for one in host.read()[0].processes] == [None, None]
    (reading,) = host.read()
    assert [(p.pid, p.memory_bytes, p.sm_percent) for p in reading.processes] == [
        (7, 50 << 20, 30.0),
        (8, 50 << 20, 30.0),
    ]


def test_a_process_without_samples_is_idle_after_a_while(host: Host) -> None:
    host.open(StubGpu(pids=(7,), utilization_percent=60, process_time_us=1000))
    assert host.read()[0].processes[0].sm_percent is None
    assert host.read(after=1.0)[0].processes[0].sm_percent is None
    assert host.read(after=SETTLE)[0].processes[0].sm_percent == 0.0
    host.change(0, process_time_us=2000)
    assert host.read()[0].processes[0].sm_percent == 60.0


def test_what_the_driver_does_not_tell_of_processes_is_unknown(host: Host) -> None:
    gone = frozenset({"process_memory", "process_utilization"})
    host.open(StubGpu(pids=(7,), utilization_percent=60, unsupported=gone))
    host.read()
    (reading,) = host.read(after=2 * SETTLE)
    (process,) = reading.processes
    assert (process.memory_bytes, process.sm_percent) == (None, None)
    assert (reading.process_count, reading.health) == (1, GpuHealth.OK)


# ---- events ----


def heard(host: Host, count: int, index: int = 0) -> GpuReading:
    """Read until so many Xids were heard of: a thread hears them."""
    began = time.monotonic()
    while True:
        reading = host.read()[index]
        if reading.xid_count == count:
            return reading
        assert time.monotonic() - began < DEADLINE, reading


def test_xids_are_counted_for_each_gpu_also_over_a_new_list(host: Host) -> None:
    host.open(StubGpu(), StubGpu(unsupported=frozenset({"events"})))
    first, second = host.read()
    assert (first.xid_count, first.last_xid) == (0, 0)
    assert (second.xid_count, second.last_xid) == (None, None)
    host.change(0, xid=13)
    assert heard(host, 1).last_xid == 13
    host.change(0, xid=79)
    assert heard(host, 2).last_xid == 79
    host.driver.close()
    host.driver.open()
    assert heard(host, 2).last_xid == 79


def test_the_thread_that_waits_ends_with_the_driver(host: Host) -> None:
    host.open(StubGpu())
    assert "gpu-events" in {thread.name for thread in threading.enumerate()}
    host.driver.close()
    assert "gpu-events" not in {thread.name for thread in threading.enumerate()}


# ---- MIG ----


def test_a_gpu_in_mig_mode_is_its_mig_devices(host: Host) -> None:
    parts = (
        StubMig("3g.40gb", gpu_instance=1, memory_total_mib=40_448),
        StubMig("1g.10gb", gpu_instance=9),
    )
    gpu = StubGpu(name="NVIDIA H100 80GB HBM3", memory_total_mib=81_559, mig=parts)
    first, second, third = host.open(gpu, StubGpu())
    assert [one.type for one in (first, second, third)] == ["H100-3g.40gb", "H100-1g.10gb", "H20"]
    assert (first.partition, first.memory_bytes) == ("3g.40gb", 40_448 << 20)
    assert first.parent_uuid == "GPU-00000000-0000-4000-8000-000000000000"
    assert first.uuid.startswith("MIG-")
    assert first.pci_address == second.pci_address == "0000:10:00.0"
    assert (third.partition, third.parent_uuid) == ("", "")


@pytest.mark.parametrize(
    ("slices", "mib", "profile"),
    [((1, 1), 9_856, "1g.10gb"), ((3, 3), 40_320, "3g.40gb"), ((3, 1), 40_320, "1c.3g.40gb")],
)
def test_a_profile_follows_from_the_slices_where_the_name_does_not_say(
    host: Host, slices: tuple[int, int], mib: int, profile: str
) -> None:
    part = StubMig(
        name="NVIDIA H100 80GB HBM3",
        gpu_slices=slices[0],
        compute_slices=slices[1],
        memory_total_mib=mib,
    )
    (seen,) = host.open(StubGpu(name="NVIDIA H100 80GB HBM3", memory_total_mib=81_559, mig=(part,)))
    assert seen.partition == profile


def test_a_mig_device_has_its_own_memory_processes_and_activity(host: Host) -> None:
    parts = (
        StubMig(gpu_instance=4, memory_used_mib=500, pids=(7,), sm_activity_percent=80.0),
        StubMig(gpu_instance=5, sm_activity_percent=1.0),
    )
    host.open(StubGpu(mig=parts, utilization_percent=99, power_milliwatts=200_000, ecc_corrected=3))
    host.read()
    first, second = host.read()
    assert (first.memory_used_bytes, first.process_count) == (500 << 20, 1)
    assert (first.sm_activity_percent, second.sm_activity_percent) == (80.0, 1.0)
    assert (second.memory_used_bytes, second.process_count) == (0, 0)
    for one in (first, second):
        assert (one.utilization_percent, one.memory_utilization_percent) == (None, None)
        assert (one.power_watts, one.temperature_celsius, one.ecc_corrected) == (200.0, 35, 3)
        assert one.health is GpuHealth.OK


def test_an_xid_of_a_mig_device_is_its_own_one_of_the_gpu_is_everybodys(host: Host) -> None:
    host.open(StubGpu(mig=(StubMig(gpu_instance=4), StubMig(gpu_instance=5))))
    host.read()
    host.change(0, xid=13, xid_instance=5)
    assert heard(host, 1, index=1).last_xid == 13
    assert host.read()[0].xid_count == 0
    host.change(0, xid=48, xid_instance=None)
    assert heard(host, 1, index=0).last_xid == 48
    assert heard(host, 2, index=1).last_xid == 48


def test_a_gpu_split_into_nothing_is_nothing_to_hold(host: Host) -> None:
    (seen,) = host.open(StubGpu(mig=()), StubGpu(name="NVIDIA L20"))
    assert seen.type == "L20"
    assert len(host.read()) == 1


def test_a_mig_device_that_is_taken_away_is_lost_and_the_list_is_another(host: Host) -> None:
    host.open(StubGpu(mig=(StubMig(), StubMig(gpu_instance=1))))
    assert not host.driver.changed()
    host.change(0, mig=(StubMig(),))
    assert [one.health for one in host.read()] == [GpuHealth.OK, GpuHealth.LOST]
    assert host.driver.changed()
