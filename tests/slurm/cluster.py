"""A real Slurm on loopback: munge, a controller, some nodes and slurmrestd, without systemd.

Several run at once: each has a block of ports of its own, below those that the kernel gives to whoever
asks for any, and a socket's name that only one can have guards it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from tests.slurm.files import Files, Machine, devices, eight
from tests.slurm.host import block, end_processes, wait

DEADLINE = 60.0
"""Seconds until a fact that does not come fails its test."""


class SlurmCluster:
    """Some nodes, under leaf switches and a spine."""

    def __init__(
        self,
        folder: Path,
        machines: Sequence[Machine],
        *,
        lines: Sequence[str] = (),
        rest: str = "",
        scheduler: str = "backfill",
    ) -> None:
        self.folder = folder
        self.machines = list(machines)
        self.rest = rest
        """``local`` (its own user) or ``jwt`` (a token); empty: none."""
        self.socket = folder / "rest" / "socket"
        self.token_file = folder / "token"
        self.environ: Mapping[str, str] = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf"}
        self._guard, port = block()
        self.files = Files(folder, port, lines, scheduler, jwt=bool(rest))

    # ---- up and down ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything and wait until all nodes are idle."""
        self._prepare()
        self.write()
        self._munge()
        await self.start_controller()
        await asyncio.gather(*(self.start_node(machine.name) for machine in self.machines))
        await self.until_up()
        if self.rest:
            await self._start_rest()

    async def until_up(self) -> None:
        """Wait until the controller answers, and all nodes are idle."""
        count = str(len(self.machines))
        async with asyncio.timeout(DEADLINE):
            while True:
                with suppress(AssertionError):
                    if (await self.run("sinfo", "-h", "-t", "idle", "-o", "%D")).split() == [count]:
                        return
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Kill everything that was started; nothing of its state is of use to anybody."""
        with suppress(psutil.Error):
            psutil.Process(self._pid("munge/pid")).kill()
        await end_processes(self.folder)
        if (rest := getattr(self, "_rest", None)) is not None:
            rest.wait(timeout=20)
        self._guard.close()

    async def start_controller(self) -> None:
        """Start slurmctld, as after a restart."""
        await self._run("/usr/sbin/slurmctld", "-f", f"{self.folder}/slurm.conf")

    async def stop_controller(self, kill: bool = False) -> None:
        """Stop slurmctld; with ``kill`` it says nothing to anybody."""
        if kill:
            self._signal("slurmctld.pid", signal.SIGKILL)
        await self._end([self.folder / "slurmctld.pid"])

    def pause_controller(self) -> None:
        """Let slurmctld take connections and answer nobody."""
        self._signal("slurmctld.pid", signal.SIGSTOP)

    def resume_controller(self) -> None:
        """Undo ``pause_controller``."""
        self._signal("slurmctld.pid", signal.SIGCONT)

    async def stop_munge(self) -> None:
        """Let nobody prove who they are."""
        await self._end([self.folder / "munge" / "pid"])

    def start_munge(self) -> None:
        """Undo ``stop_munge``."""
        self._munge_start()

    async def start_node(self, name: str) -> None:
        """Start a node's slurmd."""
        (self.folder / "spool" / name).mkdir(parents=True, exist_ok=True)
        await self._run("/usr/sbin/slurmd", "-N", name, "-f", f"{self.folder}/slurm.conf")

    async def kill_node(self, name: str) -> None:
        """Let a node's slurmd be gone without a word."""
        self._signal(f"slurmd.{name}.pid", signal.SIGKILL)
        await self._end([self.folder / f"slurmd.{name}.pid"])

    async def lose_node(self, name: str) -> None:
        """Let a host be gone as by its power: slurmd, step daemons, and all that its jobs started."""
        self._signal(f"slurmd.{name}.pid", signal.SIGKILL)
        await end_processes(self.folder, name)
        (self.folder / f"slurmd.{name}.pid").unlink(missing_ok=True)

    # ---- asked ---------------------------------------------------------------------------------

    async def run(self, *command: str) -> str:
        """Run a client of Slurm and return what it prints."""
        return await self._run("timeout", "20", *command)

    async def until(self, wanted: Callable[[str], bool], *command: str) -> str:
        """Run a client again and again until ``wanted`` says yes to what it prints."""
        text = ""
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    text = await self.run(*command)
                    if wanted(text):
                        return text
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{command} never said so, but: {text}") from None

    def write(self) -> None:
        """Write the configuration, as it is to be at the next start of the controller."""
        self.files.write(self.machines)

    async def _run(self, *command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self.environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, f"{command}: {out.decode()} {err.decode()}"
        return out.decode()

    # ---- its parts -----------------------------------------------------------------------------

    def _prepare(self) -> None:
        for name in ("state", "munge", "spool", "rest"):
            (self.folder / name).mkdir(parents=True)
        # munged does not trust a socket whose folders others may not enter.
        for path in (self.folder, *self.folder.parents, self.folder / "munge"):
            if path.stat().st_uid == os.getuid() and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o055)
        key = self.folder / "jwt.key"
        key.write_bytes(os.urandom(32))
        key.chmod(0o600)
        # One file for each GPU: any will do.
        for number in range(devices(self.machines)):
            os.mknod(self.folder / f"nvidia{number}", 0o20666, os.makedev(1, 3))

    def _munge(self) -> None:
        place = self.folder / "munge"
        key = place / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        for path in (place, key):
            shutil.chown(path, "munge", "munge")
        self._munge_start()

    def _munge_start(self) -> None:
        place = self.folder / "munge"
        options = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log"}
        options["seed-file"] = "seed"
        words = [f"--{name}={place / file}" for name, file in options.items()]
        subprocess.run(["/usr/sbin/munged", *words], check=True, timeout=20, user="munge")

    async def _start_rest(self) -> None:
        self.socket.parent.chmod(0o777)
        environ = {**self.environ, "SLURMRESTD_SECURITY": "disable_user_check"}
        if self.rest == "jwt":
            environ["SLURM_JWT"] = "daemon"
            self.token_file.write_text(
                await self.run("scontrol", "token", "username=root", "lifespan=3600")
            )
        with (self.folder / "slurmrestd.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: ASYNC220 - it is a daemon, and never waited for here
                [
                    *("/usr/sbin/slurmrestd", "-a", f"rest_auth/{self.rest}"),
                    *("-s", "openapi/v0.0.38", f"unix:{self.socket}"),
                ],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user="nobody" if self.rest == "jwt" else None,
                group="nogroup" if self.rest == "jwt" else None,
                extra_groups=[] if self.rest == "jwt" else None,
            )
        (self.folder / "slurmrestd.pid").write_text(str(process.pid))
        self._rest = process
        async with asyncio.timeout(DEADLINE):
            while not self.socket.is_socket():
                assert process.poll() is None, (self.folder / "slurmrestd.log").read_text()
                await asyncio.sleep(0.02)

    def _pid(self, name: str) -> int:
        try:
            return int((self.folder / name).read_text())
        except (OSError, ValueError):
            return 0

    def _alive(self, name: str) -> bool:
        pid = self._pid(name)
        return bool(pid) and psutil.pid_exists(pid)

    def _signal(self, name: str, number: int) -> None:
        if pid := self._pid(name):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def _end(self, files: Sequence[Path]) -> None:
        """Stop what these files name, in order, and wait until it is gone."""
        pids = [pid for path in files if (pid := self._pid(str(path)))]
        processes = []
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                processes.append(psutil.Process(pid))
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        alive = await wait(processes, 5.0)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        await wait(alive, 5.0)
        for path in files:
            path.unlink(missing_ok=True)


@asynccontextmanager
async def slurm_cluster(
    machines: Sequence[Machine] | None = None,
    *,
    lines: Sequence[str] = (),
    rest: str = "",
    scheduler: str = "backfill",
) -> AsyncIterator[SlurmCluster]:
    """Run a cluster in a folder whose path is short enough for a socket's name."""
    with tempfile.TemporaryDirectory(
        prefix="slurm-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        cluster = SlurmCluster(
            Path(folder), machines or eight(), lines=lines, rest=rest, scheduler=scheduler
        )
        try:
            await cluster.start()
            yield cluster
        finally:
            await cluster.stop()
