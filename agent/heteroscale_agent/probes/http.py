"""One HTTP GET that nothing at the other end can make long, large or lead elsewhere.

A metrics endpoint is a stranger's program under load: it may hang, drip a byte a second, answer
with a login page or with gigabytes. Each of these ends in `FetchError` within the deadline. There
are no redirects, proxies, cookies or connections kept, and so h11 alone does what is needed, at a
seventh of the CPU time of a full client: this runs every second next to every engine.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import cache
from urllib.parse import SplitResult, urlsplit

import h11

MAX_BYTES = 8 * 1024 * 1024
"""A hundred times what the largest engine says."""

METRICS_TYPES = ("text/plain", "application/openmetrics-text")

_READ = 256 * 1024
_OK = 200
_HEADERS = (
    ("Accept", "text/plain; version=0.0.4"),
    # A compressed answer could unfold into any size; on loopback there is nothing to save.
    ("Accept-Encoding", "identity"),
    ("User-Agent", "heteroscale-agent"),
    ("Connection", "close"),
)


class FetchError(Exception):
    """There was no answer, or not in time."""


class ContentError(FetchError):
    """There was an answer, and it is not what was asked for."""


async def get_text(
    url: str,
    *,
    deadline: float,
    max_bytes: int = MAX_BYTES,
    content_types: tuple[str, ...] = METRICS_TYPES,
) -> str:
    """Return the body of `url` as text, read whole within `deadline` seconds.

    Raises:
        FetchError: nobody answered, or the answer was not whole in time, or no HTTP.
        ContentError: the answer is too large, of another type, not UTF-8, or no 200.

    """
    try:
        async with asyncio.timeout(deadline):
            body = await _exchange(_split(url), max_bytes, content_types)
    except TimeoutError:
        raise FetchError(f"no whole answer within {deadline:g} s") from None
    except (OSError, h11.ProtocolError, UnicodeError) as error:
        raise FetchError(f"{type(error).__name__}: {error}") from error
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ContentError(f"not UTF-8: {error.reason}") from error


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError as error:
        raise FetchError(f"{url!r} is no URL: {error}") from error
    if not known:
        raise FetchError(f"{url!r} is no http or https URL")
    return parts


async def _exchange(url: SplitResult, max_bytes: int, content_types: tuple[str, ...]) -> bytearray:
    tls = _tls() if url.scheme == "https" else None
    port = url.port or (443 if tls else 80)
    reader, writer = await asyncio.open_connection(url.hostname, port, ssl=tls, limit=_READ)
    try:
        connection = h11.Connection(h11.CLIENT)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = [("Host", url.netloc.rpartition("@")[2]), *_HEADERS]
        request = h11.Request(method="GET", target=target, headers=headers)
        head = connection.send(request) or b""
        writer.write(head + (connection.send(h11.EndOfMessage()) or b""))
        await writer.drain()
        return await _body(connection, reader, max_bytes, content_types)
    finally:
        # Not close(): that would wait for what is still to be written.
        writer.transport.abort()


async def _body(
    connection: h11.Connection,
    reader: asyncio.StreamReader,
    max_bytes: int,
    content_types: tuple[str, ...],
) -> bytearray:
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ))
        elif isinstance(event, h11.Response):
            _check(event, max_bytes, content_types)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > max_bytes:
                raise ContentError(f"more than {max_bytes} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return body
        elif not isinstance(event, h11.InformationalResponse):
            raise FetchError("the connection was closed")


def _check(response: h11.Response, max_bytes: int, content_types: tuple[str, ...]) -> None:
    """Refuse an answer by its head, before its body costs anything."""
    headers = {
        bytes(name).decode("latin-1"): value.decode("latin-1") for name, value in response.headers
    }
    if response.status_code != _OK:
        raise ContentError(f"HTTP status {response.status_code}")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind not in content_types:
        raise ContentError(f"content type {kind[:80]!r}")
    if headers.get("content-encoding", "identity") != "identity":
        raise ContentError("compressed answer")
    # h11 has refused a length that is no number of at most 20 digits.
    length = int(headers.get("content-length", "0"))
    if length > max_bytes:
        raise ContentError(f"{length} bytes announced")
