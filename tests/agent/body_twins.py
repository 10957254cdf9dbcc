"""Twins of everything the body touches, driven by hand, with faults as plain attributes."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from heteroscale.words import Role, ScrapeQuality, WithdrawReason
from heteroscale_agent.body import AgentBody
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.hands.gates.port import GateKind, Member, View
from heteroscale_agent.hands.port import Hands, RoleAnswer
from heteroscale_agent.hands.process import Exit, Found, Ident, Order, SpawnError
from heteroscale_agent.job import Post
from heteroscale_agent.journal import Journal
from heteroscale_agent.model import (
    Action,
    Command,
    CommandResult,
    Drain,
    EngineScrape,
    EngineState,
    Gate,
    Gpu,
    GpuReading,
    InstanceEvent,
    InstanceStatus,
    Inventory,
    Launch,
    Report,
    Withdraw,
)
from heteroscale_agent.ports import GpuHolder, ScrapeTarget

IDLE = EngineScrape(running=0.0, waiting=0.0, transferring=0.0, kv_usage=0.0)
SOFT = Withdraw(WithdrawReason.SOFT_SCALE_IN, lease=20.0)
"""A soft scale-in that heals by itself soon."""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeProcesses:
    """Processes that exist in a dictionary, and so outlive any body."""

    running: dict[Ident, Order] = field(default_factory=dict)
    ended: dict[Ident, Exit] = field(default_factory=dict)
    terminated: list[Ident] = field(default_factory=list)
    killed: list[Ident] = field(default_factory=list)
    spawn_error: str = ""
    obeys_term: bool = True
    obeys_kill: bool = True
    dropped: list[str] = field(default_factory=list)
    spawned: int = 0
    log: str = "last words"

    def spawn(self, order: Order) -> Ident:
        if self.spawn_error:
            raise SpawnError(self.spawn_error)
        self.spawned += 1
        ident = Ident(100 + self.spawned, 5000 + self.spawned)
        self.running[ident] = order
        return ident

    def poll(self, ident: Ident) -> Exit | None:
        if ident in self.running:
            return None
        return self.ended.get(ident, Exit(None))

    def find(self, instance_id: str) -> Ident | None:
        return next((i for i, o in self.running.items() if o.instance_id == instance_id), None)

    def scan(self) -> list[Found]:
        return [
            Found(order.instance_id, ident, order.env)
            for ident, order in self.running.items()
            if order.env
        ]

    def terminate(self, ident: Ident) -> None:
        self.terminated.append(ident)
        if self.obeys_term:
            self.end(ident, 0)

    def kill(self, ident: Ident) -> None:
        self.killed.append(ident)
        if self.obeys_kill:
            self.end(ident, -9)

    def log_tail(self, instance_id: str) -> str:
        return self.log

    def drop_logs(self, instance_ids: Iterable[str]) -> None:
        self.dropped.extend(instance_ids)

    def release(self) -> None:
        pass

    def end(self, ident: Ident, code: int | None) -> None:
        if self.running.pop(ident, None) is not None:
            self.ended[ident] = Exit(code)

    @property
    def only(self) -> Ident:
        (ident,) = self.running
        return ident


@dataclass
class FakeGate:
    """Routers as sets of ids. What is asked takes effect after the pass, as with real ones."""

    places: dict[str, set[str]] = field(default_factory=lambda: {"r1": set()})
    silent: set[str] = field(default_factory=set)
    asked: int = 0

    def complaint(self, member: Member) -> str:
        return member.gate.options.get("complaint", "")

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        self.asked += 1
        seen: dict[str, bool | None] = {}
        for name, ids in self.places.items():
            if name in self.silent:
                seen[name] = None
                continue
            seen[name] = member.instance_id in ids
            if wanted_in:
                ids.add(member.instance_id)
            else:
                ids.discard(member.instance_id)
        return View(seen, "router is silent" if self.silent else "")

    async def close(self) -> None:
        pass


@dataclass
class FakeProbe:
    """Answers what the test says."""

    answer: bool = True
    asked: list[str] = field(default_factory=list)

    async def ready(self, url: str, deadline: float) -> bool:
        self.asked.append(url)
        return self.answer

    async def close(self) -> None:
        pass


@dataclass
class FakeRoles:
    """An engine that can switch: its role by itself, and what it answers when it is asked."""

    live: Role | None = Role.DECODE
    answers: list[RoleAnswer] = field(default_factory=list)
    """Given one after the other instead of obeying."""
    obeys_silently: bool = False
    """Switches, but its answer is lost."""
    asked: list[tuple[Role, dict[str, Any]]] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    block: asyncio.Event | None = None

    async def switch(
        self, url: str, role: Role, more: Mapping[str, Any], deadline: float
    ) -> RoleAnswer:
        self.asked.append((role, dict(more)))
        self.heard.set()
        if self.block is not None:
            await self.block.wait()
        if self.obeys_silently:
            self.live = role
        if self.answers:
            return self.answers.pop(0)
        self.live = role
        return RoleAnswer(done=True, message="ok")

    async def role(self, url: str, deadline: float) -> Role | None:
        return self.live


class FakeEyes:
    """Scrapes on demand: ``scrape`` is what every engine says at each new moment."""

    def __init__(self, clock: Clock, gpus: int = 4) -> None:
        self._clock = clock
        self.gpus = tuple(Gpu(i, f"GPU-{i}", "H20", "H20", 1) for i in range(gpus))
        self.readings: tuple[GpuReading, ...] = ()
        self.scrape: EngineScrape | None = IDLE
        self.quality = ScrapeQuality.OK
        self.targets: tuple[ScrapeTarget, ...] = ()
        self.holders: tuple[GpuHolder, ...] = ()

    def inventory(self) -> Inventory:
        return Inventory(gpus=self.gpus)

    def set_targets(self, targets: Iterable[ScrapeTarget]) -> None:
        self.targets = tuple(targets)

    def set_holders(self, holders: Iterable[GpuHolder]) -> None:
        self.holders = tuple(holders)

    def engine(self, instance_id: str) -> EngineState | None:
        if self.scrape is None:
            return None
        return EngineState(instance_id, self.quality, self._clock.now, self.scrape)

    async def sample(self) -> Report:
        return Report(self._clock.now, 1.0)

    def gpus_now(self) -> tuple[tuple[Gpu, GpuReading], ...]:
        return tuple(zip(self.gpus, self.readings, strict=False))

    def history(self) -> list[Report]:
        return []


SPEC: dict[str, Any] = {
    "coordinator": "127.0.0.1:1",
    "ports": {"first": 21000, "last": 21999},
    "templates": {
        "decode": {
            "command": ["engine", "--port", "{port}", "--model", "{model}"],
            "role": "decode",
            "parameters": {"model": "[a-z0-9-]+"},
        },
        "prefill": {"command": ["engine", "{port}", "{bootstrap_port}"], "role": "prefill"},
        "either": {
            "command": ["engine", "{port}", "{bootstrap_port}"],
            "role": "decode",
            "engine": "sglang",
            "role_switch": {
                "to_decode": {"decode_cuda_graph_memory_gb": 1.5},
                "settle": "2s",
                "give_up_after": "60s",
            },
        },
    },
}


class World:
    """A host: its clock, hands and state directory. Bodies come and go in it."""

    def __init__(self, folder: Path, *, post: Post | None = None, **spec: Any) -> None:
        self.folder, self.post = folder, post
        self.spec = AgentSpec.model_validate({**SPEC, "state_dir": folder, **spec})
        self.clock = Clock()
        self.wall = Clock(1_700_000_000.0)
        self.processes = FakeProcesses()
        self.gate = FakeGate()
        self.probe = FakeProbe()
        self.roles = FakeRoles()
        self.eyes = FakeEyes(self.clock)
        self.boot_id = "boot-1"
        self.said: list[InstanceEvent | CommandResult] = []
        self.write_fails = False
        self.gates: dict[str, GateKind] = {"none": self.gate, "sglang-router": self.gate}
        self._commands = 0
        self._dead = False
        self.body = self._new_body()

    def _new_body(self) -> AgentBody:
        hands = Hands(self.processes, self.gates, self.probe, self.roles, self.boot_id)
        return AgentBody(
            self.spec,
            self.eyes,
            self.said.append,
            hands,
            clock=self.clock,
            wall=self.wall,
            journal=Journal(self.folder, wall=self.wall, write=self._write),
            rng=random.Random(7),  # noqa: S311
            post=self.post,
        )

    def _write(self, fd: int, data: bytes) -> int:
        if not self.write_fails:
            return os.write(fd, data)
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            return os.write(full, data)
        finally:
            os.close(full)

    async def restart(self, *, killed: bool = True) -> None:
        """The agent dies, or stops in order, and starts again on the same state directory."""
        if killed and not self._dead:
            await self.die()
        elif not killed:
            await self.body.close()
        self.write_fails = self._dead = False
        self.body = self._new_body()
        await self.body.start()

    async def die(self) -> None:
        """The agent ends, and nothing more reaches its disk."""
        self.write_fails = self._dead = True
        await self.body.close()

    async def passes(self, seconds: float = 0.0, step: float = 0.25) -> None:
        """Let time pass, tick by tick."""
        until = self.clock.now + seconds
        while True:
            self.clock.now = min(until, self.clock.now + step)
            await self.body.tick()
            if self.clock.now >= until:
                return

    def command(self, action: Action, instance_id: str = "i1", **changes: Any) -> Command:
        """Return a command that is in order, but for ``changes``."""
        self._commands += 1
        known = {status.instance_id: status for status in self.body.statuses()}
        generation = known[instance_id].generation if instance_id in known else 0
        command = Command(
            command_id=f"c{self._commands}",
            cause="why",
            epoch=1,
            instance_id=instance_id,
            expected_generation=0 if isinstance(action, Launch) else generation,
            expires_at=self.clock.now + 30,
            action=action,
        )
        return replace(command, **changes)

    async def do(self, action: Action, instance_id: str = "i1", **changes: Any) -> CommandResult:
        """Send a command and return its answer."""
        return await self.body.execute(self.command(action, instance_id, **changes))

    def status(self, instance_id: str = "i1") -> InstanceStatus:
        """Return what the body says of an instance."""
        return next(s for s in self.body.statuses() if s.instance_id == instance_id)

    async def serving(self, instance_id: str = "i1", **changes: Any) -> None:
        """Launch an instance and bring it into service."""
        await self.do(launch(**changes), instance_id)
        await self.passes(2)

    def results(self) -> list[CommandResult]:
        """Return the ends of long commands, as the outbox got them."""
        return [item for item in self.said if isinstance(item, CommandResult)]

    def states(self, instance_id: str = "i1") -> list[str]:
        """Return the states said aloud of an instance, without repetition."""
        found: list[str] = []
        for item in self.said:
            if isinstance(item, InstanceEvent) and item.status.instance_id == instance_id:
                state = item.status.state.value
                if not found or found[-1] != state:
                    found.append(state)
        return found


def launch(**changes: Any) -> Launch:
    """Return a launch that the twins' configuration allows."""
    order = Launch(
        service="chat",
        role=Role.DECODE,
        template="decode",
        gpu_indices=(0,),
        parameters={"model": "tiny"},
        gate=Gate("sglang-router", ("http://r1",)),
        startup_timeout=60.0,
    )
    return replace(order, **changes)


def drain(**changes: Any) -> Drain:
    """Return a drain of modest patience."""
    order = Drain(lease=20.0, settle_time=2.0, quiet_scrapes=3, force_after=None, grace=5.0)
    return replace(order, **changes)
