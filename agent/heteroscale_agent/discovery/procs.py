"""Processes of this host as discovery needs them: engines among them, and whose they are.

A process is read when it is new, again while it is young (a shell becomes an engine by exec), and
then no more: a look through a thousand processes costs little more than listing them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path

from heteroscale_agent.discovery.argv import Recognised, recognise
from heteroscale_agent.discovery.gpus import held
from heteroscale_agent.discovery.sighting import Sighting, engine_of, port_of, role_of, service_of
from heteroscale_agent.hands.procfs import TAG

PROC = Path("/proc")
YOUNG = 120
"""Seconds for which a process is read again: exec changes what it is."""
_TICKS = os.sysconf("SC_CLK_TCK")
_MAX_FIB = 4 * 1024 * 1024
_MAX_ARGV, _MAX_ENVIRON = 256 * 1024, 1024 * 1024
_WANTED = frozenset(
    {
        *("HETEROSCALE_SERVICE", "HETEROSCALE_ROLE", "HETEROSCALE_PORT", "HETEROSCALE_ENGINE", TAG),
        *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS"),
        *("SLURM_JOB_ID", "SLURMD_NODENAME", "PORT"),
    }
)
_POD = re.compile(r"kubepods\S*?[/-]pod([0-9a-f]{8}(?:[-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12})")
_JOB = re.compile(r"/(?:slurm\S*|slurmstepd\.scope)/(?:uid_[0-9]+/)?job_([0-9]{1,12})(?![0-9])")
_FIB_LOCAL = re.compile(r"\|-- ([0-9.]+)\n[^\n]*/32 host LOCAL")


@dataclass(frozen=True, slots=True)
class Proc:
    """A process, as far as it matters here."""

    pid: int
    parent: int
    start_ticks: int
    owner: str
    """`pod:UID`, `job:ID`, or empty."""
    environ: Mapping[str, str]
    engine: Recognised | None

    @property
    def tagged(self) -> bool:
        """Whether an agent launched it, or what it is a part of."""
        return TAG in self.environ

    @property
    def said(self) -> str:
        """The service it says it is for."""
        return service_of(self.environ.get("HETEROSCALE_SERVICE", ""))

    @property
    def port(self) -> int | None:
        """Where it serves, as far as it says."""
        named = self.engine.port if self.engine is not None else None
        return named or port_of(self.environ.get("HETEROSCALE_PORT", ""))


@dataclass(frozen=True, slots=True)
class Belongings:
    """The processes of a pod or job, and the GPUs these were given."""

    pids: frozenset[int]
    gpus: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Look:
    """What one look through all processes found."""

    engines: tuple[Sighting, ...] = ()
    said: frozenset[str] = frozenset()
    """Owners (of ``engines``) whose processes say their service themselves."""
    families: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """Of each engine's pid: itself and what it started."""
    owners: Mapping[str, Belongings] = field(default_factory=dict)


class ProcessScan:
    """Looks through /proc, again and again; blocks for some milliseconds."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._known: dict[tuple[int, int], Proc] = {}

    def look(self, uuids: Mapping[str, int]) -> Look:
        """Return engines and owners. Processes of other users tell what the kernel lets us read."""
        found = {proc.pid: proc for proc in self._read_all()}
        children: dict[int, list[int]] = defaultdict(list)
        for proc in found.values():
            children[proc.parent].append(proc.pid)
        heads = _heads(found, children)
        families = {proc.pid: frozenset(_family(proc.pid, children)) for proc in heads}
        return Look(
            tuple(self._sighting(proc, uuids) for proc in heads),
            frozenset(_owner(proc) for proc in heads if proc.said),
            families,
            _belongings(found.values(), uuids),
        )

    def _read_all(self) -> Iterable[Proc]:
        now = _uptime(self._proc)
        known, self._known = self._known, {}
        for folder in self._proc.iterdir():
            stat = _stat(folder) if folder.name.isdecimal() else None
            if stat is None:
                continue
            parent, ticks = stat
            key = (int(folder.name), ticks)
            proc = known.get(key)
            if proc is None or now - ticks / _TICKS < YOUNG:
                proc = self._read(int(folder.name), parent, ticks)
            self._known[key] = proc
            yield proc

    def _read(self, pid: int, parent: int, ticks: int) -> Proc:
        folder = self._proc / str(pid)
        # In this order: what execs in between is then no engine yet, and never one with the
        # environment of what it was before.
        argv = _text(folder / "cmdline", _MAX_ARGV).rstrip("\0").split("\0")
        environ = _environ(folder)
        # A kernel thread has no command line, and belongs to nobody.
        owner = _owner_of(folder, environ) if argv != [""] else ""
        return Proc(pid, parent, ticks, owner, environ, recognise(argv, environ))

    def _sighting(self, proc: Proc, uuids: Mapping[str, int]) -> Sighting:
        engine, environ = proc.engine, proc.environ
        return Sighting(
            owner=_owner(proc),
            origin=_origin(proc),
            host=self._host(proc),
            port=proc.port,
            service=proc.said,
            role=role_of(environ.get("HETEROSCALE_ROLE", "")) or (engine.role if engine else None),
            engine=engine.engine if engine else engine_of(environ.get("HETEROSCALE_ENGINE", "")),
            model=engine.model if engine else "",
            gpus=held(environ, uuids),
            pid=proc.pid,
        )

    def _host(self, proc: Proc) -> str:
        """Return where it serves: in a network of its own, its address there."""
        host = proc.engine.host if proc.engine is not None else ""
        if not proc.owner.startswith("pod:"):
            return host
        with contextlib.suppress(OSError):
            ours = (self._proc / "self/ns/net").readlink()
            if (self._proc / str(proc.pid) / "ns/net").readlink() == ours:
                return host
        trie = _text(self._proc / str(proc.pid) / "net/fib_trie", _MAX_FIB)
        outside = (found for found in _FIB_LOCAL.findall(trie) if not found.startswith("127."))
        return next(outside, host)


def addresses(proc: Path = PROC) -> frozenset[str]:
    """Return the addresses of this host's network, loopback included."""
    found = set(_FIB_LOCAL.findall(_text(proc / "net/fib_trie", _MAX_FIB)))
    for line in _text(proc / "net/if_inet6", _MAX_FIB).splitlines():
        with contextlib.suppress(ValueError):
            found.add(str(IPv6Address(int(line.split()[0], 16))))
    return frozenset(found | {"127.0.0.1", "::1"})


