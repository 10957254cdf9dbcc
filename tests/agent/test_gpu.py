"""GPUs through the real NVML binding and the stub of the driver's library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heteroscale_agent.probes.gpu import short_type
from heteroscale_workbench.nvml_stub import (
    GPU_IS_LOST,
    UNKNOWN_ERROR,
    StubGpu,
    StubState,
    build,
)
from tests.agent.stub_process import run_script

READ = """
import json, sys, dataclasses
from pathlib import Path
from heteroscale_agent.probes.gpu import GpuProbe
probe = GpuProbe(library=Path(sys.argv[1]), types={"NVIDIA Odd 9": "odd"})
probe.open()
readings = [dataclasses.asdict(reading) for reading in probe.read()]
gpus = [dataclasses.asdict(gpu) for gpu in probe.gpus]
print(json.dumps({"gpus": gpus, "readings": readings, "driver": probe.driver_version}))
probe.close()
"""

LOSE = """
import json, sys
from pathlib import Path
from heteroscale_agent.probes.gpu import GpuProbe
from heteroscale_workbench.nvml_stub import GPU_IS_LOST, StubGpu, StubState
state = StubState(Path(sys.argv[2]), [StubGpu(utilization_percent=37), StubGpu()])
probe = GpuProbe(library=Path(sys.argv[1]))
seen = []
def look():
    state.write()
    seen.append([[reading.health, reading.utilization_percent] for reading in probe.read()])
state.write()
probe.open()
look()
state.change(0, utilization_percent=90)
look()
state.change(1, return_code=GPU_IS_LOST)
look()
state.change(1, return_code=0)
look()
print(json.dumps(seen))
"""

OPEN = """
import json, sys
from pathlib import Path
from heteroscale_agent.probes.gpu import GpuError, GpuProbe
try:
    GpuProbe(library=Path(sys.argv[1])).open()
except GpuError as error:
    print(json.dumps(str(error)))
