"""A body on the real host, living by its own clock; tests wait for what it says, not for time."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heteroscale.words import InstanceState, Role, ScrapeQuality
from heteroscale_agent.body import AgentBody
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.hands import procfs
from heteroscale_agent.hands.host import host_hands
from heteroscale_agent.model import (
    Action,
    Command,
    CommandResult,
    EngineState,
    InstanceEvent,
    InstanceStatus,
    Launch,
)
from heteroscale_agent.ports import Eyes, ScrapeTarget
from tests.agent.body_twins import IDLE, Clock, FakeEyes

ENGINE = Path(__file__).with_name("tiny_engine.py")
DEADLINE = 40.0


class LiveEyes(FakeEyes):
    """Says idle at every moment of the real clock."""

    def engine(self, instance_id: str) -> EngineState | None:
        now = asyncio.get_running_loop().time()
        return EngineState(instance_id, ScrapeQuality.OK, now, IDLE)

    def set_targets(self, targets: Any) -> None:
        self.targets: tuple[ScrapeTarget, ...] = tuple(targets)


def spec_of(folder: Path, *options: str, role: str = "decode", **more: Any) -> AgentSpec:
    """Return a configuration with one template, `engine`, of the tiny engine."""
    # Each test process has ports of its own: tests run side by side.
    first = 23000 + os.getpid() % 50 * 20
    template = {
        "command": [sys.executable, "-S", str(ENGINE), "{port}", "{role}", *options],
        "role": role,
        "readiness": {"period": "100ms"},
    }
    return AgentSpec.model_validate(
        {
            "coordinator": "127.0.0.1:1",
            "state_dir": folder / "state",
            "ports": {"first": first, "last": first + 19},
            "reconcile_interval": "300ms",
            "templates": {"engine": template},
            **more,
        }
    )


def launch_of(role: str = "decode", **changes: Any) -> Launch:
    """Return a launch of the tiny engine."""
    return Launch("chat", Role(role), "engine", (0,), **changes)


class Host:
    """One agent's body at work, and what it said."""

    def __init__(self, spec: AgentSpec, sees: Eyes | None = None) -> None:
        clock = asyncio.get_running_loop().time
        self.said: list[InstanceEvent | CommandResult] = []
        self._heard = asyncio.Event()
        self.eyes = LiveEyes(Clock())
        self.hands = host_hands(spec, clock)
        self.body = AgentBody(spec, sees or self.eyes, self._hear, self.hands, clock=clock)
        self._clock = clock
        self._ids = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.body.start()
        self._task = asyncio.create_task(self.body.run())

    async def stop(self) -> None:
        """Let the body go; its engines stay."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def do(self, action: Action, name: str = "i1") -> CommandResult:
        self._ids += 1
        known = [s.generation for s in self.body.statuses() if s.instance_id == name]
        expected = 0 if isinstance(action, Launch) else known[0]
        now = self._clock()
        command_id = f"c{os.getpid()}-{id(self)}-{self._ids}"
        command = Command(command_id, "why", 1, name, expected, now + 30, action)
        return await self.body.execute(command)

    def status(self, name: str = "i1") -> InstanceStatus:
        return next(s for s in self.body.statuses() if s.instance_id == name)

    async def until(
        self, wanted: InstanceState | Callable[[InstanceStatus], bool], name: str = "i1"
    ) -> InstanceStatus:
        """Wait for what is said until an instance is as wanted."""
        async with asyncio.timeout(DEADLINE):
            while True:
                status = self.status(name)
                if status.state is wanted if isinstance(wanted, InstanceState) else wanted(status):
                    return status
                self._heard.clear()
                await self._heard.wait()

    def _hear(self, item: InstanceEvent | CommandResult) -> None:
        self.said.append(item)
        self._heard.set()


def sweep(names: list[str]) -> None:
    """Kill engines that a test left behind, by their tags, and reap them where they are ours."""
    for name in names:
        for stat in list(procfs.tagged(name)):
            os.killpg(stat.pid, 9)
            try:
                os.waitpid(stat.pid, 0)
            except ChildProcessError:
                continue
