"""A coordinator whose every word is the test's, before a real agent."""

from __future__ import annotations

import asyncio
from typing import Any

from heteroscale.convert import duration, from_wire, timestamp, to_wire
from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale.words import InstanceState, Outcome, Role
from tests.agent.link_twins import Coordinator, Talk
from tests.process.fleet import PATIENCE, Fleet

EPOCH = 7
_SERVER_TIME = 1_000_000.0
Result = agent_pb2.CommandResult
Status = types_pb2.InstanceStatus


def server(fleet: Fleet) -> Coordinator:
    """Return a scripted coordinator at the address that the fleet's agents dial."""
    made = Coordinator()
    made.port = fleet.cluster.port
    return made


class Boss:
    """One stream of an agent: orders, and what it says to them."""

    def __init__(self, talk: Talk, hello: agent_pb2.Hello) -> None:
        self._talk = talk
        self.hello = hello

    @classmethod
    async def greet(cls, coordinator: Coordinator) -> Boss:
        """Wait for an agent's hello and welcome it."""
        talk = await coordinator.talk()
        hello = (await talk.hear("hello")).hello
        talk.say(
            welcome=agent_pb2.Welcome(
                cluster_id="local",
                epoch=EPOCH,
                server_time=_now(),
                report_interval=duration(0.3),
                coordinator_id="boss",
            )
        )
        return cls(talk, hello)

    def order(
        self, command_id: str, instance_id: str, generation: int = 0, **action: Any
    ) -> agent_pb2.Command:
        """Send a command that is in time; return it, so that it can be sent again."""
        command = agent_pb2.Command(
            command_id=command_id,
            cause="test",
            epoch=EPOCH,
            instance_id=instance_id,
            expected_generation=generation,
            server_time=_now(),
            deadline=duration(600.0),
            **action,
        )
        self.send(command)
        return command

    def send(self, command: agent_pb2.Command) -> None:
        """Send a command, stamped anew as the real coordinator does."""
        command.server_time.CopyFrom(_now())
        self._talk.say(command=command)

    async def result(self, command_id: str) -> tuple[Outcome | None, str]:
        """Return the next word on a command."""
        while True:
            heard = (await self._hear("command_result")).command_result
            if heard.command_id == command_id:
                return from_wire(Outcome, heard.outcome), heard.message

    async def reaches(self, instance_id: str, state: InstanceState) -> Status:
        """Return the event that tells that an instance is in a state."""
        while True:
            status = (await self._hear("instance_event")).instance_event.status
            if status.instance_id == instance_id and status.state == to_wire(state):
                return status

    async def reading(self, instance_id: str) -> agent_pb2.EngineReading:
        """Return the next report's words on one engine."""
        while True:
            for reading in (await self._hear("report")).report.engines:
                if reading.instance_id == instance_id:
                    return reading

    async def _hear(self, body: str) -> agent_pb2.ConnectRequest:
        async with asyncio.timeout(PATIENCE):
            return await self._talk.hear(body)


def launch(fleet: Fleet, **changes: Any) -> agent_pb2.Launch:
    """Return a launch that the agents' configuration allows, but for ``changes``."""
    fields: dict[str, Any] = {
        "service": "chat",
        "role": to_wire(Role.DECODE),
        "rank_count": 1,
        "template": "decode",
        "gpu_indices": [0],
        "gate": types_pb2.Gate(kind="sglang-router", routers=[fleet.cluster.url]),
        "startup_timeout": duration(30.0),
    }
    return agent_pb2.Launch(**{**fields, **changes})


def _now() -> Any:
    return timestamp(_SERVER_TIME + asyncio.get_running_loop().time())
