"""The agents' face: one stream per agent, read with limits, refused with a clear word.

Nothing an agent sends stops anything but its own stream. The reader is the handler itself; what it
reads goes to the mailbox, which pushes back when the loop is behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from heteroscale.v1 import agent_pb2
from heteroscale_coordinator.core.events import (
    AgentDisconnected,
    CommandAnswered,
    InventoryLearned,
    RankChanged,
)
from heteroscale_coordinator.edge import orders, wire
from heteroscale_coordinator.edge.admission import Admission
from heteroscale_coordinator.edge.dispatch import Dispatcher
from heteroscale_coordinator.edge.ports import Leader
from heteroscale_coordinator.edge.session import Limits, Peer, Refusal, Session
from heteroscale_coordinator.edge.sessions import Sessions
from heteroscale_coordinator.edge.store.port import StoreError
from heteroscale_coordinator.edge.trust import CallerRole, Gatekeeper

log = structlog.get_logger("heteroscale.agents")

SERVICE = "heteroscale.v1.AgentService"
MAX_REPORT_BYTES = 256 * 1024
MAX_EPOCH = 1 << 48
LAST_WRITE_S = 1.0
"""What is being written when a stream ends may take so long to leave."""
_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(slots=True)
class Counts:
    """What the face has seen; only grows."""

    hellos: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """By status."""
    reports: int = 0
    dropped: int = 0
    """Messages that could not be meant."""


class AgentService:
    """See the module. Register with ``handler``; run ``watch`` beside the server."""

    def __init__(
        self,
        *,
        loop: Leader,
        sessions: Sessions,
        dispatcher: Dispatcher,
        admission: Admission,
        gatekeeper: Gatekeeper,
        cluster_id: str,
        coordinator_id: str,
        limits: Limits | None = None,
    ) -> None:
        self.counts = Counts()
        self._loop, self._sessions, self._dispatcher = loop, sessions, dispatcher
        self._admission, self._gatekeeper = admission, gatekeeper
        self._cluster_id, self._coordinator_id = cluster_id, coordinator_id
        self._limits = limits or Limits()
        self._swept_at = loop.now()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler to add to a server. It takes bytes, so that garbage is ours to answer."""
        method: grpc.RpcMethodHandler[bytes, agent_pb2.ConnectResponse] = (
            grpc.stream_stream_rpc_method_handler(
                self._connect,
                request_deserializer=None,
                response_serializer=agent_pb2.ConnectResponse.SerializeToString,
            )
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"Connect": method})

    # ---- one stream ------------------------------------------------------------------------------

    async def _connect(self, _requests: AsyncIterator[bytes], context: _Context) -> None:
        session: Session | None = None
        refusal: Refusal | None = None
        try:
            hello, sequence = await self._hello(context)
            session = await self._join(hello, sequence, context)
            await self._announce(session, hello, sequence)
            del hello  # with its history it is large, and this frame lives as long as the stream
            await self._read(session, context)
        except Refusal as error:
            refusal = error
        except asyncio.CancelledError:
            if session is None or session.ending is None:
                raise
            _uncancel()
            refusal = session.ending
        finally:
            if session is not None:
                self._leave(session, refusal)
        if session is not None:
            await session.settle(LAST_WRITE_S)
        if refusal is not None:
            await self._refuse(refusal, context)

    async def _hello(self, context: _Context) -> tuple[agent_pb2.Hello, int]:
        await self._admission.enter()
        try:
            async with asyncio.timeout(self._limits.hello):
                raw = await context.read()
        except TimeoutError:
            text = f"no hello within {self._limits.hello:g} s"
            raise Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, text) from None
        # Only now, for a client that is refused while it writes hears of the failed write alone.
        if why := self._gatekeeper.refuse(context, CallerRole.AGENT):
            raise Refusal(grpc.StatusCode.PERMISSION_DENIED, why)
        if raw is grpc.aio.EOF:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the stream ended before a hello")
        message = _parse(raw)
        if message.WhichOneof("body") != "hello":
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be a hello")
        self._check(message.hello, context)
        self.counts.hellos += 1
        return message.hello, message.sequence

    def _check(self, hello: agent_pb2.Hello, context: _Context) -> None:
        if not wire.is_id(hello.agent_id) or not hello.process_token:
            raise Refusal(
                grpc.StatusCode.INVALID_ARGUMENT,
                "a hello needs an agent id of letters, digits and ._:@-, and a process token",
            )
        if why := self._gatekeeper.refuse_agent(context, hello.agent_id):
            raise Refusal(grpc.StatusCode.PERMISSION_DENIED, why)
        if hello.HasField("stands_for"):
            within = wire.text(hello.stands_for.within, wire.MAX_NAME)
            if why := self._gatekeeper.refuse_claim(hello.agent_id, within):
                raise Refusal(grpc.StatusCode.PERMISSION_DENIED, why)
        if hello.cluster_id and hello.cluster_id != self._cluster_id:
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"this is cluster {self._cluster_id!r}, the agent is of {hello.cluster_id[:99]!r}",
            )
        if hello.highest_epoch > MAX_EPOCH:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "an epoch that high cannot be real")

    async def _join(self, hello: agent_pb2.Hello, sequence: int, context: _Context) -> Session:
        agent_id = hello.agent_id
        peer = Peer(
            agent_id,
            hello.incarnation,
            hello.process_token,
            wire.text(hello.hostname, wire.MAX_NAME),
            context.peer(),
            wire.text(hello.advertise_host, wire.MAX_NAME),
        )
        loop, sessions = self._loop, self._sessions
        sessions.check(peer, loop.now())
        try:
            ours = sessions.told(agent_id, hello.highest_epoch)
            epoch = await loop.lead(hello.highest_epoch, ours=ours)
        except StoreError as error:
            text = f"cannot commit an epoch above {hello.highest_epoch}: {error}"
            raise Refusal(grpc.StatusCode.UNAVAILABLE, text) from error
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream is handled by a task")
        session = Session(peer, context.write, task, loop.now, sequence)
        sessions.join(session, loop.now())
        sessions.tell(epoch, agent_id)
        session.send(
            orders.welcome(
                cluster_id=self._cluster_id,
                coordinator_id=self._coordinator_id,
                epoch=epoch,
                now=loop.now(),
                report_interval=loop.state.rules.report_interval,
                inventory_wanted=not self._knows(agent_id, hello.inventory_hash),
            )
        )
        self._dispatcher.resend(session, loop.state, epoch)
        return session

    def _knows(self, agent_id: str, inventory_hash: str) -> bool:
        stored = self._loop.inventories.get(agent_id)
        if stored is None or not inventory_hash or stored.hash != inventory_hash:
            return False
        # One that an older coordinator stored lacks what it did not read, though its hash is right.
        return stored.read_as == wire.READ_AS

    async def _announce(self, session: Session, hello: agent_pb2.Hello, sequence: int) -> None:
        """Tell the loop who came, what runs there, and what was answered while nobody listened."""
        loop, agent_id, now = self._loop, hello.agent_id, self._loop.now()
        mailbox = loop.mailbox
        if self._knows(agent_id, hello.inventory_hash):
            await mailbox.put(InventoryLearned(agent_id, loop.inventories[agent_id]))
        event = wire.agent_connected(hello, now)
        log.info(
            "agent connected",
            agent=agent_id,
            host=session.peer.hostname,
            peer=session.peer.address,
            incarnation=hello.incarnation,
            instances=len(event.facts),
        )
        results = hello.unacknowledged_results[: wire.MAX_RESULTS]
        answers = [a for r in results if (a := wire.command_answered(agent_id, r)) is not None]
        letters = [(answer, session.owe(sequence)) for answer in answers]
        await mailbox.put(event, session.greeted)
        for answer, done in letters:
            await mailbox.put(answer, done)

    async def _read(self, session: Session, context: _Context) -> None:
        # No name here holds a report while the next is awaited: ten thousand streams wait at a time.
        read = context.read
        while (other := self._report(session, await read())) is not grpc.aio.EOF:
            if other is not None:
                await self._take(session, other)

    def _report(self, session: Session, raw: Any) -> Any:
        """Take in a report; what is none is returned: another message, or the stream's end."""
        if raw is grpc.aio.EOF:
            return raw
        message = _parse(raw)
        session.heard_at = heard = self._loop.now()
        if message.WhichOneof("body") != "report":
            return message
        if len(raw) > MAX_REPORT_BYTES:
            text = f"a report of {len(raw)} bytes: at most {MAX_REPORT_BYTES} are taken"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
        peer, sequence = session.peer, message.sequence
        self._loop.mailbox.report(
            wire.report(peer.agent_id, peer.incarnation, sequence, message.report, heard)
        )
        session.received(sequence)
        self.counts.reports += 1
        return None

    async def _take(self, session: Session, message: agent_pb2.ConnectRequest) -> None:
        agent_id = session.peer.agent_id
        event: InventoryLearned | RankChanged | CommandAnswered | None = None
        match message.WhichOneof("body"):
            case "inventory":
                event = InventoryLearned(agent_id, wire.inventory(message.inventory))
            case "instance_event":
                event = wire.rank_changed(agent_id, message.instance_event)
            case "command_result":
                event = wire.command_answered(agent_id, message.command_result)
            case "hello":
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "a second hello on one stream")
        if event is None:
            # Of a newer agent, or nothing that can be meant: passed over, not held against it.
            self.counts.dropped += 1
            session.received(message.sequence)
            return
        await self._loop.mailbox.put(event, session.owe(message.sequence))

    def _leave(self, session: Session, refusal: Refusal | None) -> None:
        session.close()
        if not self._sessions.leave(session, self._loop.now()):
            return
        why = refusal.text if refusal else "the stream ended"
        agent_id = session.peer.agent_id
        log.info("agent disconnected", agent=agent_id, why=why)
        event = AgentDisconnected(agent_id, session.peer.incarnation, why)
        self._loop.mailbox.put_now(event)

    async def _refuse(self, refusal: Refusal, context: _Context) -> None:
        name = refusal.code.name
        self.counts.refused[name] = self.counts.refused.get(name, 0) + 1
        log.warning("stream ended", peer=context.peer(), status=name, why=refusal.text)
        await context.abort(refusal.code, refusal.text)

    # ---- all streams -----------------------------------------------------------------------------

    async def watch(self) -> None:
        """End streams that fell idle or stuck, until cancelled."""
        while True:
            await asyncio.sleep(self._limits.sweep)
            self.sweep()

    def sweep(self) -> None:
        """End the streams that are idle or stuck now; forgive silence while we ourselves were away."""
        now, limits = self._loop.now(), self._limits
        away = now - self._swept_at - 2 * limits.sweep
        self._swept_at = now
        for session in self._sessions:
            if away > 0:
                session.excuse(away)
            silent, stuck = now - session.heard_at, now - (session.writing_since or now)
            if silent > limits.idle:
                text = f"no whole message for {silent:.0f} s"
                session.end(grpc.StatusCode.DEADLINE_EXCEEDED, text)
            elif stuck > limits.stuck:
                session.end(grpc.StatusCode.DEADLINE_EXCEEDED, "the agent does not read")
        self._sessions.forget(now)

    def dismiss(self, why: str) -> None:
        """End every stream; agents come again, to us or to the next."""
        for session in self._sessions:
            session.end(grpc.StatusCode.UNAVAILABLE, why)


def _parse(raw: bytes) -> agent_pb2.ConnectRequest:
    try:
        return agent_pb2.ConnectRequest.FromString(raw)
    except DecodeError:
        text = f"{len(raw)} bytes that are no ConnectRequest"
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text) from None


def _uncancel() -> None:
    """Take back the cancellation by which ``Session.end`` reached this task."""
    if (task := asyncio.current_task()) is not None:
        task.uncancel()
