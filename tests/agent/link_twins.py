"""A scripted coordinator on loopback, and twins of what a link speaks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from heteroscale.channel import TlsFiles
from heteroscale.convert import duration, timestamp
from heteroscale.v1 import agent_pb2
from heteroscale.words import InstanceState, Outcome, Role
from heteroscale_agent.identity import Identity
from heteroscale_agent.link import Link, LinkSettings, Wiring
from heteroscale_agent.model import (
    Command,
    CommandResult,
    EngineState,
    Gpu,
    GpuReading,
    InstanceStatus,
    Inventory,
    Report,
)
from heteroscale_agent.outbox import Outbox
from heteroscale_agent.patience import Patience
from heteroscale_agent.ports import GpuHolder, ScrapeTarget
from tests.agent.body_twins import Clock

DEADLINE = 20.0
"""Seconds after which a test that waits has failed; none is ever waited for in full."""
EAGER = Patience(welcome=10.0, first_backoff=0.01, max_backoff=0.02, pause=0.01)
SERVER_TIME = 1_000_000.0
INVENTORY = Inventory(gpus=(Gpu(0, "GPU-0", "NVIDIA H20", "H20", 96 << 30),), cpu_count=8)
STATUS = InstanceStatus("i-1", "chat", Role.DECODE, InstanceState.IN_SERVICE, 3)
Request = agent_pb2.ConnectRequest


@dataclass
class Talk:
    """One stream, seen from the coordinator."""

    heard: asyncio.Queue[Request] = field(default_factory=asyncio.Queue)
    to_say: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def hear(self, body: str = "") -> Request:
        """Return the next message, or the next with that body."""
        async with asyncio.timeout(DEADLINE):
            while True:
                message = await self.heard.get()
                if not body or message.WhichOneof("body") == body:
                    return message

    def say(self, **body: Any) -> None:
        """Send a message."""
        self.to_say.put_nowait(agent_pb2.ConnectResponse(**body))

    def say_bytes(self, data: bytes) -> None:
        """Send what is no message."""
        self.to_say.put_nowait(data)

    def welcome(self, **changes: Any) -> None:
        """Send a welcome that is in order, but for ``changes``."""
        message = agent_pb2.Welcome(
            cluster_id="east",
            epoch=7,
            server_time=timestamp(SERVER_TIME),
            report_interval=duration(5.0),
            coordinator_id="coordinator-1",
        )
        for name, value in changes.items():
            setattr(message, name, value)
        self.say(welcome=message)

    def end(self, code: grpc.StatusCode = grpc.StatusCode.OK, text: str = "") -> None:
        """End the stream."""
        self.to_say.put_nowait((code, text))

    async def ended(self) -> None:
        """Wait until the stream is gone, whoever ended it."""
        async with asyncio.timeout(DEADLINE):
            await self.gone.wait()


class Coordinator:
    """A real gRPC server whose every word is the test's."""

    def __init__(self) -> None:
        self._talks: asyncio.Queue[Talk] = asyncio.Queue()
        self.port = 0

    async def talk(self) -> Talk:
        """Return the next stream that an agent opens."""
        async with asyncio.timeout(DEADLINE):
            return await self._talks.get()

    async def greeted(self, **changes: Any) -> Talk:
        """Return the next stream after its hello and welcome."""
        talk = await self.talk()
        await talk.hear("hello")
        talk.welcome(**changes)
        return talk

    async def connect(self, requests: Any, context: Any) -> None:
        """Serve one stream."""
        talk = Talk()
        self._talks.put_nowait(talk)

        async def listen() -> None:
            async for message in requests:
                talk.heard.put_nowait(message)

        listener = asyncio.create_task(listen())
        try:
            while True:
                said = await talk.to_say.get()
                if isinstance(said, tuple):
                    if said[0] is not grpc.StatusCode.OK:
                        await context.abort(*said)
                    return
                await context.write(said)
        finally:
            talk.gone.set()
            listener.cancel()
            with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await listener

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Coordinator]:
        """Listen on loopback; again on the same port when entered again."""
        handler = grpc.stream_stream_rpc_method_handler(
            self.connect,
            request_deserializer=Request.FromString,
            response_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
        )
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    "heteroscale.v1.AgentService", {"Connect": handler}
                )
            ]
        )
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)


