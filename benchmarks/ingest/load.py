"""One load process: its share of the agents' streams, driven by lines on stdin.

``python -m benchmarks.ingest.load SETTINGS-AS-JSON``. It opens its streams, each on a connection of
its own as real agents do, says ``{"connected": n}`` as they are welcomed, and obeys: ``go`` send (flat
out only: others report once welcomed) · ``mark`` forget what was measured · ``stop`` end with figures.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass

import grpc
import grpc.aio

from benchmarks.ingest.reports import Voice, make_shapes
from benchmarks.ingest.stream import AgentStream, StreamEndedError, Tally
from heteroscale.channel import TlsFiles, open_channel

SHAPES = 16
MOMENTS_FLAT_OUT = 512
"""Counters go on rising for so many reports of one stream."""
TELL_EVERY = 250
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
"""Without it the channels of one process would share one."""
LOSSES = (StreamEndedError, grpc.aio.AioRpcError, asyncio.InvalidStateError)
"""What a stream that ends before its time raises."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one load process is to do."""

    target: str
    first: int
    """Number of its first host; the others follow."""
    streams: int
    interval: float
    """Seconds between the reports of a stream; 0: as fast as flow control lets it."""
    hellos_per_second: float
    probe_every: int = 20
    per_connection: int = 1
    """Streams that share a connection; real agents share none."""
    """Every so many reports one is followed by a probe; 0: never."""

    def text(self) -> str:
        """Return it for the command line."""
        return json.dumps(asdict(self))


class LoadProcess:
    """See the module."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._tally = Tally(load.probe_every if load.interval else 0)
        self._going = asyncio.Event()
        self._channels: list[grpc.aio.Channel] = []
        self._lives: list[asyncio.Task[None]] = []
        moments = MOMENTS_FLAT_OUT if not load.interval else 64
        self._shapes = make_shapes(SHAPES, moments, load.interval or 1.0)

    async def run(self) -> None:
        """Connect, obey, report. What is no loss of a stream ends the process."""
        try:
            async with asyncio.TaskGroup() as group:
                connecting = group.create_task(self._connect(group))
                await self._obey()
                for task in (connecting, *self._lives):
                    task.cancel()
        finally:
            await asyncio.gather(*(channel.close() for channel in self._channels))

    async def _connect(self, group: asyncio.TaskGroup) -> None:
        load = self._load
        began = time.monotonic()
        for place in range(load.streams):
            await asyncio.sleep(max(0.0, began + place / load.hellos_per_second - time.monotonic()))
            if place % load.per_connection == 0:
                self._channels.append(open_channel(load.target, TlsFiles(), more=OWN_CONNECTION))
            number = load.first + place
            voice = Voice(self._shapes[number % SHAPES], number)
            stream = AgentStream(self._channels[-1], voice, self._tally)
            self._lives.append(group.create_task(self._live(stream)))

    async def _live(self, stream: AgentStream) -> None:
        """Live one agent's life: connect, again and again if need be, and report until cancelled."""
        while not await self._opened(stream):  # noqa: ASYNC110 - a refused agent backs off
            await asyncio.sleep(random.uniform(0.2, 2.0))  # noqa: S311 - spreads a fleet, no secret
        connected = self._tally.connected
        if connected % TELL_EVERY == 0 or connected == self._load.streams:
            print(json.dumps({"connected": connected}), flush=True)
        reading = asyncio.create_task(stream.read_acks())
        try:
            while not reading.done():
                await self._due(stream)
                await stream.report()
            await reading
        except LOSSES as error:
            self._tally.lost(error)
        finally:
            reading.cancel()

    async def _opened(self, stream: AgentStream) -> bool:
        try:
            await stream.open()
        except LOSSES as error:
            self._tally.refused(error)
            return False
        return True

    async def _due(self, stream: AgentStream) -> None:
        """Wait for the moment of the stream's next report; flat out that is now."""
        if not self._load.interval:
            await self._going.wait()
            return
        now = time.monotonic()
        stream.due = stream.due + self._load.interval if stream.due else now
        await asyncio.sleep(max(0.0, stream.due - now))
        self._tally.late(time.monotonic() - stream.due)

    async def _obey(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while order := (await reader.readline()).decode().strip():
            if order == "go":
                self._going.set()
            elif order == "mark":
                self._tally.reset()
            elif order == "stop":
                live = sum(not task.done() for task in self._lives)
                print(json.dumps(self._tally.figures() | {"live": live}), flush=True)
                return


if __name__ == "__main__":
    asyncio.run(LoadProcess(Load(**json.loads(sys.argv[1]))).run())
