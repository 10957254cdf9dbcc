"""A small HTTP server on loopback whose answers a test writes byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(
    body: bytes | str,
    *,
    content_type: str = "text/plain; version=0.0.4; charset=utf-8",
    status: str = "200 OK",
    extra: str = "",
) -> bytes:
    """Return a whole HTTP answer."""
    data = body.encode() if isinstance(body, str) else body
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\nContent-Type: {content_type}\r\n"
    return f"{head}{extra}\r\n".encode() + data


class MetricsServer:
    """Answers every request with `reply`, which a test may replace at any time."""

    def __init__(self) -> None:
        self.reply: Answer | bytes = answer("")
        self.url = ""
        self.requests = 0
        self._open: set[asyncio.Task[None]] = set()

    def says(self, body: str) -> None:
        self.reply = answer(body)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    self.requests += 1
                    if callable(self.reply):
                        await self.reply(writer)
                    else:
                        writer.write(self.reply)
                    await writer.drain()
        finally:
            self._open.discard(task)
            writer.close()

    async def stop(self) -> None:
        for task in self._open.copy():
            task.cancel()
        if self._open:
            await asyncio.wait(self._open.copy())


@asynccontextmanager
async def metrics_server() -> AsyncIterator[MetricsServer]:
    """Run a server on a free port; its `url` is that of the metrics."""
    endpoint = MetricsServer()
    server = await asyncio.start_server(endpoint.handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint.url = f"http://127.0.0.1:{port}/metrics"
    try:
        yield endpoint
    finally:
        server.close()
        await endpoint.stop()
        await server.wait_closed()


async def hangs(_: asyncio.StreamWriter) -> None:
    """Take the request and never answer."""
    await asyncio.Event().wait()
