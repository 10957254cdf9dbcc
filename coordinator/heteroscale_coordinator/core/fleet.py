"""Folds what agents say into the state: who is there, what runs, what was measured.

Telemetry (agents, tracks) is folded in place, because it is never persisted and a repeated fact does
no harm. What an agent says of instances and commands goes through the draft and is committed.
"""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import InstanceState, Outcome
from heteroscale_coordinator.core import breaker, routers, silence, subclusters, within
from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.command import answer, end
from heteroscale_coordinator.core.devices import NO_DEVICES
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import (
    AgentConnected,
    AgentDisconnected,
    AskHello,
    CommandAnswered,
    InventoryLearned,
    RankChanged,
    ReportReceived,
)
from heteroscale_coordinator.core.hardware import hardware_of
from heteroscale_coordinator.core.model import (
    Command,
    CommandState,
    EngineSample,
    Instance,
    RankFact,
    RouterSample,
    Service,
    Verb,
)
from heteroscale_coordinator.core.spec.source import WATCHER
from heteroscale_coordinator.core.state import Agent
from heteroscale_coordinator.core.switching import switched
from heteroscale_coordinator.core.track import UNTOLD, Track, spacing_of

MAX_STARTUPS = 20
_LONGEST = 120.0
"""Seconds of the longest window of an instance that no service is known of."""


def connected(draft: Draft, event: AgentConnected) -> None:
    """An agent said hello: what it lists runs, and what it does not list does not."""
    agent = _hear(draft, event.agent_id)
    agent.hostname, agent.version = event.hostname, event.version
    agent.advertise_host = event.advertise_host
    if event.incarnation != agent.incarnation:
        _rebase(draft, event.agent_id)
    agent.incarnation, agent.sequence, agent.connected = event.incarnation, 0, True
    agent.message, agent.stands_for = "", event.stands_for
    draft.state.seen.touch(event.agent_id)
    if event.stands_for is not None:
        within.arrived(draft, event, event.stands_for)
    for fact in event.facts:
        told(draft, event.agent_id, fact)
    listed = {fact.instance_id for fact in event.facts}
    for instance in draft.instances_on(event.agent_id):
        if instance.instance_id not in listed:
            _missing(draft, instance, event.agent_id)
    _measure(draft, event.agent_id, event.history, live=False)
    _measure_routers(draft, event.agent_id, event.router_history)


def disconnected(draft: Draft, event: AgentDisconnected) -> None:
    """A stream ended. Nothing is concluded from it: silence is told by time alone."""
    agent = draft.state.agents.get(event.agent_id)
    if agent is not None and agent.incarnation == event.incarnation:
        agent.connected = False
        agent.message = event.why
        draft.state.seen.touch(event.agent_id)


def inventory_learned(draft: Draft, event: InventoryLearned) -> None:
    """The slow facts of a host came, or were read back from the store."""
    agent = draft.state.agent(event.agent_id, draft.now)
    before, after = agent.inventory, event.inventory
    if (before.gpus, before.nics) != (after.gpus, after.nics):
        # Readings stand in the inventory's order: those of the old one say nothing of the new.
        agent.devices = NO_DEVICES
    agent.inventory = event.inventory
    draft.state.seen.touch(event.agent_id)
    for instance in draft.instances_on(event.agent_id):
        if not instance.gpu_type and instance.agent_id == event.agent_id:
            gpu_type = _type_of(agent, instance.ranks[0].gpu_indices)
            draft.put_instance(replace(instance, gpu_type=gpu_type))


def reported(draft: Draft, event: ReportReceived) -> None:
    """Take in a report, unless a newer one has been.

    A report lists no instances. Of an agent that was forgotten while its stream lived (its host only
    slept) a hello alone tells what runs there.
    """
    agent = draft.state.agents.get(event.agent_id)
    if agent is None or event.incarnation > agent.incarnation:
        draft.emit(AskHello(event.agent_id, event.incarnation))
        return
    if event.incarnation < agent.incarnation:
        return
    if event.sequence <= agent.sequence:
        return
    if agent.devices.suspect or event.devices.suspect:
        draft.state.seen.touch(event.agent_id)
    agent.heard_at, agent.sequence, agent.devices = draft.now, event.sequence, event.devices
    _measure(draft, event.agent_id, event.engines, live=True)
    if event.routers:
        _measure_routers(draft, event.agent_id, event.routers)


