"""A real Slurm on loopback: munge, a controller, some nodes and slurmrestd, without systemd.

Several run at once: each has a block of ports of its own, below those that the kernel gives to whoever
asks for any, and a socket's name that only one can have guards it.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_NEEDED = ("slurmctld", "slurmd", "scontrol", "squeue", "sbatch", "munged")


def _missing(*names: str) -> list[str]:
    return [name for name in names if shutil.which(name, path=_PATH) is None]


def _why_not(missing: Sequence[str], packages: str) -> str:
    if missing:
        return f"needs {', '.join(missing)} (Debian: apt-get install {packages})"
    return "needs root: slurmd starts jobs as their users" if os.getuid() else ""


MISSING = _missing(*_NEEDED)
WHY_NOT = _why_not(MISSING, "slurm-wlm munge")
"""Why no cluster can be started here; empty: one can."""
_JWT = any(Path("/usr/lib").glob("*/slurm-wlm/auth_jwt.so"))
WHY_NO_REST = _why_not(
    [*_missing(*_NEEDED, "slurmrestd"), *([] if _JWT else ["auth_jwt.so"])],
    "slurm-wlm munge slurmrestd slurm-wlm-jwt-plugin",
)
"""Why there is no slurmrestd here; empty: there is."""

DEADLINE = 60.0
PORTS = 20
"""Of one cluster: its controller's, and one for each node."""
CONFIG = """\
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool/%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
KillWait=1
MinJobAge=300
SlurmdParameters=config_overrides
CommunicationParameters=NoAddrCache,NoCtldInAddrAny,NoInAddrAny
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """One node, in Slurm's words."""

    name: str
    gres: str = "gpu:h100:4"
    switch: str = ""
    cpus: int = 8
    features: str = ""


class SlurmCluster:
    """Some nodes, under leaf switches and a spine."""

    def __init__(
        self,
        folder: Path,
        machines: Sequence[Machine],
        *,
        lines: Sequence[str] = (),
        rest: str = "",
        spine: str = "spine",
    ) -> None:
        self.folder = folder
        self.machines = list(machines)
        self.lines = list(lines)
        self.spine = spine
        self.rest = rest
        """``local`` (its own user) or ``jwt`` (a token); empty: none."""
        self.socket = folder / "rest" / "socket"
        self.token_file = folder / "token"
        self.environ: Mapping[str, str] = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf"}
        self._guard, self._port = _block()

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
        """Stop everything that was started, by its pid."""
        self._signal("slurmctld.pid", signal.SIGCONT)
        if self._alive("slurmctld.pid") and self._alive("munge/pid"):
            with suppress(AssertionError):
                await self.run("scancel", "-u", "root,nobody", "--signal=KILL", "--full")
        files = [*self.folder.glob("*.pid"), self.folder / "munge" / "pid"]
        await self._end([path for path in files if path.exists()])
        await asyncio.to_thread(end_jobs, self.folder)
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
        nodes = [self._node(place, machine) for place, machine in enumerate(self.machines)]
        text = CONFIG.format(folder=self.folder, port=self._port)
        if any(machine.switch for machine in self.machines):
            text += "TopologyPlugin=topology/tree\n"
        if self.rest:
            text += f"AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key={self.folder}/jwt.key\n"
        partition = "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
        lines = [line for line in self.lines if line]
        if not any(line.startswith("PartitionName=main") for line in lines):
            lines.append(partition)
        (self.folder / "slurm.conf").write_text(text + "\n".join([*nodes, *lines, ""]))
        (self.folder / "topology.conf").write_text(self._topology())
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=autodetect\n")
        gres = [line for machine in self.machines for line in self._gres(machine)]
        (self.folder / "gres.conf").write_text("\n".join([*gres, ""]))

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
        for number in range(max(self._count(m.gres) for m in self.machines)):
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

    def _node(self, place: int, machine: Machine) -> str:
        features = f" Features={machine.features}" if machine.features else ""
        return (
            f"NodeName={machine.name} NodeHostname={os.uname().nodename} "
            f"NodeAddr=127.0.0.1 Port={self._port + 1 + place} CPUs={machine.cpus} RealMemory=1000 "
            f"Gres={machine.gres} State=UNKNOWN{features}"
        )

    def _topology(self) -> str:
        leaves: dict[str, list[str]] = {}
        for machine in self.machines:
            if machine.switch:
                leaves.setdefault(machine.switch, []).append(machine.name)
        lines = [f"SwitchName={name} Nodes={','.join(nodes)}" for name, nodes in leaves.items()]
        if leaves:
            lines.append(f"SwitchName={self.spine} Switches={','.join(leaves)}")
        return "\n".join([*lines, ""])

    def _gres(self, machine: Machine) -> list[str]:
        lines: list[str] = []
        first = 0
        for part in machine.gres.split(","):
            words = part.split(":")
            count = int(words[-1])
            kind = f" Type={words[1]}" if len(words) > 2 else ""
            files = f"{self.folder}/nvidia[{first}-{first + count - 1}]"
            lines.append(
                f"NodeName={machine.name} Name=gpu{kind} File={files} Flags=nvidia_gpu_env"
            )
            first += count
        return lines

    def _count(self, gres: str) -> int:
        return sum(int(part.split(":")[-1]) for part in gres.split(","))

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
        _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 5)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        await asyncio.to_thread(psutil.wait_procs, alive, 5)
        for path in files:
            path.unlink(missing_ok=True)
        child = getattr(self, "_rest", None)
        if child is not None and child.pid in pids:
            child.wait(timeout=20)


def end_jobs(folder: Path) -> None:
    """Kill what is left of a cluster's jobs, all of which have its configuration in their environment.

    Step daemons and what they started outlive Slurm, and another cluster of this host has jobs of the
    same numbers.
    """
    left: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("SLURM_CONF") == f"{folder}/slurm.conf":
                left.append(process)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, 5)


def _block() -> tuple[socket.socket, int]:
    """Return a block of ports that nobody else has, and what keeps others away from it."""
    blocks = list(range(12_000, 32_000, PORTS))
    random.shuffle(blocks)
    for first in blocks:
        guard = socket.socket(socket.AF_UNIX)
        try:
            # A name of the kernel's, without a file: it goes with its process.
            guard.bind(f"\0heteroscale-tests-slurm-{first}")
        except OSError:
            guard.close()
            continue
        if all(_free(port) for port in range(first, first + PORTS)):
            return guard, first
        guard.close()
    raise AssertionError("no block of ports is free")


def _free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def eight() -> list[Machine]:
    """Return eight nodes of eight GPUs under two leaves, two of them with two types."""
    plain = [
        Machine(f"n{n}", "gpu:H20:8", "leaf1" if n <= 4 else "leaf2", features="ib")
        for n in range(1, 7)
    ]
    return [*plain, *(Machine(f"n{n}", "gpu:H20:4,gpu:L20:4", "leaf2") for n in (7, 8))]


@asynccontextmanager
async def slurm_cluster(
    machines: Sequence[Machine] | None = None, *, lines: Sequence[str] = (), rest: str = ""
) -> AsyncIterator[SlurmCluster]:
    """Run a cluster in a folder whose path is short enough for a socket's name."""
    with tempfile.TemporaryDirectory(
        prefix="slurm-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        cluster = SlurmCluster(Path(folder), machines or eight(), lines=lines, rest=rest)
        try:
            await cluster.start()
            yield cluster
        finally:
            await cluster.stop()
