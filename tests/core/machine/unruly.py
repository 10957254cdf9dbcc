"""A world in which everything that may go wrong does: late words, lies, lost reports, failed commits.

It is the toy world with one more layer on the wire between twins and turn, and on the store behind
it. Faults are plain settings of a twin or of the world; they stay until they are taken back.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from heteroscale.words import Outcome, Role, ScrapeQuality
from heteroscale_coordinator.core.cordon import Cordon
from heteroscale_coordinator.core.events import (
    AgentConnected,
    AgentEvent,
    Answer,
    Changes,
    Event,
    ReportReceived,
    Tick,
    Wish,
)
from heteroscale_coordinator.core.model import (
    Command,
    CommandState,
    EngineSample,
    Instance,
    LatencySample,
    Service,
)
from heteroscale_coordinator.core.resume import resume
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import due, step
from heteroscale_coordinator.edge.store.codec import decode, encode, to_text
from tests.core.machine.twin import twin_of
from tests.core.toy import Engine, TwinAgent
from tests.core.world import World

_T = TypeVar("_T")

RULES = Rules(
    tick=2,
    report_interval=2,
    silent_after=6,
    lost_after=24,
    cover_for=12,
    command_deadline=12,
    launch_backoff=4,
    forget_after=300,
)
"""A fleet that lives fast, so that much happens in few turns."""
NAN, HUGE = float("nan"), 1e300
NUMBERS = EngineSample._fields[3:12]
"""A sample's fields that are plain numbers."""
GARBAGE: Mapping[str, float] = {"nan": NAN, "negative": -1.0, "huge": HUGE}
"""Values that engines' pages may hold in place of what is true."""


@dataclass(frozen=True)
class Turn:
    """One committed turn: what was stored before, what it changed, and the state it left."""

    now: float
    services: Mapping[str, Service]
    instances: Mapping[str, Instance]
    commands: Mapping[str, Command]
    state: State
    changes: Changes
    again: Changes | None
    """What a second turn makes of a copy of the same state, events and time; None: none was due."""
    world: UnrulyWorld


@dataclass
class Faults:
    """What is wrong with one agent just now."""

    lag: float = 0.0
    """Seconds that its words, and orders to it, are under way."""
    garbage: str = ""
    """What its engines' pages say in place of the truth: a key of ``GARBAGE``, or "idle"."""
    mute: bool = False
    """Its reports get lost, its other words arrive."""


@dataclass
class Wire:
    """Words and orders under way, each with the time it arrives; order is kept."""

    words: deque[tuple[float, Event]] = field(default_factory=deque)
    orders: deque[tuple[float, Command]] = field(default_factory=deque)
    journal: dict[str, tuple[Outcome, str]] = field(default_factory=dict)
    """What the agent answered to each command: a repeated id gets its last word again."""


