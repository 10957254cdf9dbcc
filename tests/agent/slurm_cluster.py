"""A real Slurm on loopback: munge, a controller and some nodes, all of this host, without systemd."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from tests.slurm.cluster import end_jobs

MISSING = [
    name
    for name in ("slurmctld", "slurmd", "scontrol", "squeue", "sbatch", "munged")
    if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None
]
WHY_NOT = (
    f"needs {', '.join(MISSING)} (Debian: apt-get install slurm-wlm munge)"
    if MISSING
    else ("needs root: slurmd starts jobs as their users" if os.getuid() else "")
)
"""Why no cluster can be started here; empty: one can."""

DEADLINE = 60.0
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
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
TopologyPlugin=topology/tree
GresTypes=gpu
KillWait=1
SlurmdParameters=config_overrides
CommunicationParameters=NoAddrCache,NoCtldInAddrAny,NoInAddrAny
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName=node{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 "
    "RealMemory=1000 Gres=gpu:h100:4 State=UNKNOWN"
)
TOPOLOGY = """\
SwitchName=leaf1 Nodes=node[1-2]
SwitchName=leaf2 Nodes=node[3-4]
SwitchName=spine Switches=leaf[1-2]
"""


class SlurmCluster:
    """Four nodes with four GPUs each, under two leaf switches and a spine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ: Mapping[str, str] = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf"}
        self._ports = _free_ports(5)

    async def start(self) -> None:
        """Start everything and wait until all nodes are idle."""
        self._write()
        self._munge()
        await self._run("/usr/sbin/slurmctld", "-f", f"{self.folder}/slurm.conf")
        for number in range(1, 5):
            config = f"{self.folder}/slurm.conf"
            await self._run("/usr/sbin/slurmd", "-N", f"node{number}", "-f", config)
        await self.until(
            lambda text: text.split() == ["4"], "sinfo", "-h", "-t", "idle", "-o", "%D"
        )

    async def stop(self) -> None:
        """Stop everything that was started, by its pid."""
        with suppress(AssertionError):
            await self.run("scancel", "-u", "root", "--signal=KILL", "--full")
        files = [*self.folder.glob("*.pid"), self.folder / "munge" / "pid"]
        pids = [int(path.read_text()) for path in files if path.exists()]
        processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 5)
        for process in alive:
            process.kill()
        await asyncio.to_thread(end_jobs, self.folder)

    async def run(self, *command: str) -> str:
        """Run a client of Slurm and return what it prints."""
        return await self._run("timeout", "20", *command)

    async def until(self, wanted: Callable[[str], bool], *command: str) -> str:
        """Run a client again and again until ``wanted`` says yes to what it prints."""
        async with asyncio.timeout(DEADLINE):
            while True:
                text = await self.run(*command)
                if wanted(text):
                    return text
                await asyncio.sleep(0.1)

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

    def _munge(self) -> None:
        place = self.folder / "munge"
        key = place / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        for path in (place, key):
            shutil.chown(path, "munge", "munge")
        options = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log"}
        options["seed-file"] = "seed"
        words = [f"--{name}={place / file}" for name, file in options.items()]
        subprocess.run(["/usr/sbin/munged", *words], check=True, timeout=20, user="munge")

    def _write(self) -> None:
        for name in ("state", "munge", *(f"spool/node{n}" for n in range(1, 5))):
            (self.folder / name).mkdir(parents=True)
        # munged does not trust a socket whose folders others may not enter.
        for path in (self.folder, *self.folder.parents, self.folder / "munge"):
            if path.stat().st_uid == os.getuid() and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o055)
        host = os.uname().nodename
        nodes = "\n".join(
            NODE.format(number=number, host=host, port=self._ports[number])
            for number in range(1, 5)
        )
        config = CONFIG.format(folder=self.folder, port=self._ports[0], nodes=nodes)
        (self.folder / "slurm.conf").write_text(config)
        (self.folder / "topology.conf").write_text(TOPOLOGY)
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=autodetect\n")
        # One file for each GPU: any will do.
        devices = [self.folder / f"nvidia{number}" for number in range(4)]
        for device in devices:
            os.mknod(device, 0o20666, os.makedev(1, 3))
        (self.folder / "gres.conf").write_text(
            f"NodeName=node[1-4] Name=gpu Type=h100 File={self.folder}/nvidia[0-3] "
            "Flags=nvidia_gpu_env\n"
        )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@asynccontextmanager
async def slurm_cluster(folder: Path) -> AsyncIterator[SlurmCluster]:
    """Run a cluster in ``folder``; its path must be short enough for a socket's name."""
    cluster = SlurmCluster(folder)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()
