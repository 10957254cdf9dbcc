"""How KV goes from a prefill to a decode: a room where both meet, over TCP, and the time it takes.

The router gives both halves of a request the same room number and the prefill's bootstrap address.
The decode connects there and says ``{"room": n}``; once the prefill has computed, it answers
``{"tokens", "domain", "sending"}``; the decode takes the time the transfer would take and says
``done``. The connection lives as long as the handover: when it breaks, either end knows that the
other has died, as with a real RDMA connection.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from heteroscale_simulator.profiles import LinkProfile
from heteroscale_workbench.engine_sim.job import Bootstrap, EngineError, Job
from heteroscale_workbench.engine_sim.settings import Settings, distance

LINE_LIMIT = 16 * 1024
SLICE = 0.02
"""Seconds after which a transfer looks again with how many others it shares the link."""
FAILED_ROOMS = 1000
CONNECT_TIMEOUT = 5.0
EXPIRED = 504
"""Status of a request whose KV, or whose place in a room, nobody came for in time."""


@dataclass(slots=True)
class _Room:
    offer: asyncio.Future[dict[str, Any]]
    job: Job | None = None
    joined: bool = False
    expiry: asyncio.TimerHandle | None = None


class Rooms:
    """The prefill's side: holds every computed prompt until its decode has fetched it."""

    def __init__(
        self,
        settings: Settings,
        joined: Callable[[Job], None],
        ended: Callable[[Job, EngineError | None], None],
    ) -> None:
        self._settings = settings
        self._joined = joined
        self._ended = ended
        self._rooms: dict[int, _Room] = {}
        self._failed: dict[int, str] = {}
        self._sending = 0

    def enter(self, job: Job, bootstrap: Bootstrap) -> None:
        """Take in ``job``; ``joined`` is called when its decode is there, perhaps at once."""
        room = self._room(bootstrap.room)
        room.job = job
        if room.joined:
            self._joined(job)
        else:
            loop = asyncio.get_running_loop()
            lease = self._settings.kv_lease
            room.expiry = loop.call_later(lease, self._expire, bootstrap.room)

    def offer(self, bootstrap: Bootstrap, tokens: int) -> None:
        """Hand the computed KV to the waiting decode; ``ended`` is called when it was fetched."""
        room = self._rooms.get(bootstrap.room)
        if room is not None and not room.offer.done():
            domain = dict(self._settings.domain)
            room.offer.set_result({"tokens": tokens, "domain": domain})

    def leave(self, bootstrap: Bootstrap, why: str) -> None:
        """Forget a room whose prefill has ended early; its decode is told ``why``."""
        room = self._close(bootstrap.room)
        if room is None:
            return
        self._failed[bootstrap.room] = why
        if len(self._failed) > FAILED_ROOMS:
            del self._failed[next(iter(self._failed))]
        if not room.offer.done():
            room.offer.set_result({"error": why})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one decode: one room, from its arrival to its ``done``."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                number = _room_number(await reader.readline())
            refusal = self._refusal(number)
            if refusal:
                _say(writer, {"error": refusal})
            else:
                await self._hand_over(number, reader, writer)
        except (OSError, ValueError, TimeoutError):
            return  # no room was entered: nobody waits for this connection
        finally:
            writer.close()

    def _refusal(self, number: int) -> str:
        if number in self._failed:
            return self._failed[number]
        taken = number in self._rooms and self._rooms[number].joined
        return f"room {number} has its decode already" if taken else ""

    async def _hand_over(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        room = self._room(number)
        room.joined = True
        if room.expiry is not None:
            room.expiry.cancel()
        if room.job is not None:
            self._joined(room.job)
        word = asyncio.create_task(_word(reader))
        try:
            error = await self._wait(room, word, writer)
        finally:
            word.cancel()
        if self._close(number) is not None and room.job is not None:
            self._ended(room.job, error)

    async def _wait(
        self, room: _Room, word: asyncio.Task[bytes], writer: asyncio.StreamWriter
    ) -> EngineError | None:
        lease = self._settings.kv_lease
        first: set[asyncio.Future[Any]] = {word, room.offer}
        await asyncio.wait(first, timeout=lease, return_when=asyncio.FIRST_COMPLETED)
        if word.done():
            return EngineError("the decode instance went away before the KV was ready")
        if not room.offer.done():
            _say(writer, {"error": "no prefill came to this room"})
            return EngineError("the prompt was not computed within the KV lease")
        self._sending += 1
        try:
            _say(writer, {**room.offer.result(), "sending": self._sending})
            await asyncio.wait({word}, timeout=lease)
        finally:
            self._sending -= 1
        if not word.done():
            return EngineError("KV expired: nobody fetched it", EXPIRED)
        if word.result() != b"done\n":
            return EngineError("the decode instance went away while it fetched the KV")
        return None

    def _expire(self, number: int) -> None:
        room = self._close(number)
        if room is not None and room.job is not None:
            self._ended(room.job, EngineError("no decode came for this prompt", EXPIRED))

    def _close(self, number: int) -> _Room | None:
        room = self._rooms.pop(number, None)
        if room is not None and room.expiry is not None:
            room.expiry.cancel()
        return room

    def _room(self, number: int) -> _Room:
        if number not in self._rooms:
            self._rooms[number] = _Room(asyncio.get_running_loop().create_future())
        return self._rooms[number]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A transfer that went well."""

    tokens: int
    octets: float
    seconds: float


class Fetcher:
    """The decode's side: fetches KV, sharing its link fairly among what it fetches at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._active = 0

    async def fetch(self, bootstrap: Bootstrap) -> Fetched:
        """Fetch the KV of a room.

        Raises:
            EngineError: the prefill cannot be reached, died, gave up, or talks nonsense.

        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                reader, writer = await asyncio.open_connection(
                    bootstrap.host, bootstrap.port, limit=LINE_LIMIT
                )
        except (OSError, TimeoutError) as error:
            where = f"{bootstrap.host}:{bootstrap.port}"
            raise EngineError(f"KV transfer failed: no prefill at {where}: {error}") from error
        try:
            return await self._fetch(bootstrap.room, reader, writer)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise EngineError(f"KV transfer failed: {str(error) or 'timed out'}") from error
        finally:
            writer.close()

    async def _fetch(
        self, room: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Fetched:
        _say(writer, {"room": room})
        async with asyncio.timeout(self._settings.kv_lease):
            line = await reader.readline()
        if not line:
            raise EngineError("KV transfer failed: the prefill instance went away")
        offer = json.loads(line)
        if "error" in offer:
            raise EngineError(f"KV transfer failed: {offer['error']}")
        tokens, sending = int(offer["tokens"]), int(offer["sending"])
        near = distance(self._settings.domain, offer["domain"])
        octets = tokens * self._settings.profile.kv_bytes_per_token
        link = self._settings.profile.transfer.link(near)
        began = asyncio.get_running_loop().time()
        await self._alive(reader, self._move(octets, link, sending))
        writer.write(b"done\n")
        await writer.drain()
        return Fetched(tokens, octets, asyncio.get_running_loop().time() - began)

    async def _alive(self, reader: asyncio.StreamReader, move: Any) -> None:
        moving = asyncio.create_task(move)
        broken = asyncio.create_task(_word(reader))
        try:
            await asyncio.wait({moving, broken}, return_when=asyncio.FIRST_COMPLETED)
            if not moving.done():
                raise EngineError("KV transfer failed: the prefill instance died during it")
        finally:
            moving.cancel()
            broken.cancel()

    async def _move(self, octets: float, link: LinkProfile, sending: int) -> None:
        """Take the time the transfer takes; ``sending`` is how many share the prefill's end."""
        clock = asyncio.get_running_loop().time
        rate = link.gigabytes_per_second * 1e9 * self._settings.speed
        self._active += 1
        try:
            await asyncio.sleep(link.latency_ms / 1000 / self._settings.speed)
            while octets > 0:
                share = rate / max(self._active, sending)
                before = clock()
                await asyncio.sleep(min(octets / share, SLICE))
                octets -= (clock() - before) * share
        finally:
            self._active -= 1


def _say(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")


async def _word(reader: asyncio.StreamReader) -> bytes:
    """Return what the decode says next; nothing when it is gone."""
    try:
        return await reader.readline()
    except (OSError, ValueError):
        return b""


def _room_number(line: bytes) -> int:
    message = json.loads(line)
    if not isinstance(message, dict) or not isinstance(message.get("room"), int):
        raise ValueError("not a room request")  # noqa: TRY004 - one kind of nonsense
    return int(message["room"])
