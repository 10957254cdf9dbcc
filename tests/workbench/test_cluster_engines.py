"""A cluster's engines end with it, whatever they do about it; no other cluster's do."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from heteroscale_workbench.cluster import engines
from heteroscale_workbench.cluster.local import Host, Layout, LocalCluster
from heteroscale_workbench.cluster.processes import Part, ProcessError

WORKER = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
LEADER = """
import signal, subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
worker.stdout.readline()
print(worker.pid, flush=True)
if sys.argv[2] == "stays":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pause()
"""


class Engine:
    """A leader and its worker, both deaf to TERM, tagged as an agent's engine is."""

    def __init__(self, directory: Path, instance: str, *, leader: str = "stays") -> None:
        self.instance = instance
        self.leader = subprocess.Popen(
            [sys.executable, "-c", LEADER, WORKER, leader],
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, engines.ID: instance, engines.MARK: str(directory / "seen")},
        )
        assert self.leader.stdout is not None
        self.worker = psutil.Process(int(self.leader.stdout.readline()))
        self.leader.stdout.close()

    @property
    def gone(self) -> bool:
        """Whether both have ended."""
        ended = psutil.wait_procs([self.worker], timeout=10)[0]
        return self.leader.wait(10) is not None and bool(ended)

    def drop(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(psutil.Error):
            self.worker.kill()
        self.leader.kill()
        self.leader.wait(10)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[list[Engine]]:
    found: list[Engine] = []
    yield found
    for engine in found:
        engine.drop()


def test_every_process_of_every_engine_is_killed(tmp_path: Path, made: list[Engine]) -> None:
    here, beside = tmp_path / "cluster", tmp_path / "cluster-2"
    made += [Engine(here, "deaf"), Engine(here, "stopped"), Engine(beside, "of-another")]
    made.append(Engine(here, "headless", leader="leaves"))
    deaf, stopped, other, headless = made
    os.kill(stopped.leader.pid, signal.SIGSTOP)
    assert headless.leader.wait(10) == 0
    found = engines.leaders(here)
    assert {name: process.pid for name, process in found.items()} == {
        "deaf": deaf.leader.pid,
        "stopped": stopped.leader.pid,
        "headless": headless.worker.pid,
    }
    engines.kill(here)
    assert deaf.gone
    assert stopped.gone
    assert headless.gone
    assert engines.leaders(here) == {}
    assert other.worker.status() != psutil.STATUS_ZOMBIE
    assert other.leader.poll() is None


async def test_a_part_that_cannot_be_stopped_keeps_no_other_alive(
    tmp_path: Path, made: list[Engine]
) -> None:
    class Unstoppable(Part):
        async def stop(self) -> None:
            raise ProcessError("it will not end")

    cluster = LocalCluster(Layout(tmp_path, hosts=[Host("agent-0", ("L20",), "minipod-0")]))
    cluster.agents["agent-0"] = Unstoppable("agent-0", (), tmp_path / "log")
    cluster.coordinator = Part("coordinator", ("sleep", "1000"), tmp_path / "log")
    await cluster.coordinator.start()
    made.append(Engine(tmp_path, "orphan"))
    with pytest.raises(ProcessError, match="will not end"):
        await cluster.stop()
    assert not cluster.coordinator.running
    assert made[0].gone


def test_a_tail_leaves_out_what_a_log_is_full_of(tmp_path: Path) -> None:
    log = tmp_path / "log"
    scrapes = "GET /metrics 200\n" * 10_000
    log.write_text(f"began\n{scrapes}failed\n{scrapes}", "utf-8")
    part = Part("engine", (), log)
    assert part.tail(2, re.compile("GET /metrics")) == "began\nfailed"
    assert part.tail(2) == "GET /metrics 200\nGET /metrics 200"
    assert Part("none", (), tmp_path / "none").tail() == ""