def rank_changed(draft: Draft, event: RankChanged) -> None:
    """An instance changed, by an agent's word."""
    _hear(draft, event.agent_id)
    told(draft, event.agent_id, event.fact, event.cause)


def answered(draft: Draft, event: CommandAnswered) -> None:
    """An agent answered a command; a launch that failed is to be tried elsewhere."""
    _hear(draft, event.agent_id)
    if event.fact is not None:
        told(draft, event.agent_id, event.fact, event.command_id)
    command = draft.command(event.command_id)
    if command is None or command.agent_id != event.agent_id:
        return
    after = answer(draft, command, event.outcome, event.message)
    if after.ended and not command.ended:
        switched(draft, after)
    failed = event.outcome in (Outcome.REFUSED, Outcome.FAILED, Outcome.UNKNOWN)
    if command.verb is Verb.LAUNCH and failed:
        launch_failed(draft, command, f"launch {event.outcome}: {event.message}")


def expired(draft: Draft, command: Command) -> None:
    """An agent never answered a command; what counted on it is put right."""
    if command.verb is Verb.LAUNCH:
        launch_failed(draft, command, "launch was never confirmed")
    else:
        switched(draft, replace(command, state=CommandState.EXPIRED))


def told(draft: Draft, agent_id: str, fact: RankFact, cause: str = "") -> None:
    """Fold one agent's word on one rank, and what follows from it for commands and service."""
    before, agent = draft.instance(fact.instance_id), draft.state.agent(agent_id, draft.now)
    claim = agent.stands_for
    if before is None:
        if fact.state in life.ENDED:
            return
        gpu_type = fact.gpu_type or _type_of(agent, fact.gpu_indices)
        node = claim.within if claim else ""
        draft.put_instance(life.adopt(fact, agent_id, gpu_type, draft.now, node))
        return
    if claim is not None and not before.told_by(agent_id):
        return  # another stands for it: this one was told to go
    if within.outlives(draft, before, agent_id, fact):
        draft.put_instance(within.disowned(before, fact, draft.now))
        return
    after = life.fold(before, fact, agent_id, draft.now, cause)
    if silence.hushed(draft.state, after):
        after = life.hush(after, before)
    draft.put_instance(after)
    if after.state is not before.state:
        _changed(draft, before, after)


def launch_failed(draft: Draft, command: Command, message: str) -> None:
    """A launch came to nothing: its rank has failed, and with it the instance."""
    instance = draft.instance(command.instance_id)
    if instance is None or instance.ranks[command.rank].state in life.ENDED:
        return
    if within.superseded(instance, command):
        return  # whatever became of the submission: its job runs
    # What was placed elsewhere before was tried by nobody: its agent's late no is no failure.
    elsewhere = subclusters.never_started(draft, instance)
    state = InstanceState.TERMINATED if elsewhere else InstanceState.FAILED
    failed = life.end_rank(instance, command.rank, state, draft.now, message)
    draft.put_instance(failed)
    if failed.state is not instance.state:
        _changed(draft, instance, failed)


def _changed(draft: Draft, before: Instance, after: Instance) -> None:
    service = draft.service(after.service)
    _close_drains(draft, after)
    if service is None:
        return
    if after.state is InstanceState.FAILED:
        _count_failure(draft, service, before, after)
    elif after.startup_time is not None and before.startup_time is None:
        kept = (*service.memory.startup_times, after.startup_time)[-MAX_STARTUPS:]
        memory = replace(service.memory, startup_times=kept)
        draft.put_service(replace(service, memory=memory))


def _close_drains(draft: Draft, after: Instance) -> None:
    """A drain whose instance is back in service, or gone, is over."""
    if after.state in (InstanceState.DRAINING, InstanceState.UNKNOWN, InstanceState.LOST):
        return
    gone = after.state in life.ENDED
    for command in draft.commands_of(after.instance_id):
        if gone and command.verb in (Verb.DRAIN, Verb.TERMINATE):
            end(draft, command, CommandState.DONE, after.message)
        elif gone and command.verb is Verb.SWITCH_ROLE:
            end(draft, command, CommandState.FAILED, after.message)
            switched(draft, replace(command, state=CommandState.FAILED))
        elif command.verb is Verb.DRAIN and command.state is CommandState.ACCEPTED:
            end(draft, command, CommandState.FAILED, f"went back: {after.state}")


