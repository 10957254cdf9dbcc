"""The units and the installer under a real systemd: engines outlive every end of their agent.

systemd runs as the first process of namespaces of its own, on a copy-on-write view of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from heteroscale.convert import duration, to_wire
from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale.words import InstanceState, Outcome, Role
from heteroscale_workbench.cluster.local import until
from tests.agent.host_world import ENGINE
from tests.agent.link_twins import Coordinator
from tests.packaging import releases
from tests.process.boss import Boss

BOOT = Path(__file__).with_name("boot_systemd.sh")
INIT = Path("/lib/systemd/systemd")
OLD, NEW = "0.1.0", "0.1.1"
PATIENCE = 60.0

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.geteuid() != 0 or not INIT.exists() or shutil.which("nsenter") is None,
        reason="needs root, systemd and util-linux",
    ),
]


class Machine:
    """A machine inside this one: its own processes and files, our network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "boot.log"
        self._starter: subprocess.Popen[bytes] | None = None
        self._init = 0

    async def start(self) -> None:
        """Boot, or skip the test where such namespaces cannot be had."""
        kinds = ("--pid", "--mount", "--uts", "--ipc", "--cgroup")
        with self.log.open("wb") as log:
            self._starter = subprocess.Popen(  # noqa: ASYNC220 - a moment
                ["unshare", "--fork", *kinds, "--kill-child", str(BOOT), str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            await until(self._running, PATIENCE, "systemd to run")
        except RuntimeError:
            self.stop()
            pytest.skip(f"no systemd in namespaces here: {self.log.read_text()[-500:]}")

    async def _running(self) -> bool:
        assert self._starter is not None
        if self._starter.poll() is not None:
            raise RuntimeError("it did not boot")
        inner = psutil.Process(self._starter.pid).children()
        self._init = next((one.pid for one in inner if one.name() == "systemd"), 0)
        return bool(self._init) and self.run("systemctl", "is-system-running", check=False) == (
            "running\n"
        )

    def run(self, *words: str | Path, check: bool = True) -> str:
        """Run a command inside; return what it said."""
        inside = ("nsenter", "-t", str(self._init), "-m", "-p", "-i", "-u", "-C", "-r", "-w")
        done = subprocess.run(
            [*inside, "env", "-i", *_ENVIRON, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0 or not check, said
        return said

    def write(self, path: str, text: str) -> None:
        """Write a file inside."""
        source = self.folder / "file"
        source.write_text(text)
        self.run("install", "-D", "-m", "0644", source, path)

    def stop(self) -> None:
        """End it and all that runs inside."""
        if self._init:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(self._init).kill()
        if self._starter is not None:
            self._starter.terminate()
            self._starter.wait(30)


_ENVIRON = ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PIP_NO_DEPS=1", "PIP_NO_INDEX=1"]


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine(tmp_path)
    await made.start()
    yield made
    made.stop()


@pytest.fixture
async def coordinator() -> AsyncIterator[Coordinator]:
    async with Coordinator().serving() as made:
        yield made


def engine_pid(folder: Path) -> Iterator[int]:
    """Yield the pids, on this machine, of engines that were started inside."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(ENGINE) in process.cmdline() and process.environ().get("TEST") == str(folder):
                yield process.pid


def launch() -> agent_pb2.Launch:
    fields: dict[str, Any] = {
        "service": "chat",
        "role": to_wire(Role.AGGREGATED),
        "rank_count": 1,
        "template": "tiny",
        "gpu_indices": [0],
        "gate": types_pb2.Gate(kind="none"),
        "startup_timeout": duration(60.0),
    }
    return agent_pb2.Launch(**fields)


async def test_engines_outlive_restart_crash_upgrade_rollback_and_removal(
    machine: Machine, coordinator: Coordinator, tmp_path: Path
) -> None:
    old, new = await asyncio.to_thread(releases.build, tmp_path / "built", OLD, NEW)
    lent = await asyncio.to_thread(releases.lend, tmp_path / "lent")
    machine.write("/etc/heteroscale/agent.env", f"PYTHONPATH={lent}\nTEST={tmp_path}\n")
    machine.write(
        "/etc/heteroscale/agent.yaml",
        "apiVersion: heteroscale/v1\nkind: Agent\nspec:\n"
        f"  coordinator: 127.0.0.1:{coordinator.port}\n  reconnectWithin: 1s\n"
        "  gpu: {source: none}\n  templates:\n"
        f"    tiny: {{role: aggregated, "
        f"command: [{sys.executable}, {ENGINE}, '{{port}}', aggregated]}}\n",
    )

    def install(*words: str | Path) -> str:
        installer = ("env", f"PYTHONPATH={lent}", releases.INSTALLER)
        return machine.run(*installer, *words, "--python", sys.executable)

    await asyncio.to_thread(install, "--from", old)
    machine.run("systemctl", "enable", "--now", "heteroscale-agent")
    boss = await Boss.greet(coordinator)
    assert (boss.hello.agent_version, list(boss.hello.instances)) == (OLD, [])
    boss.order("c-1", "i-1", launch=launch())
    assert (await boss.result("c-1"))[0] is Outcome.DONE
    first = await boss.reaches("i-1", InstanceState.IN_SERVICE)
    (pid,) = engine_pid(tmp_path)

    async def same(version: str) -> None:
        """Greet the next agent: it must know the engine by the pid it had."""
        hello = (await Boss.greet(coordinator)).hello
        assert hello.agent_version == version
        (known,) = hello.instances
        assert (known.instance_id, known.pid) == ("i-1", first.pid)
        assert list(engine_pid(tmp_path)) == [pid]

    machine.run("systemctl", "restart", "heteroscale-agent")
    await same(OLD)
    machine.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "heteroscale-agent")
    await same(OLD)
    said = await asyncio.to_thread(install, "--from", new)
    assert "restarted heteroscale-agent" in said
    await same(NEW)
    await asyncio.to_thread(install, "--rollback")
    await same(OLD)
    told = machine.run("env", f"PYTHONPATH={lent}", "heteroscale", "doctor", check=False)
    assert "KillMode" in told, told
    assert "heteroscale-agent.service is active" in told, told
    await asyncio.to_thread(install, "--uninstall", "--leave-engines")
    assert list(engine_pid(tmp_path)) == [pid]
    assert "not-found" in machine.run("systemctl", "show", "-p", "LoadState", "heteroscale-agent")
