"""One HTTP GET that nothing at the other end can make long, large or lead elsewhere.

A metrics endpoint is a stranger's program under load: it may hang, drip a byte a second, answer
with a login page or with gigabytes. Each of these ends in `FetchError` within the deadline.
"""

from __future__ import annotations

import asyncio

import httpx

MAX_BYTES = 8 * 1024 * 1024
"""A hundred times what the largest engine says."""

METRICS_TYPES = ("text/plain", "application/openmetrics-text")

_HEADERS = {
    "Accept": "text/plain; version=0.0.4",
    # A compressed answer could unfold into any size; on loopback there is nothing to save.
    "Accept-Encoding": "identity",
    "User-Agent": "heteroscale-agent",
}

_KEEP_ALIVE = 2.5
"""Seconds an idle connection is kept: less than the 5 s after which uvicorn closes it on us."""


class FetchError(Exception):
    """There was no answer, or not in time."""


class ContentError(FetchError):
    """There was an answer, and it is not what was asked for."""


def new_client() -> httpx.AsyncClient:
    """Return a client for `get_text`: no proxies from the environment, no redirects, no cookies."""
    return httpx.AsyncClient(
        headers=_HEADERS,
        follow_redirects=False,
        trust_env=False,
        # Deadlines are for the whole exchange and are kept by get_text.
        timeout=None,  # noqa: S113
        limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEP_ALIVE),
    )


async def get_text(
    client: httpx.AsyncClient,
    url: str,
    *,
    deadline: float,
    max_bytes: int = MAX_BYTES,
    content_types: tuple[str, ...] = METRICS_TYPES,
) -> str:
    """Return the body of `url` as text, read whole within `deadline` seconds.

    Raises:
        FetchError: nobody answered, or the answer was not whole in time.
        ContentError: the answer is too large, of another type, not UTF-8, or no 200.

    """
    try:
        async with asyncio.timeout(deadline), client.stream("GET", url) as response:
            _check(response, max_bytes, content_types)
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > max_bytes:
                    raise ContentError(f"more than {max_bytes} bytes")
    except TimeoutError:
        raise FetchError(f"no whole answer within {deadline:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise FetchError(f"{type(error).__name__}: {error}") from error
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ContentError(f"not UTF-8: {error.reason}") from error


def _check(response: httpx.Response, max_bytes: int, content_types: tuple[str, ...]) -> None:
    """Refuse an answer by its head, before its body costs anything."""
    headers = response.headers
    if response.status_code != httpx.codes.OK:
        raise ContentError(f"HTTP status {response.status_code}")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind not in content_types:
        raise ContentError(f"content type {kind[:80]!r}")
    if headers.get("content-encoding", "identity") != "identity":
        raise ContentError("compressed answer")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise ContentError(f"{length[:20]} bytes announced")
