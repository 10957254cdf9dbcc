"""Tells the registry of engines that others started: what came, what changed, what is gone.

They are facts: in service while their owner says so, or, where nobody says, once their metrics have
answered. They are journaled like our own, so that a restarted agent tells of them in its first hello
and keeps them until the source has answered again. Nothing is ever done to one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import structlog

from heteroscale.words import InstanceState, Role, ScrapeQuality, WithdrawReason
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.discovery.merge import Place, place, served
from heteroscale_agent.discovery.sighting import Sighting
from heteroscale_agent.instances import EngineFacts, Instance, Record, moved
from heteroscale_agent.model import Launch
from heteroscale_agent.ports import Eyes
from heteroscale_agent.registry import Registry

_log = structlog.get_logger(__name__)
_S = InstanceState


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine, put together from all that was seen of it."""

    instance_id: str
    seen: Sighting
    gpus: tuple[int, ...] | None
    """None: which it holds is not known."""
    sees_none: bool = False
    """The driver tells of all GPUs, and its processes are on none of them."""


class Witness:
    """Keeps the registry's records of discovered engines."""

    def __init__(self, spec: AgentSpec, registry: Registry, eyes: Eyes, boot_id: str) -> None:
        self._spec, self._registry, self._eyes, self._boot_id = spec, registry, eyes, boot_id

    async def forget(self, kinds: Collection[str]) -> None:
        """End what an earlier agent found by sources that are asked no more."""
        for instance in self._live():
            if kind_of(instance.record) not in kinds:
                await self._end(instance, "discovery no longer looks for it")

    async def tell(
        self,
        engines: Sequence[Engine],
        answered: Collection[str],
        troubles: Mapping[str, str],
        here: Collection[str],
    ) -> None:
        """Make the records say what ``engines`` do; others of sources that answered are gone."""
        taken = self._taken(here)
        found: set[str] = set()
        for engine in engines:
            if place(engine.seen.host, engine.seen.port, here) in taken:
                continue  # our own, or named in the configuration
            instance = self._find(engine.instance_id)
            if instance is None:
                instance = await self._take_in(engine)
            else:
                await self._follow(instance, engine, troubles)
            found.add(instance.instance_id)
        for instance in self._live():
            kind = kind_of(instance.record)
            if instance.instance_id not in found and kind in answered:
                await self._end(instance, f"its {kind} is gone")

    def _taken(self, here: Collection[str]) -> set[Place | None]:
        """Return where engines serve that are no business of discovery."""
        records = (instance.record for instance in self._registry.instances.values())
        return {served(r.endpoint, here) for r in records if not r.ended and not r.discovered}

    def _find(self, instance_id: str) -> Instance | None:
        """Return the live record of an engine; it has a number behind its id if it once was gone."""
        own = (i for i in self._live() if _base(i.instance_id) == instance_id)
        return next(own, None)

    def _live(self) -> list[Instance]:
        instances = self._registry.instances.values()
        return [i for i in instances if i.record.discovered and not i.record.ended]

    async def _take_in(self, engine: Engine) -> Instance:
        taken = self._registry.instances
        numbered = (f"{engine.instance_id}{f'_{n}' if n > 1 else ''}" for n in count(1))
        instance_id = next(one for one in numbered if one not in taken)
        now = self._registry.clock()
        record = self._facts(engine, Record(instance_id, _launch(engine), _S.WARMING, now, now))
        state, why, reason = self._state(engine, record, now)
        record = replace(record, state=state, withdraw_reason=reason, message=why)
        instance = taken[instance_id] = Instance(record)
        await self._registry.observe(instance, record)
        _log.info("discovered", instance=instance_id, origin=record.origin, state=state.value)
        self._registry.publish(instance)
        return instance

    async def _follow(
        self, instance: Instance, engine: Engine, troubles: Mapping[str, str]
    ) -> None:
        record, now = instance.record, self._registry.clock()
        state, why, reason = self._state(engine, record, now)
        kind = kind_of(record)
        if kind in troubles:
            why = f"{why}; no word of its {kind} now: {troubles[kind]}"
        after = self._facts(engine, record)
        if state is not record.state:
            after = moved(after, state, now, why, withdraw_reason=reason)
        elif why != record.message or after != record:
            after = replace(after, message=why)
        if after != record:
            await self._registry.observe(instance, after)
            if after.generation == record.generation and after.message == record.message:
                self._registry.publish(instance)

    async def _end(self, instance: Instance, why: str) -> None:
        after = moved(instance.record, _S.TERMINATED, self._registry.clock(), why)
        await self._registry.observe(instance, after)

    def _facts(self, engine: Engine, record: Record) -> Record:
        seen = engine.seen
        host = seen.host or self._spec.advertise_host
        unknown = engine.gpus is None and not (engine.sees_none and record.state is _S.IN_SERVICE)
        return replace(
            record,
            launch=_launch(engine),
            origin=seen.origin,
            facts=engine_facts(seen),
            endpoint=f"http://{host}:{seen.port}",
            boot_id=self._boot_id,
            adopted=True,
            gpus_unknown=unknown,
            watched_pid=seen.pid,
        )

    def _state(
        self, engine: Engine, record: Record, now: float
    ) -> tuple[InstanceState, str, WithdrawReason | None]:
        """Return the state of an engine, why, and the reason where it is out of service."""
        seen, origin = engine.seen, engine.seen.origin
        if seen.leaving:
            return _S.DRAINING, f"{origin} is being ended by its owner", None
        ready = seen.ready
        if ready is None:
            # Nobody says: it serves from its first answer on; what it is like then, metrics tell.
            ready = record.state in (_S.IN_SERVICE, _S.DRAINING) or self._answers(record)
        if ready:
            return _S.IN_SERVICE, f"found: {origin}", None
        young = now - record.launched_at <= self._spec.discovery.startup_timeout
        if record.state is _S.WARMING and young:
            return _S.WARMING, f"found: {origin}, starting", None
        said = "is not ready" if seen.ready is False else "does not answer"
        return _S.WITHDRAWN, f"{origin} {said}", WithdrawReason.SICK

    def _answers(self, record: Record) -> bool:
        state = self._eyes.engine(record.instance_id)
        return state is not None and state.quality is ScrapeQuality.OK


def kind_of(record: Record) -> str:
    """Return the kind of owner: `pod`, `job` or `process`."""
    return record.instance_id.partition("-")[0].replace("pid", "process")


def engine_facts(seen: Sighting) -> EngineFacts:
    """Return how an engine that was seen is scraped."""
    kind = seen.engine or "vllm"
    usual = "/prometheus/metrics" if kind == "tensorrt-llm" else "/metrics"
    return EngineFacts(engine=kind, metrics_path=seen.metrics_path or usual)


def _base(instance_id: str) -> str:
    head, _, number = instance_id.rpartition("_")
    return head if head and number.isdecimal() else instance_id


def _launch(engine: Engine) -> Launch:
    seen = engine.seen
    role = seen.role or Role.AGGREGATED
    return Launch(seen.service, role, template="", gpu_indices=engine.gpus or ())
