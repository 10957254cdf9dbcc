"""The stream to the coordinator: connect, back off, send, receive, resume.

One session at a time. A session begins with a hello that says everything, so that losing a stream
loses nothing. Deadlines and leases are counted on the server's clock as this agent estimates it; two
hosts' wall clocks are never compared.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import grpc
import grpc.aio
import structlog

from heteroscale import channel
from heteroscale.convert import seconds, unix_seconds
from heteroscale.v1 import agent_pb2, agent_pb2_grpc
from heteroscale.words import Outcome
from heteroscale_agent import wire
from heteroscale_agent.identity import Identity
from heteroscale_agent.job import Claim
from heteroscale_agent.model import Command, CommandResult, Inventory, Report
from heteroscale_agent.outbox import Item, Outbox
from heteroscale_agent.patience import PATIENCE, Patience, said, until
from heteroscale_agent.ports import Body, Clock, Eyes
from heteroscale_agent.serverclock import LinkError, ServerClock

log = structlog.get_logger("link")

HELLO_RESULTS = 500
"""The oldest results that wait go into a hello; a coordinator takes no more than 1,000 from one. The
rest follow the welcome, in their order."""

Stream = grpc.aio.StreamStreamCall[agent_pb2.ConnectRequest, agent_pb2.ConnectResponse]


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where and as whom to connect."""

    address: str
    tls: channel.TlsFiles
    insecure: bool
    cluster_id: str
    advertise_host: str
    version: str
    claim: Claim | None = None
    """What it stands for within a scheduler's job; None: for its host."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a session speaks for."""

    settings: LinkSettings
    identity: Identity
    eyes: Eyes
    body: Body
    outbox: Outbox
    clock: Clock
    on_interval: Callable[[float], None]
    """Told how often the coordinator wants reports, in seconds."""


class Link:
    """Keeps one session with the coordinator, for ever."""

    def __init__(self, wiring: Wiring, patience: Patience = PATIENCE) -> None:
        self._wiring = wiring
        self._patience = patience
        self._sequence = count(1)

    async def run(self) -> None:
        """Connect again and again until cancelled.

        Whatever a session dies of, the engines of this host still need their agent: it is said
        aloud, and the next session begins.
        """
        pause = self._patience.pause
        while True:
            connected = asyncio.Event()
            try:
                await until(connected, self._patience)(self._one_session, connected)
            except Exception as error:  # noqa: BLE001 - one fault must not end the link
                log.warning("stream lost; engines go on as they are", **said(error))
            await asyncio.sleep(random.uniform(pause / 10, pause))  # noqa: S311 - no secret

    async def _one_session(self, connected: asyncio.Event) -> None:
        settings = self._wiring.settings
        async with channel.open_channel(
            settings.address, settings.tls, insecure=settings.insecure
        ) as opened:
            stream = agent_pb2_grpc.AgentServiceStub(opened).Connect()
            try:
                session = Session(self._wiring, stream, self._sequence, self._patience.welcome)
                await session.run(connected)
            finally:
                stream.cancel()


