"""The files of a mini Slurm: its configuration, its topology, its GPUs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
SchedulerType=sched/{scheduler}
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


def eight() -> list[Machine]:
    """Return eight nodes of eight GPUs under two leaves, two of them with two types."""
    plain = [
        Machine(f"n{n}", "gpu:H20:8", "leaf1" if n <= 4 else "leaf2", features="ib")
        for n in range(1, 7)
    ]
    return [*plain, *(Machine(f"n{n}", "gpu:H20:4,gpu:L20:4", "leaf2") for n in (7, 8))]


def four() -> list[Machine]:
    """Return four nodes of four GPUs under two leaves."""
    return [Machine(f"node{n}", switch="leaf1" if n <= 2 else "leaf2") for n in range(1, 5)]


@dataclass(frozen=True, slots=True)
class Files:
    """What is written into a cluster's folder."""

    folder: Path
    port: int
    """Of the controller; its nodes have those that follow."""
    lines: Sequence[str] = ()
    """Of ``slurm.conf``, beside what each cluster has."""
    scheduler: str = "backfill"
    jwt: bool = False
    spine: str = "spine"

    def also(self, *lines: str) -> Files:
        """Return the same with further lines of ``slurm.conf``."""
        return replace(self, lines=(*self.lines, *lines))

    def write(self, machines: Sequence[Machine]) -> None:
        """Write the configuration, as it is to be at the next start of the controller."""
        text = CONFIG.format(folder=self.folder, port=self.port, scheduler=self.scheduler)
        if any(machine.switch for machine in machines):
            text += "TopologyPlugin=topology/tree\n"
        if self.jwt:
            text += f"AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key={self.folder}/jwt.key\n"
        lines = [self._node(place, machine) for place, machine in enumerate(machines)]
        lines += [line for line in self.lines if line]
        if not any(line.startswith("PartitionName=main") for line in lines):
            lines.append("PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP")
        (self.folder / "slurm.conf").write_text(text + "\n".join([*lines, ""]))
        (self.folder / "topology.conf").write_text(self._topology(machines))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=autodetect\n")
        gres = [line for machine in machines for line in self._gres(machine)]
        (self.folder / "gres.conf").write_text("\n".join([*gres, ""]))

    def _node(self, place: int, machine: Machine) -> str:
        features = f" Features={machine.features}" if machine.features else ""
        return (
            f"NodeName={machine.name} NodeHostname={os.uname().nodename} "
            f"NodeAddr=127.0.0.1 Port={self.port + 1 + place} CPUs={machine.cpus} RealMemory=1000 "
            f"Gres={machine.gres} State=UNKNOWN{features}"
        )

    def _topology(self, machines: Sequence[Machine]) -> str:
        found = leaves(machines)
        lines = [f"SwitchName={name} Nodes={','.join(nodes)}" for name, nodes in found.items()]
        if found:
            lines.append(f"SwitchName={self.spine} Switches={','.join(found)}")
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


def leaves(machines: Sequence[Machine]) -> dict[str, list[str]]:
    """Return the nodes under each leaf switch."""
    found: dict[str, list[str]] = {}
    for machine in machines:
        if machine.switch:
            found.setdefault(machine.switch, []).append(machine.name)
    return found


def devices(machines: Sequence[Machine]) -> int:
    """Return how many files of GPUs there must be: those of the largest node."""
    return max(sum(int(part.split(":")[-1]) for part in m.gres.split(",")) for m in machines)
