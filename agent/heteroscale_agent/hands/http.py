"""HTTP as the agent's hands speak it: JSON out and in; see `heteroscale_agent.exchange`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from heteroscale_agent.exchange import ExchangeError
from heteroscale_agent.exchange import exchange as exchange_bytes

if TYPE_CHECKING:
    import ssl

MAX_BODY_BYTES = 8 * 1024 * 1024
"""A router's list of ten thousand workers is about 4 MB."""
MAX_AT_ONCE = 64
"""Exchanges under way at the same time; more wait for their turn, and that counts."""


class HttpError(RuntimeError):
    """The exchange failed, or the answer is no use; the text says how, without the address."""


class Client:
    """What all exchanges of the agent's hands share: how many may be under way at once."""

    def __init__(self, at_once: int = MAX_AT_ONCE) -> None:
        self.turn = asyncio.Semaphore(at_once)


def client() -> Client:
    """Return a client for hosts of the cluster."""
    return Client()


async def exchange(
    http: Client,
    method: str,
    url: str,
    *,
    deadline: float,
    body: object = None,
    limit: int = MAX_BODY_BYTES,
    headers: Iterable[tuple[str, str]] = (),
    tls: ssl.SSLContext | None = None,
) -> tuple[int, bytes]:
    """Return status and body of one request that takes at most ``deadline`` seconds in all.

    ``headers`` may name another Content-Type. ``tls`` is used for https; default: the system's.

    Raises:
        HttpError: unreachable, too slow, or the body is longer than ``limit``.

    """
    told = b"" if body is None else json.dumps(body).encode()
    more = list(headers)
    if told and not any(name.lower() == "content-type" for name, _ in more):
        more.append(("Content-Type", "application/json"))
    try:
        async with asyncio.timeout(deadline), http.turn:
            return await exchange_bytes(
                method,
                url,
                deadline=deadline,
                limit=limit,
                headers=[("Accept", "*/*"), *more],
                body=told,
                tls=tls,
            )
    except TimeoutError:
        raise HttpError(f"no whole answer within {deadline:g} s") from None
    except ExchangeError as error:
        raise HttpError(str(error)) from error


def succeeded(status: int) -> bool:
    """Return whether an HTTP status says that it was done."""
    return status // 100 == 2  # noqa: PLR2004 - 2xx


def refused(status: int) -> bool:
    """Return whether an HTTP status says that the asker is wrong."""
    return status // 100 == 4  # noqa: PLR2004 - 4xx


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
