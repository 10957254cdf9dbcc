"""GPUs that come, go and come back: indices, what is said of the lost, what is kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heteroscale.words import GpuHealth
from heteroscale_agent.hands.procfs import Stat
from heteroscale_agent.model import Gpu, GpuProcess, GpuReading
from heteroscale_agent.ports import GpuHolder
from heteroscale_agent.probes.gpu import GpuError, GpuProbe
from heteroscale_agent.probes.gpu.probe import LOOK_AGAIN, LOOK_AGAIN_AT_MOST
from heteroscale_agent.probes.gpu.seats import Seats
from heteroscale_agent.probes.gpu.watch import GpuUse, GpuWatch

OK, LOST = GpuHealth.OK, GpuHealth.LOST


def gpu(name: str, number: int = 0, **facts: Any) -> Gpu:
    return Gpu(number, name, "NVIDIA H20", "H20", 1 << 30, pci_address=f"0000:{name}", **facts)


class TwinDriver:
    """A `Driver` of GPUs by name; `present` is what the host has, `listed` what was listed."""

    def __init__(self, *names: str) -> None:
        self.present: list[str] | None = list(names)
        self.listed: list[str] = []
        self.dead: set[str] = set()
        self.parts: dict[str, tuple[str, ...]] = {}
        self.processes: dict[str, tuple[GpuProcess, ...] | None] = {}
        self.opened = self.reads = 0
        self.version = "1.0"

    def open(self) -> tuple[Gpu, ...]:
        self.opened += 1
        if self.present is None:
            raise GpuError("no driver")
        self.listed, gpus = [], []
        for number, name in enumerate(self.present):
            for part in self.parts.get(name, (name,)):
                self.listed.append(part)
                split = {"partition": "1g", "parent_uuid": name} if part != name else {}
                one = replace(gpu(part, number, **split), pci_address=f"0000:{name}")
                dead = name in self.dead
                gpus.append(Gpu(number, "", "", "unknown", 0) if dead else one)
        return tuple(gpus)

    def close(self) -> None:
        self.listed = []

    def read(self) -> tuple[GpuReading, ...]:
        self.reads += 1
        return tuple(self._reading(name) for name in self.listed)

    def _reading(self, name: str) -> GpuReading:
        whole = name.split("/", maxsplit=1)[0]
        if name in self.dead or whole not in (self.present or ()):
            return GpuReading(health=LOST)
        mine = self.processes.get(name, ())
        count = None if mine is None else len(mine)
        return GpuReading(
            power_watts=float(ord(name[0])), process_count=count, processes=mine or ()
        )

    def changed(self) -> bool:
        names = [part for n in self.present or () for part in self.parts.get(n, (n,))]
        return names != self.listed


class Host:
    """A probe over a twin, on a clock moved by hand."""

    def __init__(self, *names: str, seats: Path | None = None) -> None:
        self.now = 0.0
        self.driver = TwinDriver(*names)
        self.file = seats
        self.probe = self.start()

    def start(self) -> GpuProbe:
        """A new agent on the same host."""
        probe = GpuProbe(drivers=[self.driver], seats=self.file, clock=lambda: self.now)
        self.probe = probe
        return probe

    def shows(self, after: float = LOOK_AGAIN) -> dict[int, tuple[str, GpuHealth]]:
        """Look, and return name and health by index."""
        self.now += after
        readings = self.probe.look()
        gpus = self.probe.gpus
        assert len(readings) == len(gpus)
        for one, reading in zip(gpus, readings, strict=True):
            if reading.health is OK and one.uuid:
                assert reading.power_watts == ord(one.uuid[0]), "a reading of another GPU"
        return {
            one.index: (one.uuid, reading.health)
            for one, reading in zip(gpus, readings, strict=True)
        }

    def visible(self) -> list[str]:
        return [one.visible for one in self.probe.gpus]


def test_indices_are_the_drivers_own_as_long_as_nothing_happens() -> None:
    host = Host("a", "b")
    host.probe.open()
    assert host.shows() == {0: ("a", OK), 1: ("b", OK)}
    assert host.visible() == ["", ""]
    assert host.driver.opened == 1, "no list is made anew without need"
    host.driver.reads = 0
    host.shows()
    assert host.driver.reads == 1, "what is measured since the last reading needs time in between"


def test_a_gpu_that_comes_takes_the_next_index() -> None:
    host = Host("a", "c")
    host.probe.open()
    host.driver.present = ["a", "b", "c"]
    assert host.shows(after=LOOK_AGAIN - 1) == {0: ("a", OK), 1: ("c", OK)}
    assert host.shows(after=1) == {0: ("a", OK), 1: ("c", OK), 2: ("b", OK)}
    assert host.visible() == ["a", "c", "b"], "CUDA counts otherwise: uuids name them"


def test_a_lost_gpu_keeps_its_index_and_gets_it_back() -> None:
    host = Host("a", "b", "c")
    host.probe.open()
    host.driver.present = ["b", "c"]
    assert host.shows(after=1)[0] == ("a", LOST)
    assert host.shows() == {0: ("a", LOST), 1: ("b", OK), 2: ("c", OK)}
    assert [one.present for one in host.probe.gpus] == [False, True, True]
    assert host.visible() == ["a", "b", "c"]
    host.driver.present = ["a", "b", "c"]
    host.shows(LOOK_AGAIN_AT_MOST)
    assert host.shows(LOOK_AGAIN_AT_MOST) == {0: ("a", OK), 1: ("b", OK), 2: ("c", OK)}
    assert host.visible() == ["", "", ""]


def test_a_gpu_that_is_listed_and_does_not_answer_keeps_its_place() -> None:
    host = Host("a", "b")
    host.driver.dead = {"a"}
    host.probe.open()
    assert host.shows() == {0: ("", LOST), 1: ("b", OK)}
    host.driver.dead = set()
    host.shows(LOOK_AGAIN_AT_MOST)
    assert host.shows(LOOK_AGAIN_AT_MOST) == {0: ("a", OK), 1: ("b", OK)}


def test_while_a_gpu_stays_lost_the_list_is_made_later_and_later() -> None:
    host = Host("a", "b")
    host.probe.open()
    host.driver.present = ["b"]
    for _ in range(3600):
        host.shows(after=1)
    assert host.driver.opened <= 3600 / LOOK_AGAIN_AT_MOST + 5


@pytest.mark.parametrize("held", [True, False])
def test_a_gpu_in_another_ones_slot_replaces_it_unless_that_is_held(held: bool) -> None:
    seats = Seats()
    seats.seat([gpu("a", 0), gpu("b", 1)], None)
    new = replace(gpu("x", 0), pci_address=gpu("a").pci_address)
    seen = seats.seat([new, gpu("b", 1)], {0} if held else set())
    names = [(seat.gpu.index, seat.gpu.uuid, seat.answers) for seat in seen]
    if held:
        assert names == [(0, "a", False), (1, "b", True), (2, "x", True)]
    else:
        assert names == [(1, "b", True), (2, "x", True)]


def test_mig_devices_that_are_gone_go_once_nothing_holds_them() -> None:
    host = Host("a", "b")
    host.driver.parts["a"] = ("a/1", "a/2")
    host.probe.open()
    assert host.shows() == {0: ("a/1", OK), 1: ("a/2", OK), 2: ("b", OK)}
    host.probe.held = {0}
    host.driver.parts["a"] = ("a/3",)
    assert host.shows() == {0: ("a/1", LOST), 2: ("b", OK), 3: ("a/3", OK)}
    host.probe.held = set()
    host.shows(LOOK_AGAIN_AT_MOST)
    assert host.shows(LOOK_AGAIN_AT_MOST) == {2: ("b", OK), 3: ("a/3", OK)}


def test_an_index_that_has_just_become_free_is_not_given_out_yet() -> None:
    host = Host("a", "b")
    host.probe.open()
    host.probe.held = set()
    host.driver.parts["a"] = ("a/1", "a/2")
    assert host.shows() == {1: ("b", OK), 2: ("a/1", OK), 3: ("a/2", OK)}
    assert host.visible() == ["b", "a/1", "a/2"]
    host.driver.parts["a"] = ("a/1", "a/2", "a/3")
    assert host.shows() == {0: ("a/3", OK), 1: ("b", OK), 2: ("a/1", OK), 3: ("a/2", OK)}


def test_a_driver_that_comes_later_than_the_agent() -> None:
    host = Host()
    host.driver.present = None
    with pytest.raises(GpuError, match="no driver"):
        host.probe.open()
    assert host.shows() == {}
    host.driver.present = ["a"]
    assert host.shows(after=1) == {}
    assert host.shows() == {0: ("a", OK)}
    assert host.probe.driver_version == "1.0"


def test_a_driver_that_is_loaded_anew() -> None:
    host = Host("a", "b")
    host.probe.open()
    host.driver.present = None
    assert host.shows() == {0: ("a", LOST), 1: ("b", LOST)}
    host.driver.present, host.driver.version = ["a", "b"], "2.0"
    host.shows(LOOK_AGAIN_AT_MOST)
    assert host.shows(LOOK_AGAIN_AT_MOST) == {0: ("a", OK), 1: ("b", OK)}
    assert host.probe.driver_version == "2.0"


# ---- over restarts ----


def test_indices_outlive_the_agent(tmp_path: Path) -> None:
    host = Host("a", "b", seats=tmp_path / "gpus.json")
    host.probe.open()
    host.driver.present = ["b", "c"]
    host.start().open()
    assert host.shows(after=1) == {0: ("a", LOST), 1: ("b", OK), 2: ("c", OK)}
    host.probe.held = {1}
    host.shows(LOOK_AGAIN_AT_MOST)
    assert host.shows(LOOK_AGAIN_AT_MOST) == {1: ("b", OK), 2: ("c", OK)}
    host.start().open()
    assert host.shows(after=1) == {1: ("b", OK), 2: ("c", OK)}
    assert [path.name for path in tmp_path.iterdir()] == ["gpus.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "[[]]",
        '{"a": 1}',
        '[{"index": -1, "uuid": "a", "name": "", "type": "", "memory_bytes": 1}]',
        '[{"index": 0, "uuid": 7, "name": "", "type": "", "memory_bytes": 1}]',
        '[{"index": 0, "uuid": "a"}]',
        "[" * 100_000,
        '["' + "x" * (2 << 20) + '"]',
    ],
)
def test_what_cannot_be_read_is_numbered_anew(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gpus.json"
    file.write_text(text)
    host = Host("a", seats=file)
    host.probe.open()
    assert host.shows(after=1) == {0: ("a", OK)}
    host.start().open()
    assert host.shows(after=1) == {0: ("a", OK)}


def test_without_a_state_directory_nothing_is_written(tmp_path: Path) -> None:
    host = Host("a", seats=tmp_path / "none" / "gpus.json")
    host.probe.open()
    assert host.shows(after=1) == {0: ("a", OK)}
    assert list(tmp_path.iterdir()) == []


# ---- which library ----


def test_the_first_library_that_has_gpus_is_used() -> None:
    empty, full = TwinDriver(), TwinDriver("a")
    probe = GpuProbe(drivers=[empty, full])
    probe.open()
    assert [one.uuid for one in probe.gpus] == ["a"]
    full.present = None
    probe = GpuProbe(drivers=[full, empty])
    probe.open()
    assert probe.gpus == ()
    empty.present = None
    with pytest.raises(GpuError, match="no driver; no driver"):
        GpuProbe(drivers=[full, empty]).open()


def test_without_amdsmi_it_says_what_is_missing() -> None:
    with pytest.raises(GpuError, match=r"amdsmi: (not installed|there is no libamd_smi)"):
        GpuProbe(source="amd").open()


# ---- whose processes ----

STATS = {
    100: Stat(100, "S", 100, 1, parent=1),  # an engine, leading a session
    101: Stat(101, "S", 100, 2, parent=100),  # its worker
    102: Stat(102, "S", 102, 3, parent=101),  # a worker in a session of its own
    200: Stat(200, "S", 200, 4, parent=1),  # another engine
    900: Stat(900, "S", 900, 5, parent=1),  # somebody's shell
    901: Stat(901, "S", 900, 6, parent=900),
}
FIRST, SECOND = GpuHolder("one", (0, 1), 100), GpuHolder("two", (1,), 200)


def watch(
    holders: Sequence[GpuHolder], **processes: tuple[GpuProcess, ...] | None
) -> tuple[dict[str, GpuUse], list[int | None]]:
    host = Host("a", "b")
    host.driver.processes = dict(processes)
    seen = GpuWatch(host.probe, stat=STATS.get)
    seen.open()
    seen.hold(holders)
    view = seen.look()
    assert view.gpus == host.probe.gpus
    return dict(view.use or {}), [one.foreign_process_count for one in view.readings]


def test_an_engines_processes_are_those_of_its_session_and_its_children() -> None:
    use, foreign = watch(
        [FIRST, SECOND],
        a=(GpuProcess(101, 10, 40.0), GpuProcess(901, 1, 1.0)),
        b=(GpuProcess(102, 20, 30.0), GpuProcess(200, 5, 8.0)),
    )
    assert use == {"one": GpuUse(30, 35.0), "two": GpuUse(5, 8.0)}
    assert foreign == [1, 0]


def test_only_its_own_gpus_count() -> None:
    use, foreign = watch([SECOND], a=(GpuProcess(200, 7, 7.0),), b=(GpuProcess(200, 5, 8.0),))
    assert use == {"two": GpuUse(5, 8.0)}
    assert foreign == [0, 0]


def test_an_engine_that_is_on_no_gpu_yet_uses_nothing() -> None:
    assert watch([SECOND])[0] == {"two": GpuUse(0, 0.0)}


def test_what_one_process_does_not_tell_is_unknown_for_the_whole() -> None:
    processes = (GpuProcess(100, 10, None), GpuProcess(101, None, 3.0))
    assert watch([FIRST], a=processes)[0] == {"one": GpuUse(None, None)}


def test_processes_that_nobody_can_see_make_it_unknown() -> None:
    use, foreign = watch([FIRST, SECOND], a=(GpuProcess(100, 10, 1.0), GpuProcess(555, 10, 1.0)))
    assert use == {"one": GpuUse(), "two": GpuUse(0, 0.0)}
    assert foreign == [None, 0]


def test_processes_that_are_not_listed_make_it_unknown() -> None:
    use, foreign = watch([FIRST], a=None)
    assert (use, foreign) == ({"one": GpuUse()}, [None, 0])


def test_of_an_engine_without_a_pid_nothing_is_known() -> None:
    use, foreign = watch([GpuHolder("static", (1,))], b=(GpuProcess(901, 10, 1.0),))
    assert (use, foreign) == ({}, [0, None])


def test_what_is_held_is_told_to_the_probe() -> None:
    host = Host("a")
    seen = GpuWatch(host.probe)
    assert host.probe.held is None
    seen.hold([FIRST, SECOND])
    assert host.probe.held == {0, 1}
