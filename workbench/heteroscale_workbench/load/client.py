"""Sends one request, follows its stream, and judges it.

Each request has a connection of its own: a kept-alive one that the server closes at the wrong moment
would look like a lost request, and a client that then tries again would hide one. Nothing is tried
twice here.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import aiohttp

from heteroscale_simulator.traffic.traces import Arrival
from heteroscale_workbench.load.sse import Ending, EventScanner

MAX_ERROR = 2048
HTTP_OK = 200


class FailureKind(StrEnum):
    """Why a request did not pass."""

    REFUSED = "refused"  # no connection
    STATUS = "status"  # an HTTP status other than 200
    CUT = "cut"  # the answer broke off
    WRONG = "wrong"  # it ended, but not as asked: tokens, finish reason or [DONE]
    TIMEOUT = "timeout"
    RETRIED = "retried"  # it reached a role twice, whatever came of it
    LOCAL = "local"  # the load generator's own limits, not the service


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that did not pass; ``at`` is when it left, in seconds from the start."""

    request_id: str
    at: float
    kind: FailureKind
    reason: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and what is demanded of answers."""

    url: str
    model: str = "simulated"
    timeout: float = 600.0
    connect_timeout: float = 10.0
    exact_events: bool = True
    """One event for each token, as engine-sim writes; real engines may put several into one."""


class RequestFailedError(Exception):
    """A request did not pass."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def session() -> aiohttp.ClientSession:
    """Return a session that opens a connection for each request and closes it afterwards."""
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    return aiohttp.ClientSession(connector=connector, auto_decompress=False, trust_env=False)


async def send(
    http: aiohttp.ClientSession,
    target: Target,
    request_id: str,
    arrival: Arrival,
    tokens_came: Callable[[int], None],
) -> None:
    """Send one request and follow it to its end.

    Args:
        http: from ``session``.
        target: where to.
        request_id: sent as X-Request-Id, which routers hand on to engines.
        arrival: how long it is.
        tokens_came: told how many events each read brought.

    Raises:
        RequestFailedError: it did not pass, and why.

    """
    scanner = EventScanner()
    try:
        async with (
            asyncio.timeout(target.timeout),
            http.post(
                f"{target.url}/v1/completions",
                data=_body(target.model, arrival),
                headers={"Content-Type": "application/json", "X-Request-Id": request_id},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=target.connect_timeout),
            ) as response,
        ):
            if response.status != HTTP_OK:
                text = (await response.content.read(MAX_ERROR)).decode("utf-8", "replace")
                raise RequestFailedError(FailureKind.STATUS, f"HTTP {response.status}: {text}")
            async for data in response.content.iter_any():
                events = scanner.feed(data)
                if events:
                    tokens_came(events)
    except aiohttp.ConnectionTimeoutError as error:
        reason = f"no connection within {target.connect_timeout:g} s"
        raise RequestFailedError(FailureKind.REFUSED, reason) from error
    except TimeoutError as error:
        raise RequestFailedError(
            FailureKind.TIMEOUT, f"no end after {target.timeout:g} s, {scanner.events} events"
        ) from error
    except aiohttp.ClientConnectorError as error:
        raise RequestFailedError(_connect_kind(error), str(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        reason = f"broke off after {scanner.events} events: {error or type(error).__name__}"
        raise RequestFailedError(FailureKind.CUT, reason) from error
    _judge(scanner.events, scanner.ending(), arrival.output_tokens, target)


def _judge(events: int, ending: Ending, expected: int, target: Target) -> None:
    if not ending.done:
        raise RequestFailedError(FailureKind.CUT, f"ended without [DONE] after {events} events")
    wrong: list[str] = []
    if ending.finish_reason is None:
        wrong.append("no finish reason")
    if ending.tokens != expected:
        wrong.append(f"usage counts {ending.tokens} tokens, not {expected}")
    carried = events - ending.without_token
    if target.exact_events and carried != expected:
        wrong.append(f"{carried} tokens streamed, not {expected}")
    if wrong:
        raise RequestFailedError(FailureKind.WRONG, "; ".join(wrong))


def _connect_kind(error: aiohttp.ClientConnectorError) -> FailureKind:
    ours = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS}
    return FailureKind.LOCAL if error.os_error.errno in ours else FailureKind.REFUSED


def _body(model: str, arrival: Arrival) -> bytes:
    return json.dumps(
        {
            "model": model,
            "prompt": _prompt(arrival.input_tokens),
            "max_tokens": arrival.output_tokens,
            "stream": True,
            "ignore_eos": True,
            "temperature": 0,
            "stream_options": {"include_usage": True},
        }
    ).encode()


@lru_cache(maxsize=256)
def _prompt(tokens: int) -> str:
    # Short common words: one token each for most tokenizers, and one each for engine-sim.
    return "the " * (tokens - 1) + "end"
