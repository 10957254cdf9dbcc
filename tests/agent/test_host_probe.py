"""The host's CPU, memory and load, from files of procfs that a test writes."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from heteroscale_agent.model import HostReading
from heteroscale_agent.probes import host
from heteroscale_agent.probes.host import HostProbe

MEMINFO = (
    "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\nHugePages: 3\n"
)


class Proc:
    """A folder like /proc."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.says(meminfo=MEMINFO, loadavg="0.50 0.40 0.30 1/200 4242\n")
        self.ticks(100, 0, 100, 700, 100, 0, 0, 0)

    def says(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def ticks(self, *counts: int) -> None:
        self.says(stat=f"cpu  {' '.join(map(str, counts))}\ncpu0 1 2 3 4\nintr 9\n")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_cpu_is_what_was_used_since_the_reading_before(proc: Proc) -> None:
    probe = HostProbe(proc.folder)
    # 30 of 100 ticks used; a guest's are among the user's already.
    proc.ticks(120, 0, 105, 765, 105, 5, 0, 0, 20, 0)
    assert probe.read() == HostReading(30.0, 600 * 1024, 0.5)
    proc.ticks(220, 0, 105, 765, 105, 5, 0, 0, 120, 0)
    assert probe.read().cpu_percent == 100
    assert probe.read().cpu_percent is None, "no time has passed"


def test_waiting_for_disks_may_be_counted_back(proc: Proc) -> None:
    probe = HostProbe(proc.folder)
    proc.ticks(200, 0, 100, 700, 90, 0, 0, 0)
    assert probe.read().cpu_percent == 100
    proc.ticks(100, 0, 100, 700, 90, 0, 0, 0)
    assert probe.read().cpu_percent is None


@pytest.mark.parametrize("text", ["", "cpu\n", "cpu a b c d e\n", "intr 1 2 3 4 5\n", "\0" * 99])
def test_nonsense_is_unknown(proc: Proc, text: str) -> None:
    probe = HostProbe(proc.folder)
    proc.says(stat=text, meminfo=text, loadavg=text)
    assert probe.read() == HostReading()
    assert host.memory_bytes(proc.folder) == 0


def test_more_available_than_there_is_is_unknown(proc: Proc) -> None:
    proc.says(meminfo="MemTotal: 5 kB\nMemAvailable: 6 kB\n")
    assert HostProbe(proc.folder).read().memory_used_bytes is None


def test_files_that_are_not_there_are_unknown(tmp_path: Path) -> None:
    assert HostProbe(tmp_path / "none").read() == HostReading()


def test_this_machine() -> None:
    probe = HostProbe()
    reading = probe.read()
    assert host.memory_bytes() == psutil.virtual_memory().total
    assert host.cpu_count() == psutil.cpu_count()
    assert reading.memory_used_bytes is not None
    assert 0 < reading.memory_used_bytes < host.memory_bytes()
    assert reading.load_1m is not None
    assert host.kernel()