def _heads(found: Mapping[int, Proc], children: Mapping[int, list[int]]) -> list[Proc]:
    """Return the engines' first processes: none that another engine's process started for itself."""
    engines = {pid: p for pid, p in found.items() if p.engine is not None and not p.tagged}
    heads = [p for p in engines.values() if not _above(p, found, engines)]
    served = {p.owner for p in heads if p.owner}
    tellers = {
        pid: p
        for pid, p in found.items()
        if p.said and p.port and not p.tagged and p.engine is None and p.owner not in served
    }
    for pid, proc in tellers.items():
        below = set(_family(pid, children)) & engines.keys()
        # What an engine started inherits its words; what starts one only passes them on.
        if not below and not _above(proc, found, {**engines, **tellers}):
            heads.append(proc)
    return heads


def _above(proc: Proc, found: Mapping[int, Proc], wanted: Mapping[int, Proc]) -> bool:
    """Return whether a process of ``wanted`` that serves at the same port is above ``proc``."""
    seen, parent = {proc.pid}, proc.parent
    while parent in found and parent not in seen:
        if parent in wanted and wanted[parent].port == proc.port:
            return True
        seen.add(parent)
        parent = found[parent].parent
    return False


def _family(pid: int, children: Mapping[int, list[int]]) -> Iterable[int]:
    waiting, seen = [pid], set[int]()
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting += children.get(one, ())
    return seen


def _belongings(procs: Iterable[Proc], uuids: Mapping[str, int]) -> dict[str, Belongings]:
    grouped: dict[str, list[Proc]] = defaultdict(list)
    for proc in procs:
        if proc.owner:
            grouped[proc.owner].append(proc)
    found = {}
    for owner, members in grouped.items():
        given = [gpus for proc in members if (gpus := held(proc.environ, uuids)) is not None]
        gpus = tuple(sorted(set().union(*given))) if given else None
        found[owner] = Belongings(frozenset(proc.pid for proc in members), gpus)
    return found


def _owner(proc: Proc) -> str:
    return proc.owner or f"pid:{proc.pid}.{proc.start_ticks}"


def _origin(proc: Proc) -> str:
    kind, _, name = proc.owner.partition(":")
    return f"{kind}/{name}" if name else f"process/{proc.pid}"


def _owner_of(folder: Path, environ: Mapping[str, str]) -> str:
    groups = _text(folder / "cgroup", _MAX_ARGV)
    if (pod := _POD.search(groups)) is not None:
        return f"pod:{pod.group(1).replace('_', '-')}"
    if (job := _JOB.search(groups)) is not None:
        return f"job:{job.group(1)}"
    job_id = environ.get("SLURM_JOB_ID", "")
    return f"job:{job_id}" if job_id.isascii() and job_id.isdecimal() else ""


def _stat(folder: Path) -> tuple[int, int] | None:
    """Return parent and start ticks of a process that lives."""
    text = _text(folder / "stat", _MAX_ARGV)
    fields = text[text.rfind(")") + 2 :].split()
    try:
        return None if fields[0] in "ZX" else (int(fields[1]), int(fields[19]))
    except (IndexError, ValueError):
        return None


def _environ(folder: Path) -> dict[str, str]:
    pairs = (one.partition("=") for one in _text(folder / "environ", _MAX_ENVIRON).split("\0"))
    return {name: value[:4096] for name, _, value in pairs if name in _WANTED}


def _text(path: Path, limit: int) -> str:
    try:
        with path.open("rb") as file:
            return os.fsdecode(file.read(limit))
    except OSError:
        return ""


def _uptime(proc: Path) -> float:
    try:
        return float(_text(proc / "uptime", 100).split()[0])
    except (IndexError, ValueError):
        return 0.0
