"""A network link that can be broken: a TCP proxy of one agent's way to the coordinator.

A link that is *cut* says nothing: connections stay open, no byte passes, new ones are accepted and
hear nothing. One that *refuses* closes what is open and what comes. ``heal`` ends both; on
connections that lived through a cut, what was held back passes then, as TCP would have it.
"""

from __future__ import annotations

import asyncio
import contextlib

from heteroscale_workbench.router import free_port

CHUNK = 65536


class Wire:
    """Carries connections from a port of its own to ``target``, both on 127.0.0.1."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._whole = asyncio.Event()
        self._whole.set()
        self._refusing = False
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """host:port to dial instead of the target."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Listen no more, and end what is carried."""
        if self._server is not None:
            self._server.close()
        await self._drop()

    def cut(self) -> None:
        """Let nothing pass, in silence."""
        self._whole.clear()

    async def refuse(self) -> None:
        """Close every connection, now and when it comes."""
        self._refusing = True
        await self._drop()

    def heal(self) -> None:
        """Carry again."""
        self._refusing = False
        self._whole.set()

    async def _drop(self) -> None:
        carrying = list(self._carrying)
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a server's callback runs in a task
        self._carrying.add(task)
        try:
            if not self._refusing:
                # An end of the proxy itself is no news for asyncio's own logger.
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await self._carry(reader, writer)
        finally:
            self._carrying.discard(task)
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        ways = [
            asyncio.create_task(self._pump(reader, back)),
            asyncio.create_task(self._pump(there, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._whole.wait()
            writer.write(data)
            await writer.drain()
        await self._whole.wait()
