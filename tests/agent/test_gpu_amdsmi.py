"""AMD's own binding, over a C stub of its library: names, shapes and errors are the real ones."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from tests.agent.stub_process import run_script

STUB = Path(__file__).with_name("amd_stub.c")

READ = """
import dataclasses, json
from heteroscale_agent.probes.gpu import GpuProbe
probe = GpuProbe(source="amd")
probe.open()
probe.read()
readings = [
    {name: value for name, value in dataclasses.asdict(reading).items() if value not in (None, ())}
    for reading in probe.read()
]
gpus = [[one.index, one.uuid, one.type, one.pci_address, one.visible] for one in probe.gpus]
version = probe.driver_version
probe.close()
print(json.dumps({"gpus": gpus, "readings": readings, "version": version}))
"""

OPEN = """
import json
from heteroscale_agent.probes.gpu import GpuError, GpuProbe
try:
    GpuProbe(source="amd").open()
except GpuError as error:
    print(json.dumps(str(error)))
"""


def build(rocm: Path, *, whole: bool = True) -> None:
    """Compile the stub to where ROCm has its library; `whole`: with all that the binding binds."""
    spec = importlib.util.find_spec("amdsmi")
    assert spec is not None
    assert spec.origin is not None
    wrapper = Path(spec.origin).with_name("amdsmi_wrapper.py").read_text()
    wanted = set(re.findall(r"_libraries\['libamd_smi.so'\]\.(\w+)", wrapper))
    source = STUB.read_text()
    missing = sorted(wanted - set(re.findall(r"^int (\w+)\(", source, re.MULTILINE)))
    assert len(missing) > 100, "the binding binds its library another way now"
    if whole:
        source += "".join(f"int {name}(void) {{ return NOT_SUPPORTED; }}\n" for name in missing)
    (rocm / "lib").mkdir(parents=True)
    (rocm / "stub.c").write_text(source)
    library = rocm / "lib" / "libamd_smi.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(rocm / "stub.c")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_the_real_binding_says_what_the_library_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path / "rocm")
    monkeypatch.setenv("ROCM_PATH", str(tmp_path / "rocm"))
    seen = run_script(READ, tmp_path / "none")
    assert seen["version"] == "6.12.12"
    # In ROCm's own order, so that its numbers are the indices.
    assert seen["gpus"] == [
        [0, "GPU-bbbb", "MI300X", "0000:0d:00.0", ""],
        [1, "GPU-aaaa", "MI300X", "0000:0c:00.0", ""],
    ]
    gone, busy = seen["readings"]
    assert gone == {"health": "lost"}
    assert busy == {
        "health": "ok",
        "utilization_percent": 37,
        "memory_used_bytes": 40_000 << 20,
        "power_watts": 350,
        "temperature_celsius": 55,
        "sm_clock_mhz": 2100,
        "memory_clock_mhz": 1300,
        "ecc_corrected": 7,
        "ecc_uncorrected": 2,
        "process_count": 1,
        "processes": [{"pid": 101, "memory_bytes": 20_000 << 20, "sm_percent": None}],
    }


def test_without_its_library_it_is_not_even_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROCM_PATH", str(tmp_path))
    said = run_script(OPEN, tmp_path / "none")
    assert said == "amdsmi: there is no libamd_smi.so (of ROCm's package amd-smi-lib)"


def test_a_library_that_is_too_old_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path / "rocm", whole=False)
    monkeypatch.setenv("ROCM_PATH", str(tmp_path / "rocm"))
    assert "undefined symbol" in run_script(OPEN, tmp_path / "none")
