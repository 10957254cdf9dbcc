"""Finds engines that others started: asks the sources, puts what they say together, tells the witness."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.discovery.merge import merge
from heteroscale_agent.discovery.procs import Look, addresses
from heteroscale_agent.discovery.sighting import Sighting, instance_id, ruled
from heteroscale_agent.discovery.sources import Source, job_source, pod_source, process_source
from heteroscale_agent.discovery.witness import Engine, Witness
from heteroscale_agent.ports import Clock, Eyes

RECHECK = 1.0
"""Seconds from one look at engines that have not answered yet to the next."""


@dataclass(frozen=True, slots=True)
class Unplaced:
    """An engine that is seen and not watched, and what is missing."""

    origin: str
    why: str


class Finder:
    """Engines of this host that nobody configured. Owned by the body, which lets it take steps."""

    def __init__(
        self,
        spec: AgentSpec,
        witness: Witness,
        eyes: Eyes,
        *,
        agent_id: str,
        boot_id: str,
        clock: Clock,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._spec, self._witness, self._eyes, self._clock = spec, witness, eyes, clock
        self._salt = (agent_id, boot_id)
        self._pods = pod_source(spec, environ, self._heard)
        self._jobs = job_source(spec, environ, self._heard)
        self._processes = process_source(spec, self._uuids, self._heard)
        self._tasks: list[asyncio.Task[None]] = []
        self._news = True
        self._due_at = 0.0
        self._here = _addresses(spec.advertise_host)
        self.unplaced: tuple[Unplaced, ...] = ()
        self.measured: tuple[Engine, ...] = ()
        """Engines of which an adapter tells: they are scraped, and nothing else is said of them."""

    @property
    def sources(self) -> list[Source[Any]]:
        """All that are asked."""
        named = (self._pods, self._jobs)
        asked: list[Source[Any]] = [source for source in named if source is not None]
        return [*asked, self._processes] if asked or self._spec.discovery.processes else asked

    def start(self) -> None:
        """Begin to ask."""
        self._tasks = [
            asyncio.create_task(source.run(), name=f"discovery {source.name}")
            for source in self.sources
        ]

    async def close(self) -> None:
        """Ask no more; does not wait for a source that hangs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for source in self.sources:
            source.close()

    def due(self, now: float) -> bool:
        """Return whether a step is worth taking."""
        return bool(self.sources) and (self._news or now >= self._due_at)

    async def step(self) -> None:
        """Tell the witness what stands on this host now."""
        self._news = False
        self._due_at = self._clock() + RECHECK
        if self._processes.answer is None and not self._processes.problem:
            return  # where a pod or job serves, and so which instance it is, may be theirs to tell
        answered = {source.kind for source in self.sources if source.answer is not None}
        troubles = {source.kind: source.problem for source in self.sources if source.problem}
        engines = self.engines()
        self.measured = tuple(one for one in engines if one.seen.told_as)
        own = [one for one in engines if not one.seen.told_as]
        await self._witness.tell(own, answered, troubles, self._here)

    def engines(self) -> list[Engine]:
        """Return every engine that is seen and has a service; the others are `unplaced`."""
        look = self._processes.answer or Look()
        seen = [*self._told(self._pods), *self._told(self._jobs), *look.engines]
        founders = {one.owner for one in self._founding(seen, look)}
        found: list[Engine] = []
        unplaced: list[Unplaced] = []
        for one in merge(seen, self._here):
            if one.owner not in founders or self._is_told(one):
                continue
            service = one.service or ruled(self._spec.discovery.services, one.model)
            if service or one.told_as:
                found.append(self._engine(replace(one, service=service), look))
            else:
                unplaced.append(Unplaced(one.origin, _missing(one)))
        self.unplaced = tuple(unplaced)
        return found

    def _is_told(self, one: Sighting) -> bool:
        """Whether an adapter tells of it, and nobody says as which instance: no pod was asked for it."""
        adapted = bool(self._spec.kubernetes.cluster) and one.owner.startswith("pod:")
        return adapted and not one.told_as

    def _founding(self, seen: Iterable[Sighting], look: Look) -> Iterable[Sighting]:
        """Yield those that may be engines by themselves; others only add to what they say."""
        for one in seen:
            said = one.owner in look.said and one.owner.startswith("job:")
            of_job = self._jobs is not None and said
            if not one.pid or self._spec.discovery.processes or of_job:
                yield one

    def _engine(self, one: Sighting, look: Look) -> Engine:
        family = look.families.get(one.pid, frozenset[int]())
        owned = look.owners.get(one.owner)
        gpus, exact = one.gpus, False
        using = self._using(family or (owned.pids if owned is not None else frozenset()))
        if using:
            gpus, exact = using, True
        elif gpus is None and owned is not None:
            gpus = owned.gpus
        # Pods and jobs outlive a reboot of nobody; a pid and its ticks do come again after one.
        salt = self._salt if one.owner.startswith("pid:") else self._salt[:1]
        return Engine(
            one.told_as or instance_id(one.owner, one.port, *salt, one.service),
            one,
            gpus if exact or gpus is None else tuple(sorted(gpus)),
            sees_none=using == () and bool(family),
        )

    def _using(self, pids: frozenset[int]) -> tuple[int, ...] | None:
        """Return the GPUs on which the driver lists one of ``pids``; None: it does not tell of all."""
        readings = self._eyes.gpus_now()
        if not readings:
            return None
        used = [gpu.index for gpu, reading in readings if _on(reading, pids)]
        if not used and any(reading.process_count is None for _, reading in readings):
            return None
        return tuple(used)

    def _uuids(self) -> Mapping[str, int]:
        return {gpu.uuid: gpu.index for gpu in self._eyes.inventory().gpus}

    def _heard(self) -> None:
        self._news = True

    @staticmethod
    def _told(source: Source[list[Sighting]] | None) -> list[Sighting]:
        return source.answer or [] if source is not None else []


def _on(gpu: Any, pids: frozenset[int]) -> bool:
    return any(process.pid in pids for process in gpu.processes)


def _missing(one: Sighting) -> str:
    said = f"model {one.model!r}" if one.model else "no model"
    return (
        f"{one.engine or 'engine'} at port {one.port} names no service ({said}): add a rule to "
        "discovery.services, or label it"
    )


def _addresses(advertised: str) -> frozenset[str]:
    """Return all names and addresses of this host."""
    return frozenset({"localhost", os.uname().nodename, advertised, *addresses()})