class TwinEyes:
    """Sees what it is told."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.sees = INVENTORY

    def inventory(self) -> Inventory:
        return self.sees

    def set_targets(self, targets: Iterable[ScrapeTarget]) -> None:
        raise NotImplementedError("a link sets no targets")

    def set_holders(self, holders: Iterable[GpuHolder]) -> None:
        raise NotImplementedError("a link sets no holders")

    def engine(self, instance_id: str) -> EngineState | None:
        raise NotImplementedError("a link asks for no engine")

    async def sample(self) -> Report:
        raise NotImplementedError("a link takes no sample")

    def gpus_now(self) -> tuple[tuple[Gpu, GpuReading], ...]:
        raise NotImplementedError("a link asks for no GPU")

    def history(self) -> list[Report]:
        return self.reports


class TwinBody:
    """Answers commands as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.epoch = 3
        self.commands: list[Command] = []
        self.renewals: list[tuple[list[str], float]] = []
        self.acknowledged: list[str] = []
        self.owed: list[CommandResult] = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    @property
    def highest_epoch(self) -> int:
        return self.epoch

    def hear_epoch(self, epoch: int) -> bool:
        if epoch < self.epoch:
            return False
        self.epoch = epoch
        return True

    async def execute(self, command: Command) -> CommandResult:
        self.commands.append(command)
        self.asked.set()
        await self.may_answer.wait()
        result = CommandResult(command.command_id, Outcome.DONE, "as asked", STATUS)
        self.owed.append(result)
        return result

    def renew(self, instance_ids: Iterable[str], expires_at: float) -> None:
        self.renewals.append((list(instance_ids), expires_at))

    def statuses(self) -> list[InstanceStatus]:
        return [STATUS]

    def unacknowledged(self) -> list[CommandResult]:
        return [one for one in self.owed if one.command_id not in self.acknowledged]

    def acknowledge(self, command_ids: Iterable[str]) -> None:
        self.acknowledged.extend(command_ids)


@dataclass
class Agent:
    """A link and the twins around it."""

    coordinator: Coordinator
    clock: Clock = field(default_factory=lambda: Clock(100.0))
    eyes: TwinEyes = field(default_factory=TwinEyes)
    body: TwinBody = field(default_factory=TwinBody)
    outbox: Outbox = field(default_factory=Outbox)
    intervals: list[float] = field(default_factory=list)
    cluster_id: str = "east"

    @asynccontextmanager
    async def linked(self, patience: Patience = EAGER) -> AsyncIterator[Agent]:
        """Run the link."""
        settings = LinkSettings(
            address=f"127.0.0.1:{self.coordinator.port}",
            tls=TlsFiles(),
            insecure=False,
            cluster_id=self.cluster_id,
            advertise_host="10.0.0.7",
            version="1.2.3",
        )
        identity = Identity("agent-1", 5, "token-1", "boot-1", "host-1")
        told: Callable[[float], None] = self.intervals.append
        wiring = Wiring(settings, identity, self.eyes, self.body, self.outbox, self.clock, told)
        task = asyncio.create_task(Link(wiring, patience).run())
        try:
            yield self
            assert not task.done(), "a link lives for ever"
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def command(command_id: str = "c-1", **changes: Any) -> agent_pb2.Command:
    """Return a withdrawal that is in order, but for ``changes``."""
    message = agent_pb2.Command(
        command_id=command_id,
        cause="d-1",
        epoch=7,
        instance_id="i-1",
        expected_generation=3,
        server_time=timestamp(SERVER_TIME),
        deadline=duration(30.0),
        reinstate=agent_pb2.Reinstate(),
    )
    for name, value in changes.items():
        getattr(message, name).CopyFrom(value)
    return message
