"""The NVML stub, asked by the real binding, and the writer of its state."""

from __future__ import annotations

from pathlib import Path

import pytest

from heteroscale_workbench.nvml_stub import BuildError, StubGpu, StubState, build
from tests.agent.stub_process import run_script


@pytest.fixture(scope="module")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


ASK = """
import ctypes, json, sys, threading
from pathlib import Path
import pynvml
from heteroscale_workbench.nvml_stub import StubGpu, StubState
# By its SONAME: the binding asks the loader for libnvidia-ml.so.1 and gets what is loaded.
ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(1)
uuid = pynvml.nvmlDeviceGetUUID(handle)
by_uuid = pynvml.nvmlDeviceGetHandleByUUID(uuid)
first, second = pynvml.nvmlDeviceGetMemoryInfo(handle), pynvml.nvmlDeviceGetMemoryInfo(
    handle, version=pynvml.nvmlMemory_v2
)
try:
    pynvml.nvmlDeviceGetFanSpeed(handle)
except pynvml.NVMLError_FunctionNotFound:
    fan = "missing"
events = pynvml.nvmlEventSetCreate()
pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
try:
    pynvml.nvmlEventSetWait_v2(events, 0)
except pynvml.NVMLError_Timeout:
    quiet = True
state = StubState(Path(sys.argv[2]), [StubGpu(), StubGpu(name="NVIDIA L20", xid=79)])
state.write()
event = pynvml.nvmlEventSetWait_v2(events, 10_000)
print(json.dumps({
    "count": pynvml.nvmlDeviceGetCount(), "uuid": uuid,
    "name": pynvml.nvmlDeviceGetName(by_uuid), "used": [first.used, second.used],
    "free": [first.free, second.free], "fan": fan, "quiet": quiet, "xid": event.eventData,
    "driver": pynvml.nvmlSystemGetDriverVersion(),
}))
pynvml.nvmlShutdown()
"""


def test_the_real_binding_finds_what_the_state_says(nvml_library: Path, tmp_path: Path) -> None:
    gpu = StubGpu(name="NVIDIA L20", memory_used_mib=10, memory_total_mib=100)
    state = StubState(tmp_path / "state", [StubGpu(), gpu])
    state.write()
    assert run_script(ASK, state.path, str(nvml_library), str(state.path)) == {
        "count": 2,
        "uuid": "GPU-00000001-0000-4000-8000-000000000000",
        "name": "NVIDIA L20",
        "used": [10 << 20] * 2,
        "free": [90 << 20] * 2,
        "fan": "missing",
        "quiet": True,
        "xid": 79,
        "driver": "580.65.06",
    }


def test_the_state_is_written_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    state = StubState(tmp_path / "state", [StubGpu(), StubGpu(name="NVIDIA H20", pids=(1, 2))])
    state.write()
    state.change(0, utilization_percent=50)
    state.write()
    first, second = state.path.read_text().splitlines()
    assert "util=50" in first.split()
    assert "name=NVIDIA_H20" in second.split()
    assert "pids=1,2" in second.split()
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_misspelt_unsupported_call_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    state = StubState(tmp_path / "state", [StubGpu(unsupported=frozenset({"powwer"}))])
    with pytest.raises(ValueError, match="powwer"):
        state.write()
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_a_compiler_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(BuildError, match="no C compiler found"):
        build(tmp_path / "lib")


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'no headers here' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(BuildError, match="no headers here"):
        build(tmp_path / "lib")


def test_a_built_library_names_itself(nvml_library: Path) -> None:
    assert nvml_library.name == "libnvidia-ml.so.1"
    assert b"libnvidia-ml.so.1\0" in nvml_library.read_bytes()