def _count_failure(draft: Draft, service: Service, before: Instance, after: Instance) -> None:
    """A launch failed, or an engine died: too young, and it is a failed launch as well."""
    spec, memory = service.spec.policy.stability.breaker, service.memory
    if before.startup_time is None:
        young = True
    elif before.state in (InstanceState.WARMING, InstanceState.IN_SERVICE) and before.ours:
        young = draft.now - (before.created_at + before.startup_time) < spec.proof
    else:
        return  # it was on its way out, or its agent had been silent: nothing was tried
    state = draft.state
    rivals = state.seen.view.ledger.having(after.gpu_type)
    home = state.sub_cluster if len(rivals) > 1 else None
    if young:
        memory = breaker.after_failure(memory, spec, state.rules, after, draft.now, home=home)
    else:
        memory = breaker.counted(memory, spec, after, draft.now, home)
    draft.put_service(replace(service, memory=memory))


def _missing(draft: Draft, instance: Instance, agent_id: str) -> None:
    """A connected agent does not list a rank that we believe is there."""
    waiting = any(
        command.verb is Verb.LAUNCH
        and command.state is CommandState.OPEN
        and command.agent_id == agent_id
        for command in draft.commands_of(instance.instance_id)
    )
    if waiting:
        return  # its launch is still to be sent again
    # What others started and nobody configures any more has come to no harm.
    leaving = instance.state is InstanceState.DRAINING or not instance.ours
    # Nor has what was placed elsewhere before it was started.
    leaving |= subclusters.never_started(draft, instance)
    state = InstanceState.TERMINATED if leaving else InstanceState.FAILED
    gone = instance
    for number, rank in enumerate(instance.ranks):
        if within.awaited(instance, number):
            continue
        if rank.voice == agent_id and rank.state not in life.ENDED:
            message = f"agent {agent_id} no longer has it"
            gone = life.end_rank(gone, number, state, draft.now, message)
    if gone is not instance:
        draft.put_instance(gone)
        if gone.state is not instance.state:
            _changed(draft, instance, gone)


def _hear(draft: Draft, agent_id: str) -> Agent:
    """Note that an agent is alive; the next tick takes back what was UNKNOWN or LOST with it."""
    agent = draft.state.agent(agent_id, draft.now)
    if agent.silent:
        draft.state.seen.touch(agent_id)
    agent.heard, agent.heard_at, agent.silent = True, draft.now, False
    return agent


def _measure(draft: Draft, agent_id: str, samples: tuple[EngineSample, ...], *, live: bool) -> None:
    """Put samples into their tracks; beside ``live`` ones stands what the hosts' devices say now.

    A track has one source: two that count from moments of their own would cut each other off.
    """
    tracks, agents = draft.state.tracks, draft.state.agents
    watcher = agent_id.startswith(WATCHER)
    for sample in samples:
        track, instance = tracks.get(sample.instance_id), draft.instance(sample.instance_id)
        service = draft.service(instance.service) if instance is not None else None
        if watcher is not (service is not None and service.spec.measured_by_prometheus):
            continue
        if track is None:
            if instance is None:
                continue
            longest = service.spec.policy.window_in if service else _LONGEST
            track = tracks[sample.instance_id] = Track(spacing_of(longest))
        known = hardware_of(agents, instance, sample) if live and instance else UNTOLD
        track.add(sample, known)


def _measure_routers(draft: Draft, agent_id: str, samples: tuple[RouterSample, ...]) -> None:
    for sample in samples:
        service = draft.service(sample.service)
        if service is None:
            continue
        tracks = draft.state.routers.setdefault(sample.service, {})
        spacing = spacing_of(service.spec.policy.window_in)
        routers.add(tracks, agent_id, sample, draft.now, spacing)


def _rebase(draft: Draft, agent_id: str) -> None:
    """A new process of an agent counts from zero: its engines' and routers' tracks begin anew."""
    for tracks in draft.state.routers.values():
        for track in tracks.values():
            track.let_go(agent_id)
    for instance in draft.instances_on(agent_id):
        if instance.voice == agent_id:
            draft.state.tracks.pop(instance.instance_id, None)


def _type_of(agent: Agent, gpu_indices: tuple[int, ...]) -> str:
    types = {gpu.index: gpu.type for gpu in agent.inventory.gpus}
    return types.get(gpu_indices[0], "") if gpu_indices else ""
