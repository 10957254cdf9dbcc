"""Whose processes are on which GPU, and the GPUs with their readings as one value.

An engine leads a session, and its workers stay in it or are its children: so /proc tells whose a
process is, for the few that are on a GPU. Where it does not tell (a pid of another namespace, an
engine whose own pid nobody knows), that is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from heteroscale_agent.hands.procfs import Stat, read_stat
from heteroscale_agent.model import Gpu, GpuProcess, GpuReading
from heteroscale_agent.ports import GpuHolder
from heteroscale_agent.probes.gpu.probe import GpuProbe

_GENERATIONS = 16
"""So many parents up an engine is looked for."""


@dataclass(frozen=True, slots=True)
class GpuUse:
    """What an instance's own processes take of its GPUs."""

    memory_bytes: int | None = None
    sm_percent: float | None = None
    """The mean over its GPUs."""


@dataclass(frozen=True, slots=True)
class GpuView:
    """One look: readings stand in the order of ``gpus``."""

    gpus: tuple[Gpu, ...] = ()
    readings: tuple[GpuReading, ...] = ()
    driver_version: str = ""
    use: Mapping[str, GpuUse] | None = None
    """By instance."""


class GpuWatch:
    """Looks at the GPUs; `look` may block in the driver, `hold` may be called from any thread."""

    def __init__(self, probe: GpuProbe, *, stat: Callable[[int], Stat | None] = read_stat) -> None:
        """Look through `probe`; `stat` tells of a process."""
        self._probe, self._stat = probe, stat
        self._holders: tuple[GpuHolder, ...] = ()

    def open(self) -> None:
        """See `GpuProbe.open`; where it fails, later looks try again."""
        self._probe.open()

    def close(self) -> None:
        """Let go of the driver."""
        self._probe.close()

    def hold(self, holders: Iterable[GpuHolder]) -> None:
        """Replace what is known of who holds which GPU."""
        self._holders = tuple(holders)
        self._probe.held = {gpu for holder in self._holders for gpu in holder.gpus}

    def look(self) -> GpuView:
        """Read every GPU and tell whose its processes are. Never raises."""
        holders = self._holders
        readings = self._probe.look()
        gpus = self._probe.gpus
        owners = _Owners(holders, self._stat)
        seen = tuple(
            replace(reading, foreign_process_count=owners.foreign(gpu.index, reading))
            for gpu, reading in zip(gpus, readings, strict=True)
        )
        use = {
            holder.instance_id: _use(holder, gpus, readings, owners)
            for holder in holders
            if holder.pid is not None
        }
        return GpuView(gpus, seen, self._probe.driver_version, use)


class _Owners:
    """Finds the instance of a process; each is looked up once."""

    def __init__(self, holders: Sequence[GpuHolder], stat: Callable[[int], Stat | None]) -> None:
        self._leaders = {one.pid: one.instance_id for one in holders if one.pid is not None}
        self._unseen = {gpu for one in holders if one.pid is None for gpu in one.gpus}
        self._stat = stat
        self._found: dict[int, str | None] = {}

    def of(self, pid: int) -> str | None:
        """Return the instance's id, empty when it is of none, None when that is not known."""
        if pid not in self._found:
            self._found[pid] = self._search(pid)
        return self._found[pid]

    def foreign(self, index: int, reading: GpuReading) -> int | None:
        """Return how many processes on a GPU belong to no instance."""
        if reading.process_count is None or index in self._unseen:
            return None
        owners = [self.of(process.pid) for process in reading.processes]
        return None if None in owners else owners.count("")

    def _search(self, pid: int) -> str | None:
        for generation in range(_GENERATIONS):
            stat = self._stat(pid)
            if stat is None:
                return None if generation == 0 else ""
            owner = self._leaders.get(pid) or self._leaders.get(stat.session)
            if owner is not None:
                return owner
            pid = stat.parent
            if pid <= 1:
                break
        return ""


def _use(
    holder: GpuHolder, gpus: Sequence[Gpu], readings: Sequence[GpuReading], owners: _Owners
) -> GpuUse:
    looked_at = [
        reading
        for gpu, reading in zip(gpus, readings, strict=True)
        if gpu.index in holder.gpus or not holder.gpus
    ]
    if not looked_at or any(reading.process_count is None for reading in looked_at):
        return GpuUse()
    everyone = [process for reading in looked_at for process in reading.processes]
    if any(owners.of(process.pid) is None for process in everyone):
        return GpuUse()
    own = [process for process in everyone if owners.of(process.pid) == holder.instance_id]
    if not holder.gpus and not own:
        return GpuUse()  # it needs no GPU, as far as anybody knows
    return GpuUse(_memory(own), _share(own, len(holder.gpus) or 1))


def _memory(own: Sequence[GpuProcess]) -> int | None:
    known = [process.memory_bytes for process in own if process.memory_bytes is not None]
    return sum(known) if len(known) == len(own) else None


def _share(own: Sequence[GpuProcess], gpus: int) -> float | None:
    known = [process.sm_percent for process in own if process.sm_percent is not None]
    return sum(known) / gpus if len(known) == len(own) else None