"""


def read(library: Path, tmp_path: Path, *gpus: StubGpu) -> Any:
    state = StubState(tmp_path / "gpus.state", gpus)
    state.write()
    return run_script(READ, state.path, str(library))


def test_everything_a_healthy_gpu_says(nvml_library: Path, tmp_path: Path) -> None:
    gpu = StubGpu(
        name="NVIDIA H100 80GB HBM3",
        utilization_percent=37,
        memory_utilization_percent=20,
        memory_used_mib=40_000,
        memory_total_mib=81_559,
        power_milliwatts=350_500,
        temperature_celsius=55,
        ecc_uncorrected=2,
        pids=(101, 202),
    )
    seen = read(nvml_library, tmp_path, StubGpu(), gpu)
    assert seen["driver"] == "580.65.06"
    facts = seen["gpus"][1]
    assert (facts["index"], facts["type"], facts["name"]) == (1, "H100", "NVIDIA H100 80GB HBM3")
    assert facts["uuid"] == "GPU-00000001-0000-4000-8000-000000000000"
    assert facts["memory_bytes"] == 81_559 << 20
    assert facts["pci_address"] == "0000:11:00.0"
    known = {name: value for name, value in seen["readings"][1].items() if value is not None}
    assert known == {
        "health": "ok",
        "utilization_percent": 37,
        "memory_utilization_percent": 20,
        "memory_used_bytes": 40_000 << 20,
        "power_watts": 350.5,
        "temperature_celsius": 55,
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "throttle": 0,
        "ecc_uncorrected": 2,
        "ecc_corrected": 0,
        "xid_count": 0,
        "last_xid": 0,
        "process_count": 2,
        "processes": [
            {"pid": pid, "memory_bytes": 20_000 << 20, "sm_percent": None} for pid in (101, 202)
        ],
    }


def test_calls_not_supported_are_unknown_and_no_fault(nvml_library: Path, tmp_path: Path) -> None:
    gpu = StubGpu(utilization_percent=5, unsupported=frozenset({"ecc", "power", "processes"}))
    (seen,) = read(nvml_library, tmp_path, gpu)["readings"]
    assert seen["health"] == "ok"
    assert seen["utilization_percent"] == 5
    assert (seen["ecc_uncorrected"], seen["power_watts"], seen["process_count"]) == (None,) * 3


def test_a_driver_without_the_newer_calls(tmp_path: Path) -> None:
    older = build(
        tmp_path / "older",
        without=(
            "nvmlDeviceGetMemoryInfo_v2",
            "nvmlDeviceGetTotalEccErrors",
            "nvmlDeviceGetComputeRunningProcesses_v3",
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetRemappedRows",
            "nvmlDeviceGetMigMode",
            "nvmlDeviceGetPcieThroughput",
            "nvmlDeviceGetProcessUtilization",
            "nvmlGpmQueryDeviceSupport",
        ),
    )
    gpu = StubGpu(memory_used_mib=7, throttle_reasons=4, nvlink_kib=(1, 2))
    (seen,) = read(older, tmp_path, gpu)["readings"]
    assert (seen["health"], seen["memory_used_bytes"], seen["throttle"]) == ("ok", 7 << 20, 1)
    assert (seen["ecc_uncorrected"], seen["process_count"]) == (None, None)
    assert (seen["sm_activity_percent"], seen["pcie_sent_mib_per_s"]) == (None, None)


def test_a_driver_that_knows_gpm_by_half(tmp_path: Path) -> None:
    halved = build(tmp_path / "half", without=("nvmlGpmSampleAlloc",))
    (seen,) = read(halved, tmp_path, StubGpu(utilization_percent=5))["readings"]
    assert (seen["health"], seen["utilization_percent"]) == ("ok", 5)
    assert seen["sm_activity_percent"] is None


def test_a_gpu_lost_at_the_start_keeps_its_place(nvml_library: Path, tmp_path: Path) -> None:
    seen = read(nvml_library, tmp_path, StubGpu(return_code=GPU_IS_LOST), StubGpu())
    assert [gpu["type"] for gpu in seen["gpus"]] == ["unknown", "H20"]
    assert [reading["health"] for reading in seen["readings"]] == ["lost", "ok"]
    assert seen["readings"][0]["utilization_percent"] is None


def test_a_gpu_in_error(nvml_library: Path, tmp_path: Path) -> None:
    (seen,) = read(nvml_library, tmp_path, StubGpu(return_code=UNKNOWN_ERROR))["readings"]
    assert (seen["health"], seen["utilization_percent"]) == ("error", None)


def test_absurd_values_are_unknown(nvml_library: Path, tmp_path: Path) -> None:
    gpu = StubGpu(
        utilization_percent=4_000_000_000,
        memory_used_mib=200_000,
        temperature_celsius=60_000,
        power_milliwatts=4_000_000_000,
        memory_utilization_percent=100,
    )
    (seen,) = read(nvml_library, tmp_path, gpu)["readings"]
    assert seen["utilization_percent"] is seen["memory_used_bytes"] is None
    assert seen["temperature_celsius"] is seen["power_watts"] is None
    assert seen["memory_utilization_percent"] == 100


def test_a_gpu_is_lost_and_comes_back(nvml_library: Path, tmp_path: Path) -> None:
    path = tmp_path / "gpus.state"
    assert run_script(LOSE, path, str(nvml_library), str(path)) == [
        [["ok", 37], ["ok", 0]],
        [["ok", 90], ["ok", 0]],
        [["ok", 90], ["lost", None]],
        [["ok", 90], ["ok", 0]],
    ]


def test_no_driver(nvml_library: Path, tmp_path: Path) -> None:
    assert "Driver Not Loaded" in run_script(OPEN, tmp_path / "missing", str(nvml_library))


def test_no_library(tmp_path: Path) -> None:
    assert "cannot load" in run_script(OPEN, tmp_path / "missing", str(tmp_path / "none.so"))


def test_configured_types_come_first(nvml_library: Path, tmp_path: Path) -> None:
    seen = read(nvml_library, tmp_path, StubGpu(name="NVIDIA Odd 9"))
    assert seen["gpus"][0]["type"] == "odd"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("NVIDIA H20", "H20"),
        ("NVIDIA L20", "L20"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA RTX A6000", "A6000"),
        ("NVIDIA RTX PRO 6000 Blackwell", "RTXPRO6000"),
        ("AMD Instinct MI300X", "MI300X"),
        ("AMD Radeon PRO W7900", "W7900"),
        ("", "unknown"),
    ],
)
def test_short_types(name: str, short: str) -> None:
    assert short_type(name) == short