class Session:
    """One stream, from hello to its end."""

    def __init__(
        self, wiring: Wiring, stream: Stream, sequence: Iterator[int], welcome_timeout: float
    ) -> None:
        self._wiring = wiring
        self._stream = stream
        self._sequence = sequence
        self._welcome_timeout = welcome_timeout
        self._clock = ServerClock()
        self._told: Inventory | None = None
        """The inventory whose hash, or whole, the coordinator has last heard."""

    async def run(self, connected: asyncio.Event) -> None:
        """Greet, then read and write until either ends.

        Raises:
            LinkError: refused, silent, or ended; worth another try.
            grpc.aio.AioRpcError: the transport or the coordinator ended it.

        """
        await self._say_hello()
        welcome = await self._hear_welcome()
        connected.set()
        log.info("connected", epoch=welcome.epoch, coordinator=welcome.coordinator_id)
        self._wiring.on_interval(max(0.05, seconds(welcome.report_interval)))
        if welcome.inventory_wanted:
            await self._tell_inventory()
        both = {asyncio.create_task(self._write()), asyncio.create_task(self._read())}
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        raise LinkError("the coordinator closed the stream")

    # ---- greeting ----------------------------------------------------------------------------

    async def _say_hello(self) -> None:
        wiring = self._wiring
        wiring.outbox.clear()
        waiting = wiring.body.unacknowledged()
        results, rest = waiting[:HELLO_RESULTS], waiting[HELLO_RESULTS:]
        for result in rest:
            wiring.outbox.put(result)
        self._told = wiring.eyes.inventory()
        hello = wire.hello(
            wiring.identity,
            inventory=self._told,
            instances=wiring.body.statuses(),
            history=wiring.eyes.history(),
            results=results,
            now=wiring.clock(),
            version=wiring.settings.version,
            cluster_id=wiring.settings.cluster_id,
            highest_epoch=wiring.body.highest_epoch,
            advertise_host=wiring.settings.advertise_host,
            claim=wiring.settings.claim,
        )
        sequence = await self._send(hello=hello)
        for result in results:
            wiring.outbox.sent(sequence, result)

    async def _hear_welcome(self) -> agent_pb2.Welcome:
        try:
            first = await asyncio.wait_for(self._receive(), self._welcome_timeout)
        except TimeoutError:
            raise LinkError(f"no welcome within {self._welcome_timeout:g} s") from None
        if not first.HasField("welcome"):
            raise LinkError(
                f"a {first.WhichOneof('body') or 'newer message'} came before a welcome"
            )
        welcome, settings = first.welcome, self._wiring.settings
        if settings.cluster_id and welcome.cluster_id != settings.cluster_id:
            raise LinkError(
                f"the coordinator leads cluster {welcome.cluster_id!r}, this agent belongs to "
                f"{settings.cluster_id!r}"
            )
        if not self._wiring.body.hear_epoch(welcome.epoch):
            raise LinkError(
                f"the coordinator leads with epoch {welcome.epoch}, but "
                f"{self._wiring.body.highest_epoch} has been heard: an old one; not obeyed"
            )
        self._clock.stamp(unix_seconds(welcome.server_time), self._wiring.clock())
        return welcome

    # ---- writing -----------------------------------------------------------------------------

    async def _write(self) -> None:
        outbox = self._wiring.outbox
        while True:
            item = await outbox.take()
            sequence = await self._send_item(item)
            outbox.sent(sequence, item)

    async def _send_item(self, item: Item) -> int:
        if isinstance(item, Report):
            # Before what is in its order: an unsent report is always of the newest inventory.
            if self._wiring.eyes.inventory() is not self._told:
                await self._tell_inventory()
            return await self._send(report=wire.report(item, self._wiring.clock()))
        if isinstance(item, CommandResult):
            return await self._send(command_result=wire.result(item))
        return await self._send(instance_event=wire.event(item))

    async def _tell_inventory(self) -> None:
        self._told = self._wiring.eyes.inventory()
        await self._send(inventory=wire.inventory_message(self._told))

    async def _send(self, **body: Any) -> int:
        sequence = next(self._sequence)
        await self._stream.write(agent_pb2.ConnectRequest(sequence=sequence, **body))
        return sequence

    # ---- reading -----------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            match message.WhichOneof("body"):
                case "command":
                    self._command(message.command)
                case "lease_renewal":
                    self._renew(message.lease_renewal)
                case "ack":
                    ids = self._wiring.outbox.acknowledged(message.ack.sequence)
                    self._wiring.body.acknowledge(ids)
                case _:
                    pass  # of a newer coordinator

    async def _receive(self) -> agent_pb2.ConnectResponse:
        message = await self._stream.read()
        if isinstance(message, agent_pb2.ConnectResponse):
            return message
        if message is grpc.aio.EOF:
            code, details = await self._stream.code(), await self._stream.details()
            raise LinkError(f"stream ended: {code.name}: {details}")
        # gRPC gives None for bytes that are no message, and leaves the stream open.
        raise LinkError("what came is no message of this protocol")

    def _renew(self, renewal: agent_pb2.LeaseRenewal) -> None:
        if renewal.epoch < self._wiring.body.highest_epoch:
            return
        stamped = unix_seconds(renewal.server_time)
        self._clock.stamp(stamped, self._wiring.clock())
        expires_at = self._clock.local(stamped + seconds(renewal.duration))
        self._wiring.body.renew(renewal.instance_ids, expires_at)

    def _command(self, message: agent_pb2.Command) -> None:
        stamped = unix_seconds(message.server_time)
        self._clock.stamp(stamped, self._wiring.clock())
        try:
            expires_at = self._clock.local(stamped + seconds(message.deadline))
            command = wire.command(message, expires_at)
        except wire.WireError as error:
            refusal = CommandResult(message.command_id, Outcome.REFUSED, str(error))
            self._wiring.outbox.put(refusal)
            return
        # A command outlives the stream it came on: it is carried out whole, or not begun.
        task = asyncio.create_task(self._execute(command))
        _RUNNING.add(task)
        task.add_done_callback(_RUNNING.discard)

    async def _execute(self, command: Command) -> None:
        with structlog.contextvars.bound_contextvars(
            cause=command.cause, command=command.command_id, instance=command.instance_id
        ):
            result = await self._wiring.body.execute(command)
            log.info(
                "command",
                action=type(command.action).__name__,
                outcome=result.outcome.value,
                message=result.message,
            )
        self._wiring.outbox.put(result)


_RUNNING: set[asyncio.Task[None]] = set()
