"""What a starting agent finds: its journal's instances, and which of their processes still run.

An engine is known again by pid and start time. One whose launch was cut short by the agent's death
has no pid in the journal; it is looked for by its tag. Found: adopted, and the launch is done. Not
found: the answer is UNKNOWN, because it may have run and ended; nobody guesses. Last, the host is
searched for engines that the journal should know and does not (`strays`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog
from pydantic import ValidationError

from heteroscale.words import InstanceState, Outcome
from heteroscale_agent.config import AgentSpec, StaticEngine
from heteroscale_agent.hands.port import Hands
from heteroscale_agent.hands.process import Exit, Ident
from heteroscale_agent.instances import EngineFacts, Instance, Record, load_record
from heteroscale_agent.leases import until
from heteroscale_agent.life import Life, ident
from heteroscale_agent.model import CommandResult, Launch
from heteroscale_agent.registry import Registry
from heteroscale_agent.strays import record_of

_log = structlog.get_logger(__name__)
CONFIG_ORIGIN = "config"


async def adopt(registry: Registry, life: Life, hands: Hands) -> None:
    """Bring back every instance of the journal, then answer the commands that were cut short."""
    for instance_id, data in registry.journal.records().items():
        try:
            record = load_record(data)
        except ValidationError as error:
            # Its engine, if it runs, is among the strays.
            _log.error("journal.record_unreadable", instance=instance_id, error=str(error)[:500])
            continue
        instance = Instance(record)
        registry.instances[instance_id] = instance
        await _find(registry, life, hands, instance)
    await _take_in_strays(registry, hands)
    for intent in registry.journal.interrupted():
        found = registry.instances.get(intent.instance_id)
        if found is not None and not found.record.ended and intent.verb == "launch":
            said = f"found running as pid {found.record.pid} after the agent's restart"
            result = CommandResult(intent.command_id, Outcome.DONE, said)
        else:
            said = f"the agent died in the midst of this {intent.verb}, and finds no trace of it"
            result = CommandResult(intent.command_id, Outcome.UNKNOWN, said)
        await registry.note([registry.result_entry(result)])


async def _take_in_strays(registry: Registry, hands: Hands) -> None:
    for found in await asyncio.to_thread(hands.processes.scan):
        known = registry.instances.get(found.instance_id)
        if known is None:
            record = record_of(found, registry.clock(), hands.boot_id)
            _log.error("journal.engine_missing", instance=found.instance_id, why=record.message)
            instance = registry.instances[found.instance_id] = Instance(record)
            if not record.origin:
                await registry.observe(instance, record)
        elif known.record.ended:
            # Nobody counts it any more, but it would hold its GPUs.
            _log.error("process.outlived_its_instance", instance=found.instance_id)
            await asyncio.to_thread(hands.processes.kill, found.ident)


async def _find(registry: Registry, life: Life, hands: Hands, instance: Instance) -> None:
    record, now = instance.record, registry.clock()
    same_boot = record.boot_id == hands.boot_id
    if record.ended or record.discovered:
        # What others started is looked for again; until then it is what it was.
        if not same_boot:
            instance.record = replace(record, since_at=now, boot_id=hands.boot_id)
        return
    process: Ident | None = None
    if same_boot and record.pid and hands.processes.poll(ident(record)) is None:
        process = ident(record)
    elif same_boot and not record.pid:
        process = await asyncio.to_thread(hands.processes.find, record.instance_id)
    if process is not None:
        instance.lease_until_at = until(record, now)
        said = f"{record.message}; adopted after the agent's restart"
        after = replace(
            record,
            pid=process.pid,
            start_ticks=process.start_ticks,
            adopted=True,
            message=record.message if record.adopted else said,
        )
        await registry.observe(instance, after)
        return
    if same_boot and record.pid:
        # What the engine left behind while nobody looked would hold its GPUs.
        await asyncio.to_thread(hands.processes.kill, ident(record))
    if not same_boot:
        # After a reboot the old clock and pids mean nothing.
        instance.record = replace(record, since_at=now, boot_id=hands.boot_id)
    await life.ended(instance, Exit(None))


def static_record(engine: StaticEngine, now: float) -> Record:
    """Return an engine that somebody else started: a fact in service, not ours to command."""
    return Record(
        instance_id=engine.instance_id,
        launch=Launch(
            service=engine.service, role=engine.role, template="", gpu_indices=engine.gpus
        ),
        state=InstanceState.IN_SERVICE,
        since_at=now,
        launched_at=now,
        origin=CONFIG_ORIGIN,
        facts=EngineFacts(
            engine=engine.engine,
            metrics_path=engine.metrics_path,
            model_name=engine.model_name,
        ),
        endpoint=engine.endpoint.rstrip("/"),
        adopted=True,
        message="named in the agent's configuration",
    )


def add_static(registry: Registry, spec: AgentSpec) -> None:
    """Add the engines of the configuration; one that the journal knows stays the journal's."""
    for engine in spec.engines:
        if engine.instance_id in registry.instances:
            _log.error("config.engine_id_taken", instance=engine.instance_id)
            continue
        record = static_record(engine, registry.clock())
        registry.instances[engine.instance_id] = Instance(record)