class UnrulyWorld(World):
    """See the module. ``watchers`` see every committed turn."""

    def __init__(self) -> None:
        super().__init__(RULES)
        self.startup, self.startup_timeout = 5.0, 12.0
        self.faults: dict[str, Faults] = {}
        self.wires: dict[str, Wire] = {}
        self.watchers: list[Callable[[Turn], None]] = []
        self.disk_full = False
        self.minted = 0
        self.answers: dict[str, Answer] = {}
        self.written: list[tuple[float, str]] = []
        """When a turn had anything durable to commit, and what."""

    # ---- the wire --------------------------------------------------------------------------------

    def send(self, event: Event) -> None:
        """Put an event under way; what a silent agent says is lost."""
        if not isinstance(event, AgentEvent):
            super().send(event)
            return
        agent = self.agents[event.agent_id]
        faults = self.faults_of(agent)
        lost = agent.silent or (faults.mute and isinstance(event, ReportReceived))
        if not lost:
            self._wire(event.agent_id).words.append((self.now + faults.lag, event))

    def hello(self, agent: TwinAgent) -> None:
        """A new stream begins: what was under way on the old one is lost."""
        wire = self._wire(agent.agent_id)
        wire.words.clear()
        wire.orders.clear()
        super().hello(agent)

    def _obey(self, command: Command) -> None:
        if not self.agents[command.agent_id].silent:
            arrives = self.now + self.faults_of(self.agents[command.agent_id]).lag
            self._wire(command.agent_id).orders.append((arrives, command))

    def _deliver(self) -> None:
        for agent_id, wire in self.wires.items():
            while wire.orders and wire.orders[0][0] <= self.now:
                _, command = wire.orders.popleft()
                self._carry_out(self.agents[agent_id], wire, command)
            while wire.words and wire.words[0][0] <= self.now:
                self._inbox.append(wire.words.popleft()[1])

    def _carry_out(self, agent: TwinAgent, wire: Wire, command: Command) -> None:
        if command.command_id in wire.journal:
            super()._answer(agent, command, *wire.journal[command.command_id])
        elif self.now >= command.expires_at:
            self._answer(agent, command, Outcome.REFUSED, "past its deadline")
        elif command.instance_id not in self.state.instances:
            self._answer(agent, command, Outcome.REFUSED, "of an instance that was forgotten")
        else:
            super()._obey(command)

    def _answer(
        self, agent: TwinAgent, command: Command, outcome: Outcome, message: str = ""
    ) -> None:
        self._wire(agent.agent_id).journal[command.command_id] = (outcome, message)
        super()._answer(agent, command, outcome, message)

    def faults_of(self, agent: TwinAgent) -> Faults:
        """Return what is wrong with an agent, to be changed in place."""
        return self.faults.setdefault(agent.agent_id, Faults())

    def _wire(self, agent_id: str) -> Wire:
        return self.wires.setdefault(agent_id, Wire())

    # ---- agents ----------------------------------------------------------------------------------

    def restart_agent(self, agent: TwinAgent, *, rebooted: bool) -> None:
        """A new process of the agent; its engines outlived it, unless the host was rebooted."""
        agent.incarnation += 1
        if rebooted:
            agent.engines.clear()
        for engine in agent.engines.values():
            engine.counters = dict.fromkeys(engine.counters, 0.0)
        if not agent.silent:
            self.hello(agent)

    def come_back(self, agent: TwinAgent) -> None:
        """An agent that was silent connects again."""
        if agent.silent:
            agent.silent = False
            self.hello(agent)

    def _agents_live(self) -> None:
        super()._agents_live()
        self._deliver()

    def _sample(self, agent: TwinAgent, engine: Engine) -> EngineSample:
        sample = super()._sample(agent, engine)
        lie = self.faults_of(agent).garbage
        if not lie or sample.quality is not ScrapeQuality.OK:
            return sample
        if lie == "idle":
            return sample._replace(running=0.0, waiting=0.0, generation_tokens=0.0)
        value = GARBAGE[lie]
        numbers: dict[str, Any] = dict.fromkeys(NUMBERS, value)
        latency = LatencySample(value, value)
        return sample._replace(**numbers, ttft=latency, tbt=latency)

    # ---- the coordinator -------------------------------------------------------------------------

    def turn(self) -> None:
        """Take one turn; when the store cannot commit, its changes are dropped whole."""
        self._deliver()
        events, self._inbox = [*self._inbox, Tick()], []
        stored = (dict(self.state.services), dict(self.state.instances), dict(self.state.commands))
        again = self._as_a_twin_would(events)
        changes = step(self.state, events, self.now, self._mint)
        if self.disk_full:
            self._drop(events)
            return
        self.release(changes)
        for event in events:
            if isinstance(event, AgentConnected):
                self._send_open_orders(event.agent_id)
        self.answers.update({e.request_id: e for e in changes.effects if isinstance(e, Answer)})
        if changes:
            self.written.append((self.now, _what(changes, stored[0])))
        seen = Turn(self.now, *stored, self.state, changes, again, self)
        for watch in self.watchers:
            watch(seen)

    def _as_a_twin_would(self, events: list[Event]) -> Changes | None:
        """Return what a turn makes of a copy of all this, when it is one that decides."""
        if not due(self.state, self.now):
            return None
        minted, copy = self.minted, twin_of(self.state)
        changes = step(copy, events, self.now, self._mint)
        self.minted = minted
        return changes

    def _mint(self, kind: str) -> str:
        self.minted += 1
        return f"{kind}-{self.minted}"

    def _drop(self, events: list[Event]) -> None:
        """Wishes are refused, reports were folded already, everything else is held for the next turn."""
        kept = (e for e in events if not isinstance(e, Wish | ReportReceived | Tick))
        self._inbox.extend(kept)
        self._renew()

    def _send_open_orders(self, agent_id: str) -> None:
        for command in list(self.state.commands.values()):
            if command.agent_id == agent_id and command.state is CommandState.OPEN:
                self._obey(command)

    def restart_coordinator(self, away: float) -> None:
        """A new coordinator reads the store, ``away`` seconds later; agents connect anew."""
        for _ in range(int(away)):
            self.now += 1.0
            self.plant.flow(self.engines(), 1.0)
            self._agents_live()
        old, self._inbox = self.state, []
        self.state = State(
            rules=old.rules,
            services=_stored(Service, old.services),
            instances=_stored(Instance, old.instances),
            commands=_stored(Command, old.commands),
            cordons=_stored(Cordon, old.cordons),
        )
        self.state.begin(self.now)
        self.state.apply(resume(self.state, away))
        for agent in self.agents.values():
            if not agent.silent:
                self.hello(agent)

    # ---- peace -----------------------------------------------------------------------------------

    def calm_down(self) -> None:
        """Take every fault back."""
        self.faults.clear()
        self.disk_full = False
        for agent in self.agents.values():
            agent.blind = agent.stillborn = False
            agent.refuses = ""
            self.come_back(agent)

    def role_counts(self, role: Role) -> int:
        """Return how many engines of a role really run, whatever anybody knows of them."""
        return sum(engine.fact.role is role for engine in self.engines())


def _what(changes: Changes, before: Mapping[str, Service]) -> str:
    """Return what a turn writes: instances, commands, or the fields of a service's memory.

    What it only forgets is not among it.
    """
    rows = [*changes.instances.items(), *changes.commands.items()]
    written = [name for name, row in rows if row is not None]
    for name, after in changes.services.items():
        was = before.get(name)
        if was is not None and after is not None:
            pairs = (
                (f.name, getattr(was.memory, f.name), getattr(after.memory, f.name))
                for f in fields(after.memory)
            )
            written += [f"{name}.{field}" for field, old, new in pairs if old != new]
    return " ".join(written)


def _stored(kind: type[_T], table: Mapping[str, _T]) -> dict[str, _T]:
    """Return a table as the store gives it back."""
    return {
        key: decode(kind, json.loads(to_text(encode(value))), key) for key, value in table.items()
    }
