"""A real gRPC server with the agents' face on loopback, around a loop with a scripted step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import grpc.aio

from heteroscale.v1 import agent_pb2
from heteroscale_coordinator.core.events import Changes, Event, RenewLeases, Tick
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.admission import Admission
from heteroscale_coordinator.edge.dispatch import Dispatcher
from heteroscale_coordinator.edge.routers import Routers
from heteroscale_coordinator.edge.service import AgentService
from heteroscale_coordinator.edge.session import Limits
from heteroscale_coordinator.edge.sessions import Sessions
from heteroscale_coordinator.edge.store.memory import MemoryStore
from heteroscale_coordinator.edge.store.port import Store
from heteroscale_coordinator.edge.trust import Gatekeeper, OperatorsOnly, ServerTls, listen
from heteroscale_coordinator.loop import Loop, Pace

_E = TypeVar("_E")
START = 1_000_000.0
PATIENCE = 10.0
CONNECT = "/heteroscale.v1.AgentService/Connect"
FAST = Pace(linger=0.0, first_retry=0.001, last_retry=0.001, wish_timeout=5.0)


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Script:
    """A step that notes what it is given and answers with what the test wants."""

    answer: Callable[[State, Sequence[Event], float], Changes] = lambda *_: Changes()
    events: list[Event] = field(default_factory=list)
    turns: list[list[Event]] = field(default_factory=list)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    _queue: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)

    def __call__(
        self, state: State, events: Sequence[Event], now: float, mint: Callable[[str], str]
    ) -> Changes:
        self.turns.append(list(events))
        changes = self.answer(state, events, now)
        for event in events:
            if not isinstance(event, Tick):
                self.events.append(event)
                self._queue.put_nowait(event)
        return changes

    async def see(self, kind: type[_E]) -> _E:
        """Return the next event of ``kind`` that the step was given, passing over others."""
        async with asyncio.timeout(PATIENCE):
            while not isinstance(event := await self._queue.get(), kind):
                pass
            return event


def no_renewals(_state: State, _now: float) -> list[RenewLeases]:
    return []


@dataclass
class Face:
    """Everything of one running face."""

    loop: Loop
    script: Script
    clock: Clock
    store: Store
    service: AgentService
    sessions: Sessions
    dispatcher: Dispatcher
    address: str
    server: grpc.aio.Server

    def pass_time(self, seconds: int) -> None:
        """Let the clock run, sweeping each second as ``watch`` does."""
        for _ in range(seconds):
            self.clock.now += 1.0
            self.service.sweep()

    @asynccontextmanager
    async def agent(
        self, hello: agent_pb2.Hello | None = None, *, channel: grpc.aio.Channel | None = None
    ) -> AsyncIterator[Client]:
        """Open a stream; with ``hello`` it is said, and the welcome is read."""
        opened = channel or grpc.aio.insecure_channel(
            self.address, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        client = Client(opened.stream_stream(CONNECT)())
        try:
            if hello is not None:
                await client.send(hello=hello)
                client.welcome = (await client.read()).welcome
            yield client
        finally:
            client.call.cancel()
            if channel is None:
                await opened.close()


class Client:
    """A raw agent: sends what it is told, reads what comes."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.sequence = 0
        self.welcome = agent_pb2.Welcome()

    async def send(self, **body: Any) -> int:
        """Send one message and return its sequence."""
        self.sequence += 1
        await self.send_bytes(
            agent_pb2.ConnectRequest(sequence=self.sequence, **body).SerializeToString()
        )
        return self.sequence

    async def send_bytes(self, raw: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.call.write(raw)

    async def read(self) -> agent_pb2.ConnectResponse:
        """Return the next message down; raises AioRpcError when the stream was refused."""
        async with asyncio.timeout(PATIENCE):
            raw = await self.call.read()
            if raw is grpc.aio.EOF:
                code, details = await self.call.code(), await self.call.details()
                raise AssertionError(f"the stream ended: {code} {details}")
            return agent_pb2.ConnectResponse.FromString(raw)

    async def read_kind(self, kind: str) -> Any:
        """Return the next message of one kind, passing over others."""
        while (message := await self.read()).WhichOneof("body") != kind:
            pass
        return getattr(message, kind)

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """Wait for the stream's end and return how it ended."""
        async with asyncio.timeout(PATIENCE):
            with suppress(grpc.aio.AioRpcError):  # a status comes behind what was sent before it
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            return await self.call.code(), await self.call.details()


def hello(agent_id: str = "a1", *, process: str = "t1", **fields: Any) -> agent_pb2.Hello:
    """Return an ordinary hello."""
    message = agent_pb2.Hello(
        agent_id=agent_id,
        incarnation=1,
        process_token=process,
        hostname="host-1",
        inventory_hash="h1",
    )
    message.MergeFrom(agent_pb2.Hello(**fields))
    return message


def result(command_id: str, outcome: int, message: str = "") -> agent_pb2.CommandResult:
    """Return a result; ``outcome`` may be one that nobody knows."""
    made = agent_pb2.CommandResult(command_id=command_id, message=message)
    made.MergeFromString(bytes([0x10, outcome]))
    return made


async def until(true: Callable[[], bool]) -> None:
    """Let others run until ``true()``."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


def _loop(
    store: Store, rules: Rules | None, step: Any, renewals: Any, *, clock: Clock, pace: Pace
) -> Loop:
    """Return a loop over what the store holds."""
    snapshot = store.load()
    state = State(
        rules=rules or Rules(),
        services=snapshot.services,
        instances=snapshot.instances,
        commands=snapshot.commands,
        cordons=snapshot.cordons,
    )
    return Loop(
        store=store,
        snapshot=snapshot,
        state=state,
        step=step,
        renewals=renewals,
        clock=clock,
        pace=pace,
    )


@asynccontextmanager
async def face(
    script: Script | None = None,
    *,
    store: Store | None = None,
    step: Any = None,
    rules: Rules | None = None,
    renewals: Any = no_renewals,
    pace: Pace = FAST,
    limits: Limits | None = None,
    admission: Admission | None = None,
    tls: ServerTls | None = None,
    extra: Callable[[grpc.aio.Server], None] | None = None,
    running: bool = True,
) -> AsyncIterator[Face]:
    """Run a face on a free port of loopback; ``running`` False leaves the turns to the test."""
    script, clock, store = script or Script(), Clock(), store or MemoryStore()
    tls = tls or ServerTls()
    loop = _loop(store, rules, step or script, renewals, clock=clock, pace=pace)
    sessions = Sessions(takeover_after=10.0)
    dispatcher = Dispatcher(sessions, Routers(), loop.now)
    dispatcher.restore(loop.state)
    loop.outlet = dispatcher
    gatekeeper = Gatekeeper(mutual=tls.mutual)
    service = AgentService(
        loop=loop,
        sessions=sessions,
        dispatcher=dispatcher,
        admission=admission or Admission(1e6, 1_000, loop.now),
        gatekeeper=gatekeeper,
        cluster_id="main",
        coordinator_id="c1",
        limits=limits,
    )
    server = grpc.aio.server(
        interceptors=[OperatorsOnly(gatekeeper)], options=[("grpc.so_reuseport", 0)]
    )
    server.add_generic_rpc_handlers((service.handler(),))
    if extra:
        extra(server)
    port = listen(server, "127.0.0.1:0", tls, insecure=False)
    await loop.start()
    await server.start()
    turning = asyncio.create_task(loop.run()) if running else None
    try:
        address = f"127.0.0.1:{port}"
        yield Face(loop, script, clock, store, service, sessions, dispatcher, address, server)
    finally:
        await server.stop(0)
        loop.stop()
        if turning:
            await turning
        loop.close()
