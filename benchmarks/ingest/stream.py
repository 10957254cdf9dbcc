"""One agent's stream as a load process drives it."""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections import deque
from typing import Any

import grpc
import grpc.aio

from benchmarks.ingest.reports import Voice
from heteroscale.v1 import agent_pb2

CONNECT = "/heteroscale.v1.AgentService/Connect"
_MAX_TROUBLES = 5


class StreamEndedError(Exception):
    """The server ended the stream."""


class Tally:
    """What the streams of one process have seen; times in seconds."""

    def __init__(self, probe_every: int) -> None:
        self.connected = 0
        self._probe_every = probe_every
        self._probed = 0
        self._troubles: list[str] = []
        self._refusals: Counts[str] = Counts()
        self.reset()

    def reset(self) -> None:
        """Begin to measure anew."""
        self.since = time.monotonic()
        self._cpu_since = time.process_time()
        self.sent = self.acks = 0
        self._delays: list[float] = []
        self._lateness = 0.0

    def probe_due(self) -> bool:
        """Return whether this report is one of those to be followed by a probe."""
        self._probed += 1
        return bool(self._probe_every) and self._probed % self._probe_every == 0

    def acknowledged(self, seconds: float) -> None:
        """Note the time from the writing of a report to the ack of the probe behind it."""
        self._delays.append(seconds)

    def late(self, seconds: float) -> None:
        """Note how late this process itself was with a report."""
        self._lateness = max(self._lateness, seconds)

    def lost(self, why: BaseException) -> None:
        """Note a stream that ended before it should."""
        if len(self._troubles) < _MAX_TROUBLES:
            self._troubles.append(repr(why)[:300])

    def refused(self, why: BaseException) -> None:
        """Note a hello that was refused; agents try again."""
        self._refusals[str(why)[:120]] += 1

    def figures(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        seconds = time.monotonic() - self.since
        return {
            "seconds": seconds,
            "sent": self.sent,
            "acks": self.acks,
            "delays": self._delays,
            "latest": self._lateness,
            "cpu": (time.process_time() - self._cpu_since) / seconds,
            "troubles": self._troubles,
            "refusals": self._refusals,
        }


class AgentStream:
    """Hello, welcome, inventory when it is wanted, then reports."""

    def __init__(self, channel: grpc.aio.Channel, voice: Voice, tally: Tally) -> None:
        self._voice = voice
        self._tally = tally
        self.due = 0.0
        """When its next report is due, on this process's clock; 0: not known yet."""
        self._sequence = 1
        self._probes: deque[tuple[int, float]] = deque()
        self._connect: grpc.aio.StreamStreamMultiCallable[bytes, agent_pb2.ConnectResponse] = (
            channel.stream_stream(
                CONNECT, response_deserializer=agent_pb2.ConnectResponse.FromString
            )
        )
        self._call = self._connect()

    async def open(self) -> None:
        """Greet, on a new call if this one has ended; return when hello and inventory are taken in.

        Raises:
            AioRpcError, StreamEndedError: refused, or ended.

        """
        if self._call.done():
            self._call = self._connect()
        self._sequence = 1
        await self._call.write(self._voice.hello())
        message = await self._read()
        if not message.HasField("welcome"):
            raise StreamEndedError("no welcome came first")
        if message.welcome.inventory_wanted:
            await self._call.write(self._voice.inventory(self._next()))
        while (await self._read()).ack.sequence < self._sequence:
            pass
        self._tally.connected += 1

    async def report(self) -> None:
        """Send the next report, and now and then a probe behind it."""
        tally, call = self._tally, self._call
        started = time.monotonic()
        await call.write(self._voice.report(self._next()))
        tally.sent += 1
        if tally.probe_due():
            sequence = self._next()
            self._probes.append((sequence, started))
            await call.write(self._voice.probe(sequence))

    async def read_acks(self) -> None:
        """Read what comes down until the stream ends."""
        tally, probes = self._tally, self._probes
        while True:
            message = await self._read()
            tally.acks += 1
            while probes and probes[0][0] <= message.ack.sequence:
                _, started = probes.popleft()
                if started >= tally.since:
                    tally.acknowledged(time.monotonic() - started)

    async def _read(self) -> agent_pb2.ConnectResponse:
        message = await self._call.read()
        if not isinstance(message, agent_pb2.ConnectResponse):
            raise StreamEndedError(f"{await self._call.code()}: {await self._call.details()}")
        return message

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence
