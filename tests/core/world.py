"""A small world in virtual time around the real turn: twin agents, and a plant that can be choked.

The plant is a toy on purpose (``toy``). What matters is that signals come out as agents report them,
cumulative and aged, and that commands are answered as agents answer them, some turns later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count

from heteroscale.words import GateState, InstanceState, Outcome, Role, ScrapeQuality, WithdrawReason
from heteroscale_coordinator.core.devices import GpuFact, GpuSample, KnownDevices
from heteroscale_coordinator.core.events import (
    AgentConnected,
    AskHello,
    Changes,
    CommandAnswered,
    Event,
    InventoryLearned,
    RankChanged,
    ReportReceived,
    Tick,
)
from heteroscale_coordinator.core.model import (
    Command,
    Decision,
    EngineSample,
    Inventory,
    LatencySample,
    RankFact,
    TemplateFact,
    Verb,
)
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import renewals
from heteroscale_coordinator.zones import ZonedStep
from tests.core.toy import SERVING, Engine, Plant, Traffic, TwinAgent

S = InstanceState


class World:
    """State, twins and plant; ``run`` moves virtual time on a second at a time."""

    def __init__(self, rules: Rules | None = None, start: float = 1_000_000.0) -> None:
        self.state = State(rules or Rules())
        self.start = self.now = start
        self.state.begin(start)
        self._step = ZonedStep()
        self.agents: dict[str, TwinAgent] = {}
        self.plant = Plant()
        self.startup = 30.0
        self.startup_timeout = 600.0
        self.life: float | None = None
        """Seconds after its launch at which what is launched from now on is killed; None: it lives on."""
        self.switches = False
        """Whether engines of agents that join can change their role."""
        self.startups: dict[Role, float] = {}
        """Of the roles that take another time."""
        self.decisions: list[Decision] = []
        self.commands: list[Command] = []
        self.on_turn: Callable[[World], None] = lambda _: None
        self._ids = count(1)
        self._inbox: list[Event] = []

    @property
    def traffic(self) -> Traffic:
        """What clients send."""
        return self.plant.traffic

    # ---- what a script does --------------------------------------------------------------------

    def join(self, agent_id: str, topology: dict[str, str], gpus: Iterable[str]) -> TwinAgent:
        """An agent says hello for the first time."""
        inventory = Inventory(
            hash=agent_id,
            gpus=tuple(GpuFact(i, kind) for i, kind in enumerate(gpus)),
            topology=topology,
            templates=(
                TemplateFact("prefill", Role.PREFILL, 1, "sglang", self.switches),
                TemplateFact("decode", Role.DECODE, 1, "sglang", self.switches),
                TemplateFact("whole", Role.AGGREGATED, 1, "vllm"),
                TemplateFact("attention", Role.ATTENTION, 1, "sglang"),
                TemplateFact("ffn", Role.FFN, 1, "sglang"),
            ),
        )
        agent = self.agents[agent_id] = TwinAgent(agent_id, inventory)
        self.hello(agent)
        return agent

    def hello(self, agent: TwinAgent) -> None:
        """An agent connects, or connects again."""
        self.send(InventoryLearned(agent.agent_id, agent.inventory))
        facts = tuple(engine.fact for engine in agent.engines.values())
        agent.sequence = 0
        self.send(AgentConnected(agent.agent_id, agent.incarnation, agent.agent_id, facts))

    def send(self, event: Event) -> None:
        """Put an event into the next turn."""
        self._inbox.append(event)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end:
            self.now += 1.0
            self.plant.flow(self.engines(), 1.0)
            self._agents_live()
            if (self.now - self.start) % self.state.rules.report_interval < 1.0:
                self._report()
            self.turn()

    def turn(self) -> None:
        """Take one turn with what is in the inbox, as the loop does."""
        events, self._inbox = [*self._inbox, Tick()], []
        self.release(self._step(self.state, events, self.now, self._mint))

    def release(self, changes: Changes) -> None:
        """What is committed takes effect: leases are renewed, orders leave."""
        self.state.apply(changes)
        self.decisions.extend(changes.decisions)
        self._renew()
        for command in changes.commands.values():
            if command is not None and command.state == "open":
                self.commands.append(command)
                self._obey(command)
        for effect in changes.effects:
            if isinstance(effect, AskHello) and not self.agents[effect.agent_id].silent:
                self.hello(self.agents[effect.agent_id])
        self.on_turn(self)

    def _renew(self) -> None:
        for renewal in renewals(self.state, self.now):
            agent = self.agents[renewal.agent_id]
            for instance_id, lease in renewal.leases.items():
                engine = agent.engines.get(instance_id)
                if engine is not None and not agent.silent:
                    engine.lease_until = self.now + lease

    def instances(self, role: Role, *states: InstanceState) -> list[str]:
        """Return ids of instances of a role, in any of ``states`` if given."""
        return sorted(
            i.instance_id
            for i in self.state.instances.values()
            if i.role is role and (not states or i.state in states)
        )

    def serving(self, role: Role) -> int:
        """Return how many of a role are in service."""
        return len(self.instances(role, S.IN_SERVICE))

    def _mint(self, kind: str) -> str:
        return f"{kind}-{next(self._ids)}"

    # ---- agents --------------------------------------------------------------------------------

    def _obey(self, command: Command) -> None:
        agent = self.agents[command.agent_id]
        if agent.silent:
            return
        if agent.refuses:
            self._answer(agent, command, Outcome.REFUSED, agent.refuses)
            return
        if command.verb is Verb.LAUNCH:
            self._launch(agent, command)
            return
        engine = agent.engines.get(command.instance_id)
        if engine is None or engine.fact.generation != command.expected_generation:
            self._answer(agent, command, Outcome.REFUSED, "stale generation")
            return
        match command.verb:
            case Verb.WITHDRAW:
                self._become(agent, engine, S.WITHDRAWN, command.reason)
                engine.lease_until = self.now + (command.lease or 30.0)
            case Verb.REINSTATE:
                self._become(agent, engine, S.IN_SERVICE)
                engine.lease_until = None
            case Verb.SWITCH_ROLE:
                self._answer(agent, command, Outcome.ACCEPTED)
                self._become(agent, engine, S.WITHDRAWN, WithdrawReason.MAINTENANCE)
                if not agent.slow_to_switch:
                    self.end_switch(command)
                return
            case _:
                self._become(agent, engine, S.DRAINING)
                self._answer(agent, command, Outcome.ACCEPTED)
                return
        self._answer(agent, command, Outcome.DONE)

    def _launch(self, agent: TwinAgent, command: Command) -> None:
        instance = self.state.instances[command.instance_id]
        fact = RankFact(
            instance.instance_id,
            instance.service,
            instance.role,
            S.LAUNCHING,
            1,
            gpu_indices=instance.ranks[command.rank].gpu_indices,
            endpoint=f"http://{agent.agent_id}/{instance.instance_id}",
            group=instance.group,
            ends_at=None if self.life is None else self.now + self.life,
        )
        takes = self.startups.get(instance.role, self.startup)
        ready_at = math.inf if agent.stillborn else self.now + takes
        hold = command.lease if command.reason is WithdrawReason.RATIO_HOLD else None
        agent.engines[instance.instance_id] = Engine(fact, ready_at, self.now, hold=hold)
        self._answer(agent, command, Outcome.DONE)

    def _answer(
        self, agent: TwinAgent, command: Command, outcome: Outcome, message: str = ""
    ) -> None:
        engine = agent.engines.get(command.instance_id)
        fact = engine.fact if engine else None
        self.send(CommandAnswered(agent.agent_id, command.command_id, outcome, message, fact))

    def _become(
        self,
        agent: TwinAgent,
        engine: Engine,
        state: InstanceState,
        reason: WithdrawReason | None = None,
    ) -> None:
        gate = GateState.OPEN if state is S.IN_SERVICE else GateState.CLOSED
        engine.fact = replace(
            engine.fact,
            state=state,
            reason=reason,
            gate_state=gate,
            generation=engine.fact.generation + 1,
        )
        if not agent.silent:
            self.send(RankChanged(agent.agent_id, engine.fact))

    def end_switch(self, command: Command, why_not: str = "") -> None:
        """An engine that was emptied has its new role, or refused it and serves on as it was."""
        agent = self.agents[command.agent_id]
        engine = agent.engines[command.instance_id]
        if not why_not and command.role is not None:
            engine.fact = replace(engine.fact, role=command.role)
        self._become(agent, engine, S.IN_SERVICE)
        self._answer(agent, command, Outcome.FAILED if why_not else Outcome.DONE, why_not)

    def start_by_hand(self, role: Role, agent_id: str) -> None:
        """Somebody starts an engine of the first service, tagged as ours, without asking anybody."""
        agent, service = self.agents[agent_id], next(iter(self.state.services))
        name = self._mint("by-hand")
        used = {gpu for engine in agent.engines.values() for gpu in engine.fact.gpu_indices}
        free = next(gpu.index for gpu in agent.inventory.gpus if gpu.index not in used)
        where = f"http://{agent_id}/{name}"
        fact = RankFact(
            name, service, role, S.LAUNCHING, 1, gpu_indices=(free,), endpoint=where, origin="found"
        )
        agent.engines[name] = Engine(fact, self.now + self.startup, self.now)
        self._become(agent, agent.engines[name], S.LAUNCHING)

    def groups_apart(self, level: str) -> list[str]:
        """Return the deployment groups in service whose instances stand in several domains."""
        homes: dict[str, set[str]] = {}
        for instance in self.state.instances.values():
            if instance.state is S.IN_SERVICE:
                domain = self.agents[instance.agent_id].inventory.topology[level]
                homes.setdefault(instance.group, set()).add(domain)
        return sorted(group for group, domains in homes.items() if len(domains) > 1)

    def kill(self, instance_id: str) -> None:
        """The engine's process dies."""
        for agent in self.agents.values():
            if (engine := agent.engines.pop(instance_id, None)) is not None:
                self._become(agent, engine, S.FAILED)

    def stick(self, instance_id: str) -> None:
        """The engine goes on answering, and makes no more tokens."""
        for agent in self.agents.values():
            if (engine := agent.engines.get(instance_id)) is not None:
                engine.stuck = True

    def _agents_live(self) -> None:
        for agent in self.agents.values():
            for engine in list(agent.engines.values()):
                self._engine_lives(agent, engine)

    def _engine_lives(self, agent: TwinAgent, engine: Engine) -> None:
        state, ends_at = engine.fact.state, engine.fact.ends_at
        if ends_at is not None and self.now >= ends_at:
            self.kill(engine.fact.instance_id)
        elif state is S.LAUNCHING and self.now >= engine.ready_at:
            startup = self.startups.get(engine.fact.role, self.startup)
            engine.fact = replace(engine.fact, startup_time=startup)
            if engine.hold is None:
                self._become(agent, engine, S.IN_SERVICE)
            else:
                self._become(agent, engine, S.WITHDRAWN, WithdrawReason.RATIO_HOLD)
                engine.lease_until = self.now + engine.hold
        elif state is S.LAUNCHING and self.now >= engine.started_at + self.startup_timeout:
            self._become(agent, engine, S.FAILED)
            del agent.engines[engine.fact.instance_id]
        elif state is S.DRAINING and engine.running + engine.waiting < 1e-6:
            self._become(agent, engine, S.TERMINATED)
            del agent.engines[engine.fact.instance_id]
        elif (
            state is S.WITHDRAWN
            and engine.lease_until is not None
            and self.now > engine.lease_until
        ):
            engine.lease_until = None
            self._become(agent, engine, S.IN_SERVICE)

    def _report(self) -> None:
        for agent in self.agents.values():
            if agent.silent:
                continue
            agent.sequence += 1
            samples = tuple(self._sample(agent, engine) for engine in agent.engines.values())
            devices = self._devices(agent)
            report = ReportReceived(
                agent.agent_id, agent.incarnation, agent.sequence, samples, devices
            )
            self.send(report)

    def _devices(self, agent: TwinAgent) -> KnownDevices:
        told = {
            index: engine.hardware
            for engine in agent.engines.values()
            if engine.fact.state in SERVING
            for index in engine.fact.gpu_indices
        }
        places = range(len(agent.inventory.gpus))
        told |= agent.sick
        return KnownDevices([told.get(place, GpuSample()) for place in places], agent.nics)

    def _sample(self, agent: TwinAgent, engine: Engine) -> EngineSample:
        if agent.blind or engine.fact.state not in SERVING:
            return EngineSample(engine.fact.instance_id, ScrapeQuality.STALE, self.now)
        if engine.fact.role is Role.FFN:
            return EngineSample(engine.fact.instance_id, ScrapeQuality.OK, self.now)
        c = engine.counters
        return EngineSample(
            instance_id=engine.fact.instance_id,
            quality=ScrapeQuality.OK,
            at=self.now,
            generation_tokens=c["generation_tokens"],
            prompt_tokens=c["prompt_tokens"],
            computed_prompt_tokens=c["computed_prompt_tokens"],
            requests_finished=c["requests_finished"],
            requests_aborted=0.0,
            running=engine.running,
            waiting=engine.waiting,
            transferring=0.0,
            kv_usage=min(1.0, engine.running / 40),
            ttft=LatencySample(c["ttft_sum"], c["ttft_count"]),
            tbt=LatencySample(c["tbt_sum"], c["tbt_count"]),
        )

    def engines(self) -> list[Engine]:
        """Return all engines that run, whatever their state."""
        return [engine for agent in self.agents.values() for engine in agent.engines.values()]
