"""What Slurm tells, in one form for all of its versions and for both ways in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node as ``sinfo`` or ``/nodes`` tells it."""

    name: str
    address: str = ""
    gres: str = ""
    """``gpu:h20:8(S:0-1),gpu:l20:2``"""
    gres_used: str = ""
    """``gpu:h20:2(IDX:0-1)``"""
    states: frozenset[str] = frozenset()
    """State and flags in capitals: IDLE, DRAIN, NOT_RESPONDING …"""
    reason: str = ""
    reason_by: str = ""
    features: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    cpus: int = 0
    cpus_used: int = 0


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as ``squeue`` or ``/jobs`` tells it. Times are seconds since 1970, 0: not known."""

    job_id: int
    name: str = ""
    user: str = ""
    states: tuple[str, ...] = ()
    """In capitals, the state itself first: RUNNING, or CANCELLED and COMPLETING."""
    reason: str = ""
    comments: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    """Those that it has, in Slurm's order."""
    gres: tuple[str, ...] = ()
    """What it has on each of its nodes, in the same order: ``gpu:h20:2(IDX:0-1)``."""
    gres_asked: str = ""
    """Of one node: ``gres:gpu:h20:2``."""
    partition: str = ""
    submitted: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    """When it ended, or will at the latest."""
    limited: bool = False
    """It has a time limit that counts (Slurm tells none as a year)."""
    exit: str = ""
    """How it ended, in words; empty: not yet, or well."""
    restarts: int = 0

    @property
    def state(self) -> str:
        """The state itself, without flags."""
        return self.states[0] if self.states else ""


@dataclass(frozen=True, slots=True)
class ReservationRecord:
    """A reservation of nodes."""

    name: str
    nodes: tuple[str, ...]
    start: float
    end: float
    who: str = ""
    """Users and accounts, in words."""


@dataclass(frozen=True, slots=True)
class Order:
    """A job to be submitted: what both ways in can ask of Slurm."""

    name: str
    comment: str
    script: str
    nodes: tuple[str, ...]
    """Pinned to these; empty: any ``count`` that fit."""
    count: int
    gres: str
    """Of each node: ``gpu:h20:2``."""
    exclusive: bool = False
    partition: str = ""
    account: str = ""
    qos: str = ""
    reservation: str = ""
    constraint: str = ""
    switches: int = 0
    """At most so many leaf switches; 0: as it comes."""
    cpus: int = 0
    """Of each node; 0: as the partition has it."""
    memory: int = 0
    """MiB of each node; 0: as the partition has it."""
    limit: int = 0
    """Minutes; 0: as the partition has it."""
    warning: int = 0
    """Seconds before the limit at which TERM is sent."""
    warn_batch: bool = True
    """To the batch script alone; where Slurm cannot, the script warns itself."""
    requeue: bool = False
    folder: str = "/"
    output: str = ""
    more: tuple[tuple[str, str], ...] = ()
    """Further options, named as the way in use names them."""
