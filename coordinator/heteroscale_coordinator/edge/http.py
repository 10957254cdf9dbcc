"""A small HTTP face: ``/metrics``, ``/healthz``, ``/readyz``. One request a connection.

h11 parses; what is here is the patience: a request has a few seconds and a few kilobytes, an answer
a few seconds to leave, and connections a number. Reading only; there is nothing to change here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11
import structlog
from prometheus_client.exposition import choose_encoder

from heteroscale_coordinator.edge.metrics import Metrics
from heteroscale_coordinator.edge.ports import HasStatus

_TEXT = "text/plain; charset=utf-8"
_CHUNK = 4096
log = structlog.get_logger("heteroscale.http")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Seconds, bytes and a number; beyond them a client is cut off."""

    request: float = 5.0
    """For the whole of its request."""
    response: float = 15.0
    """For making and taking the answer; ten thousand series are 1 MB."""
    header_bytes: int = 16 * 1024
    connections: int = 64


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    kind: str = _TEXT


class HttpFace:
    """Serves metrics and health of one loop."""

    def __init__(self, loop: HasStatus, metrics: Metrics, limits: HttpLimits | None = None) -> None:
        self._loop = loop
        self._metrics = metrics
        self._limits = limits or HttpLimits()
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()
        self._pages: dict[str, Callable[[str], Awaitable[_Answer]]] = {
            "/metrics": self._metrics_page,
            "/healthz": self._health_page,
            "/readyz": self._ready_page,
        }

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (a free one for 0). Raises OSError when it cannot."""
        self._server = await asyncio.start_server(self._connected, host, port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening and cut off who is connected."""
        if self._server is not None:
            self._server.close()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a stream's callback runs in a task of its own
        if len(self._busy) >= self._limits.connections:
            writer.transport.abort()
            return
        self._busy.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError):
            pass  # the client's own affair
        except Exception:
            log.exception("request failed")
        finally:
            self._busy.discard(task)
            # What has not left by now never will; close() would wait for it.
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limits = self._limits
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        request = None
        try:
            async with asyncio.timeout(limits.request):
                request = await _request(connection, reader)
            if request is None:
                return
            async with asyncio.timeout(limits.response):
                answer = await self._answer(request)
        except h11.RemoteProtocolError as error:
            code = HTTPStatus(error.error_status_hint)
            answer = _Answer(code, f"{error}\n".encode())
        async with asyncio.timeout(limits.response):
            await _reply(connection, writer, request, answer)

    async def _answer(self, request: h11.Request) -> _Answer:
        if request.method not in (b"GET", b"HEAD"):
            return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"GET or HEAD\n")
        path = request.target.partition(b"?")[0].decode("latin-1")
        page = self._pages.get(path)
        if page is None:
            known = " ".join(self._pages)
            return _Answer(HTTPStatus.NOT_FOUND, f"here are {known}\n".encode())
        accept = next((value for name, value in request.headers if name == b"accept"), b"")
        return await page(accept.decode("latin-1"))

    async def _metrics_page(self, accept: str) -> _Answer:
        encode, kind = choose_encoder(accept)
        # A thousand services take a while to write down; the loop goes on meanwhile.
        return _Answer(HTTPStatus.OK, await asyncio.to_thread(encode, self._metrics.registry), kind)

    async def _health_page(self, _accept: str) -> _Answer:
        if stuck := self._loop.status().stuck:
            return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"stuck: {stuck}\n".encode())
        return _Answer(HTTPStatus.OK, b"alive\n")

    async def _ready_page(self, _accept: str) -> _Answer:
        status = self._loop.status()
        why = [*status.not_ready, *([status.stuck] if status.stuck else [])]
        if why:
            text = "".join(f"not ready: {one}\n" for one in why)
            return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, text.encode())
        return _Answer(HTTPStatus.OK, b"ready\n")


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """Return the head of the request; None when the client left first. A body is not read."""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        connection.receive_data(await reader.read(_CHUNK))


async def _reply(
    connection: h11.Connection,
    writer: asyncio.StreamWriter,
    request: h11.Request | None,
    answer: _Answer,
) -> None:
    if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    head = h11.Response(
        status_code=answer.status,
        reason=answer.status.phrase,
        headers=[
            ("content-type", answer.kind),
            ("content-length", str(len(answer.body))),
            ("connection", "close"),
        ],
    )
    events: list[h11.Event] = [head, h11.Data(answer.body), h11.EndOfMessage()]
    if request is not None and request.method == b"HEAD":
        del events[1]
    writer.write(b"".join(connection.send(event) or b"" for event in events))
    writer.close()
    await writer.wait_closed()
