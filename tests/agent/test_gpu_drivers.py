"""The contract of `Driver`, on every implementation: NVML over its stub, amdsmi's twin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from heteroscale.words import GpuHealth
from heteroscale_agent.model import GpuReading
from heteroscale_agent.probes.gpu import GpuError
from heteroscale_workbench.nvml_stub import STATE_VARIABLE
from tests.agent.gpu_rigs import PIDS, TOTAL, AmdRig, NvmlRig, Rig


@pytest.fixture(params=["nvml", "amd"])
def rig(
    request: pytest.FixtureRequest,
    nvml_library: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Rig]:
    made: Rig
    if request.param == "nvml":
        monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "gpus.state"))
        made = NvmlRig(nvml_library, tmp_path / "gpus.state")
    else:
        made = AmdRig()
    yield made
    made.driver.close()


def known(reading: GpuReading) -> dict[str, Any]:
    return {name: value for name, value in asdict(reading).items() if value not in (None, ())}


def twice(rig: Rig) -> tuple[GpuReading, ...]:
    """Read often enough for what is asked of one GPU at a time, in turn."""
    rig.driver.read()
    return rig.driver.read()


def test_what_stands_there(rig: Rig) -> None:
    first, second = rig.driver.open()
    assert (first.index, second.index) == (0, 1)
    assert first.uuid.startswith("GPU-")
    assert first.uuid != second.uuid
    assert (first.type, first.memory_bytes) == (rig.type, TOTAL << 20)
    assert first.pci_address.startswith("0000:")
    assert rig.driver.version
    assert not rig.driver.changed()


def test_what_a_gpu_at_work_says(rig: Rig) -> None:
    rig.driver.open()
    busy, idle = twice(rig)
    said = known(busy)
    assert {name: said[name] for name in rig.shows} == rig.shows
    assert (busy.health, idle.health) == (GpuHealth.OK, GpuHealth.OK)
    assert [(one.pid, one.memory_bytes) for one in busy.processes] == [
        (pid, 20_000 << 20) for pid in PIDS
    ]
    assert (idle.utilization_percent, idle.process_count, idle.processes) == (0, 0, ())


def test_what_is_not_supported_is_unknown_and_no_fault(rig: Rig) -> None:
    rig.forget()
    rig.driver.open()
    assert known(twice(rig)[0]) == rig.bare


def test_a_gpu_that_falls_off_the_bus_is_lost_alone(rig: Rig) -> None:
    rig.driver.open()
    rig.lose(0)
    lost, other = rig.driver.read()
    assert known(lost) == {"health": "lost"}
    assert (other.health, other.utilization_percent) == (GpuHealth.OK, 0)
    rig.heal(0)
    assert rig.driver.read()[0].utilization_percent == 37


def test_a_gpu_lost_from_the_start_keeps_its_place(rig: Rig) -> None:
    rig.lose(0)
    first, second = rig.driver.open()
    assert (first.uuid, first.index, second.index) == ("", 0, 1)
    lost, other = rig.driver.read()
    assert (lost.health, other.health) == (GpuHealth.LOST, GpuHealth.OK)


def test_a_driver_that_fails_makes_an_error_and_no_values(rig: Rig) -> None:
    rig.driver.open()
    rig.break_down(1)
    fine, broken = rig.driver.read()
    assert known(broken).keys() - {"xid_count", "last_xid"} == {"health"}
    assert (fine.health, broken.health) == (GpuHealth.OK, GpuHealth.ERROR)


def test_what_cannot_be_is_unknown(rig: Rig) -> None:
    rig.exaggerate()
    rig.driver.open()
    reading = rig.driver.read()[0]
    assert reading.utilization_percent is None
    assert reading.memory_used_bytes is None
    assert reading.temperature_celsius is None
    assert reading.power_watts is None
    assert reading.sm_clock_mhz is None
    assert (reading.memory_utilization_percent, reading.process_count) == (20, 2)


def test_it_is_opened_again_after_it_was_closed(rig: Rig) -> None:
    first = rig.driver.open()
    rig.driver.close()
    assert rig.driver.read() == ()
    rig.driver.close()
    assert rig.driver.open() == first
    assert rig.driver.read()[0].utilization_percent == 37


def test_without_a_driver_it_says_so_and_can_be_tried_again(rig: Rig) -> None:
    rig.unload()
    for _ in range(2):
        with pytest.raises(GpuError, match=r"(?i)driver.not.loaded"):
            rig.driver.open()
        rig.driver.close()
