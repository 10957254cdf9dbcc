"""HTTP as the agent speaks it: a deadline over the whole exchange, and a limit on what is read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

MAX_BODY_BYTES = 8 * 1024 * 1024
"""A router's list of ten thousand workers is about 4 MB."""


class HttpError(RuntimeError):
    """The exchange failed, or the answer is no use; the text says how, without the address."""


def client() -> httpx.AsyncClient:
    """Return a client for hosts of the cluster: no proxies, no redirects, few idle connections."""
    return httpx.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        limits=httpx.Limits(max_connections=64, max_keepalive_connections=8),
    )


async def exchange(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    deadline: float,
    body: object = None,
    limit: int = MAX_BODY_BYTES,
) -> tuple[int, bytes]:
    """Return status and body of one request that takes at most ``deadline`` seconds in all.

    Raises:
        HttpError: unreachable, too slow, or the body is longer than ``limit``.

    """
    try:
        async with asyncio.timeout(deadline):
            request = http.build_request(
                method, url, json=body if body is not None else None, timeout=deadline
            )
            response = await http.send(request, stream=True)
            try:
                return response.status_code, await _read(response, limit)
            finally:
                await response.aclose()
    except TimeoutError:
        raise HttpError(f"no answer in {deadline:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError) as error:
        raise HttpError(str(error) or type(error).__name__) from error


async def _read(response: httpx.Response, limit: int) -> bytes:
    parts = bytearray()
    async for part in response.aiter_bytes():
        parts += part
        if len(parts) > limit:
            raise HttpError(f"an answer longer than {limit} bytes")
    return bytes(parts)


def parse_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object of ``data``.

    Raises:
        HttpError: it is none.

    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise HttpError("the answer is no JSON") from None
    if not isinstance(value, dict):
        raise HttpError("the answer is no JSON object")
    return value
