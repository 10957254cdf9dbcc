"""One HTTP exchange that nothing at the other end can make long, large or lead elsewhere.

A metrics endpoint or a router is a stranger's program under load: it may hang, drip a byte a second,
answer with a login page or with gigabytes. Each of these ends in `ExchangeError` within the deadline.
There are no redirects, proxies or cookies, and so h11 alone does what is needed, at a seventh of a full
client's CPU time and without its four megabytes.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Iterable
from functools import cache
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

import h11

from heteroscale_agent import tls as trust
from heteroscale_agent.connection import (
    Connection,
    ExchangeError,
    Judge,
    TooLargeError,
    UnheardError,
)
from heteroscale_agent.names import NAMES, Names

if TYPE_CHECKING:
    import ssl

__all__ = ["ExchangeError", "Judge", "Line", "TooLargeError", "exchange", "split"]

_HEADERS = (
    # A compressed answer could unfold into any size.
    ("Accept-Encoding", "identity"),
    ("User-Agent", "heteroscale-agent"),
)
_CLOSE = ("Connection", "close")

Result = TypeVar("Result")


def split(url: str) -> SplitResult:
    """Return the parts of an http or https URL that has a host.

    Raises:
        ExchangeError: it is none.

    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError as error:
        raise ExchangeError(f"{url!r} is no URL: {error}") from error
    if not known:
        raise ExchangeError(f"{url!r} is no http or https URL")
    return parts


async def exchange(
    method: str,
    url: str,
    *,
    deadline: float,
    limit: int,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    judge: Judge = lambda _: None,
    tls: ssl.SSLContext | None = None,
    names: Names = NAMES,
) -> tuple[int, bytes]:
    """Return status and body of one exchange that takes at most ``deadline`` seconds in all.

    ``judge`` may refuse an answer by its head, by raising what it likes, before the body costs
    anything. ``tls`` is used for https; default: the system's authorities.

    Raises:
        TooLargeError: the body is longer than ``limit`` bytes, or announced to be.
        ExchangeError: nobody answered, or the answer was not whole in time, or no HTTP.

    """
    parts = split(url)

    async def ask() -> tuple[int, bytes]:
        connection = await _connect(parts, tls, names)
        try:
            request = _request(method, parts, (*headers, _CLOSE), body)
            return await connection.ask(request, body, limit, judge)
        finally:
            connection.abort()

    return await _within(deadline, ask())


class Line:
    """GETs of one URL again and again, over one connection as long as the other end keeps it."""

    def __init__(
        self,
        url: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        tls: ssl.SSLContext | None = None,
        names: Names = NAMES,
    ) -> None:
        """Prepare to ask ``url``; the parameters are those of `exchange`."""
        self.url = url
        self._headers, self._tls, self._names = tuple(headers), tls, names
        self._prepared: tuple[SplitResult, h11.Request] | None = None
        self._kept: Connection | None = None

    async def get(
        self, *, deadline: float, limit: int, judge: Judge = lambda _: None
    ) -> tuple[int, bytes]:
        """Return status and body, as `exchange` does; one at a time.

        A kept connection that turns out to be closed costs a second try, within the same deadline.
        """
        return await _within(deadline, self._get(limit, judge))

    def close(self) -> None:
        """Let go of the connection; the next `get` makes another."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.abort()

    async def _get(self, limit: int, judge: Judge) -> tuple[int, bytes]:
        if self._prepared is None:
            parts = split(self.url)
            self._prepared = parts, _request("GET", parts, self._headers, b"")
        parts, request = self._prepared
        kept, self._kept = self._kept, None
        if kept is not None and kept.free:
            try:
                return await self._ask(kept, request, limit, judge)
            except UnheardError:
                pass  # It was closed for idleness, most likely, as the request went out.
        return await self._ask(await _connect(parts, self._tls, self._names), request, limit, judge)

    async def _ask(
        self, connection: Connection, request: h11.Request, limit: int, judge: Judge
    ) -> tuple[int, bytes]:
        answer = await connection.ask(request, b"", limit, judge)
        if connection.free:
            self._kept = connection
        return answer


async def _within(deadline: float, asking: Awaitable[Result]) -> Result:
    """Await it for at most ``deadline`` seconds; whatever goes wrong there is an ExchangeError."""
    try:
        async with asyncio.timeout(deadline):
            return await asking
    except TimeoutError:
        raise ExchangeError(f"no whole answer within {deadline:g} s") from None
    except h11.LocalProtocolError:
        # Its text quotes what could not be sent, and that may be a secret.
        raise ExchangeError("a header or the address has letters it may not have") from None
    except (OSError, h11.ProtocolError, UnicodeError) as error:
        raise ExchangeError(f"{type(error).__name__}: {error}") from error


@cache
def _system_tls() -> ssl.SSLContext:
    # More than a megabyte, so only where somebody speaks https.
    return trust.context()


async def _connect(url: SplitResult, tls: ssl.SSLContext | None, names: Names) -> Connection:
    host = url.hostname or ""
    secure = (tls or _system_tls()) if url.scheme == "https" else None
    port = url.port or (443 if secure else 80)
    loop = asyncio.get_running_loop()
    error: OSError = OSError(f"no address of {host}")
    for address in await names.addresses(host):
        try:
            _, connection = await loop.create_connection(
                Connection,
                address,
                port,
                ssl=secure,
                server_hostname=host if secure else None,
            )
        except OSError as failed:
            error = failed
        else:
            return connection
    raise error


def _request(
    method: str, url: SplitResult, headers: Iterable[tuple[str, str]], body: bytes
) -> h11.Request:
    user, _, host = url.netloc.rpartition("@")
    every = [("Host", host), *_HEADERS, *headers]
    if user:
        every.append(
            ("Authorization", f"Basic {base64.b64encode(unquote(user).encode()).decode()}")
        )
    if body or method in {"POST", "PUT", "PATCH"}:
        every.append(("Content-Length", str(len(body))))
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return h11.Request(method=method, target=target, headers=every)
