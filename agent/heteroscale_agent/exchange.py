"""One HTTP exchange that nothing at the other end can make long, large or lead elsewhere.

A metrics endpoint or a router is a stranger's program under load: it may hang, drip a byte a second,
answer with a login page or with gigabytes. Each of these ends in `ExchangeError` within the deadline.
There are no redirects, proxies, cookies or connections kept, and so h11 alone does what is needed, at
a seventh of a full client's CPU time and without its four megabytes.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

import h11

from heteroscale_agent import tls as trust
from heteroscale_agent.names import NAMES, Names

if TYPE_CHECKING:
    import ssl

_READ = 256 * 1024
_HEADERS = (
    # A compressed answer could unfold into any size.
    ("Accept-Encoding", "identity"),
    ("User-Agent", "heteroscale-agent"),
    ("Connection", "close"),
)

Judge = Callable[[h11.Response], None]


class ExchangeError(Exception):
    """There was no whole answer; the text says why, without the address."""


class TooLargeError(ExchangeError):
    """The answer is longer than it may be."""


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
    try:
        async with asyncio.timeout(deadline):
            reader, writer = await _connect(parts, tls, names)
            try:
                connection = h11.Connection(h11.CLIENT)
                writer.write(_request(connection, method, parts, headers, body))
                await writer.drain()
                return await _answer(connection, reader, limit, judge)
            finally:
                # Not close(): that would wait for what is still to be written.
                writer.transport.abort()
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


async def _connect(
    url: SplitResult, tls: ssl.SSLContext | None, names: Names
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host = url.hostname or ""
    secure = (tls or _system_tls()) if url.scheme == "https" else None
    port = url.port or (443 if secure else 80)
    error: OSError = OSError(f"no address of {host}")
    for address in await names.addresses(host):
        try:
            return await asyncio.open_connection(
                address,
                port,
                limit=_READ,
                ssl=secure,
                server_hostname=host if secure else None,
            )
        except OSError as failed:
            error = failed
    raise error


def _request(
    connection: h11.Connection,
    method: str,
    url: SplitResult,
    headers: Iterable[tuple[str, str]],
    body: bytes,
) -> bytes:
    user, _, host = url.netloc.rpartition("@")
    every = [("Host", host), *_HEADERS, *headers]
    if user:
        every.append(
            ("Authorization", f"Basic {base64.b64encode(unquote(user).encode()).decode()}")
        )
    if body or method in {"POST", "PUT", "PATCH"}:
        every.append(("Content-Length", str(len(body))))
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    events = [h11.Request(method=method, target=target, headers=every)]
    written = b"".join(connection.send(event) or b"" for event in events)
    if body:
        written += connection.send(h11.Data(data=body)) or b""
    return written + (connection.send(h11.EndOfMessage()) or b"")


async def _answer(
    connection: h11.Connection, reader: asyncio.StreamReader, limit: int, judge: Judge
) -> tuple[int, bytes]:
    status, body = 0, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ))
        elif isinstance(event, h11.Response):
            judge(event)
            _refuse_large(event, limit)
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > limit:
                raise TooLargeError(f"more than {limit} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return status, bytes(body)
        elif not isinstance(event, h11.InformationalResponse):
            raise ExchangeError("the connection was closed")


def _refuse_large(response: h11.Response, limit: int) -> None:
    for name, value in response.headers:
        # h11 has refused a length that is no number of at most 20 digits.
        if name == b"content-length" and int(value) > limit:
            raise TooLargeError(f"{int(value)} bytes announced")
