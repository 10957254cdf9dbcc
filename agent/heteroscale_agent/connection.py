"""One HTTP/1.1 connection, by h11: a request and its answer; then, where both ends keep it, the next.

Bytes are read as they come in, so that an answer of three pieces wakes its waiter once. Whatever is not
exactly one whole answer to what was asked ends the connection: nothing of it can become the next one's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import h11

Judge = Callable[[h11.Response], None]


class ExchangeError(Exception):
    """There was no whole answer; the text says why, without the address."""


class TooLargeError(ExchangeError):
    """The answer is longer than it may be."""


class UnheardError(ExchangeError):
    """The connection ended before a byte came: the other end may never have read the request."""


class Connection(asyncio.Protocol):
    """A connection whose transport asyncio makes; one `ask` at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._http = h11.Connection(h11.CLIENT)
        self._answer: _Answer | None = None

    @property
    def free(self) -> bool:
        """Whether it can be asked: it is open, and all that was asked before is over."""
        open_ = self._transport is not None and not self._transport.is_closing()
        return open_ and self._answer is None

    async def ask(
        self, request: h11.Request, body: bytes, limit: int, judge: Judge
    ) -> tuple[int, bytes]:
        """Return status and body of the answer; the connection is `free` afterwards, or at its end.

        Raises:
            UnheardError: it ended before a byte of an answer came.
            TooLargeError: the body is longer than ``limit`` bytes, or announced to be.
            ExchangeError: it ended in the midst of the answer.
            h11.ProtocolError: that is no HTTP; h11.LocalProtocolError: what was asked is none.

        """
        answer = self._answer = _Answer(limit, judge)
        try:
            self._write(request, body)
            await answer.whole
        except BaseException:
            self._answer = None
            self.abort()
            # The error's frames hold the answer, in a circle that waits for the garbage collector.
            answer.body.clear()
            raise
        self._answer = None
        self._keep_or_end()
        return answer.status, bytes(answer.body)

    def abort(self) -> None:
        """End it now. Not close(): that would wait for what is still to be written."""
        if self._transport is not None:
            self._transport.abort()

    # ---- what asyncio calls ----

    def connection_made(self, transport: Any) -> None:
        """Take the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Read on. What nobody asked for, or what follows a whole answer, ends the connection."""
        if self._answer is None or self._answer.whole.done():
            self.abort()
            return
        self._answer.heard = True
        self._read(data)

    def eof_received(self) -> None:
        """Read to the end; asyncio closes the transport then."""
        if self._answer is not None and self._answer.heard:
            self._read(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever still waits."""
        if self._answer is not None:
            why = f"{type(exc).__name__}: {exc}" if exc else "the connection was closed"
            self._answer.fail((ExchangeError if self._answer.heard else UnheardError)(why))

    # ---- h11 ----

    def _write(self, request: h11.Request, body: bytes) -> None:
        if self._transport is None:
            raise UnheardError("there is no connection")
        written = self._http.send(request) or b""
        if body:
            written += self._http.send(h11.Data(data=body)) or b""
        self._transport.write(written + (self._http.send(h11.EndOfMessage()) or b""))

    def _read(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or answer.whole.done():
            return
        try:
            self._http.receive_data(data)
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.ConnectionClosed):
                    return  # `connection_lost` says so
                answer.take(event)
                if answer.whole.done():
                    return
        except Exception as error:  # noqa: BLE001 - the judge raises what it likes; the waiter gets it
            # Without its frames: they hold what was read, in a circle with the answer.
            answer.fail(error.with_traceback(None))

    def _keep_or_end(self) -> None:
        rest, _ = self._http.trailing_data
        if self._http.their_state is h11.DONE and self._http.our_state is h11.DONE and not rest:
            self._http.start_next_cycle()
        else:
            # Closed by HTTP/1.0, by `Connection: close`, or to be: there is more than was asked for.
            self.abort()


class _Answer:
    """An answer as far as it has come."""

    def __init__(self, limit: int, judge: Judge) -> None:
        self._limit, self._judge = limit, judge
        self.whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.heard = False
        """Whether any byte came since it was asked for."""
        self.status = 0
        self.body = bytearray()

    def take(self, event: Any) -> None:
        """Take in what h11 has read."""
        if isinstance(event, h11.Response):
            self._judge(event)
            _refuse_large(event, self._limit)
            self.status = event.status_code
        elif isinstance(event, h11.Data):
            self.body += event.data
            if len(self.body) > self._limit:
                raise TooLargeError(f"more than {self._limit} bytes")
        elif isinstance(event, h11.EndOfMessage):
            self.whole.set_result(None)

    def fail(self, error: Exception) -> None:
        """Tell the waiter, unless it knows already."""
        if not self.whole.done():
            self.whole.set_exception(error)


def _refuse_large(response: h11.Response, limit: int) -> None:
    for name, value in response.headers:
        # h11 has refused a length that is no number of at most 20 digits.
        if name == b"content-length" and int(value) > limit:
            raise TooLargeError(f"{int(value)} bytes announced")
