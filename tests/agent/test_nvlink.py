"""Which GPUs reach each other by NVLink: what pairs tell, and what is not known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from heteroscale_agent.model import Gpu, Inventory
from heteroscale_agent.probes.gpu.nvlink import groups
from heteroscale_agent.probes.gpu.nvml import NvmlDriver
from heteroscale_agent.probes.gpu.seats import Seats
from heteroscale_agent.wire.facts import inventory_message
from heteroscale_workbench.nvml_stub import STATE_VARIABLE, StubGpu, StubMig, StubState


def told(*pairs: str, unknown: tuple[str, ...] = (), gpus: str = "abcd") -> list[int | None]:
    """Return the groups of GPUs by name, of which some pairs are linked and of some nobody tells."""

    def ask(one: str, other: str) -> bool | None:
        return None if one + other in unknown else one + other in pairs

    return groups([None if name == "-" else name for name in gpus], ask)


def test_bridges_make_pairs_a_switch_one_group_and_nothing_leaves_each_alone() -> None:
    assert told("ab", "cd") == [0, 0, 2, 2]
    assert told("ab", "ac", "ad", "bc", "bd", "cd") == [0, 0, 0, 0]
    assert told() == [0, 1, 2, 3]
    assert told(gpus="") == []


def test_who_is_reached_over_a_third_is_of_the_group() -> None:
    assert told("ab", "bd") == [0, 0, 2, 0]
    assert told("cd", "bd", "ac") == [0, 0, 0, 0]


def test_a_pair_that_nobody_tells_of_leaves_both_their_groups_unknown() -> None:
    assert told("ab", unknown=("bc",)) == [None, None, None, 3]
    assert told("ab", "ac", unknown=("bc",)) == [0, 0, 0, 3], (
        "they are of one group whatever it says"
    )


def test_who_is_not_asked_has_no_group_and_takes_none_from_the_others() -> None:
    assert told("ab", gpus="ab-d") == [0, 0, None, 3]


@pytest.fixture
def stub(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubState:
    state = StubState(tmp_path / "gpus.state", [])
    monkeypatch.setenv(STATE_VARIABLE, str(state.path))
    return state


def listed(state: StubState, library: Path, *gpus: StubGpu) -> tuple[Gpu, ...]:
    state.gpus = list(gpus)
    state.write()
    driver = NvmlDriver(library=library)
    try:
        return driver.open()
    finally:
        driver.close()


def test_nvml_tells_of_each_pair(stub: StubState, nvml_library: Path) -> None:
    bridged = [StubGpu(nvlink_group=number // 2) for number in range(4)]
    assert [gpu.nvlink_group for gpu in listed(stub, nvml_library, *bridged)] == [0, 0, 2, 2]
    silent = [StubGpu(), StubGpu()]
    assert [gpu.nvlink_group for gpu in listed(stub, nvml_library, *silent)] == [None, None]


def test_a_gpu_that_is_split_has_no_group_and_the_others_keep_theirs(
    stub: StubState, nvml_library: Path
) -> None:
    split = StubGpu(mig=(StubMig(),))
    found = listed(stub, nvml_library, StubGpu(nvlink_group=0), split, StubGpu(nvlink_group=0))
    assert [gpu.nvlink_group for gpu in found] == [0, None, 0]


def test_the_group_is_told_and_outlives_the_agent(tmp_path: Path) -> None:
    gpu = Gpu(0, "GPU-0", "NVIDIA H20", "H20", 1 << 30, nvlink_group=2)
    message = inventory_message(Inventory(gpus=(gpu, replace(gpu, nvlink_group=None))))
    known, unknown = message.gpus
    assert (known.nvlink_group, unknown.HasField("nvlink_group")) == (2, False)
    Seats(tmp_path / "seats").seat([gpu], set())
    lost = Gpu(0, "", "", "", 0)
    (seat,) = Seats(tmp_path / "seats").seat([lost], {0})
    assert seat.gpu.nvlink_group == 2
