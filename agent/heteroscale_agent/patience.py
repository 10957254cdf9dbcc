"""How long a link waits, how it backs off, and what it says meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc.aio
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from heteroscale.channel import ChannelError
from heteroscale_agent.serverclock import LinkError

log = structlog.get_logger("link")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a link waits for this and that."""

    welcome: float = 15.0
    """A coordinator may queue a hello (admission); later than this the agent tries again."""
    first_backoff: float = 0.5
    max_backoff: float = 30.0
    """Reconnecting agents spread over so many seconds."""
    pause: float = 1.0
    """After a session that had lived, at most."""


PATIENCE = Patience()


def until(connected: asyncio.Event, patience: Patience) -> AsyncRetrying:
    """Return a retry that backs off until a session has lived; after that backoff starts anew."""
    return AsyncRetrying(
        retry=retry_if_exception_type(Exception),
        stop=lambda _: connected.is_set(),
        wait=wait_random_exponential(multiplier=patience.first_backoff, max=patience.max_backoff),
        before_sleep=_say,
        reraise=True,
    )


def _say(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0.0
    log.warning("not connected", next_try_s=round(wait, 1), **said(error))


def said(error: BaseException | None) -> dict[str, Any]:
    """Return what to log of an error: expected ones in words, others with their trace."""
    if isinstance(error, grpc.aio.AioRpcError):
        return {"error": f"{error.code().name}: {error.details()}"}
    if isinstance(error, LinkError | ChannelError):
        return {"error": str(error)}
    return {"error": repr(error), "exc_info": error}
