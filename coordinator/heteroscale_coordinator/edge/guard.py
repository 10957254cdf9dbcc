"""What every call of an operator passes through: a deadline, a size limit, failures in words."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import grpc
import grpc.aio
import structlog
from google.protobuf.message import Message

from heteroscale.channel import MAX_MESSAGE_BYTES

if TYPE_CHECKING:  # generic in the stubs only
    Context = grpc.aio.ServicerContext[Any, Any]
else:
    Context = grpc.aio.ServicerContext

DEADLINE_S = 15.0
"""The longest a call may take, whatever the client allows; watches are without end."""
MAX_DETAILS_BYTES = 4096
"""Of an error's text as it travels, percent-encoded in a header; HTTP/2 peers allow 8 KB of them."""
MAX_WORDS = 500

_S = TypeVar("_S")
_Q = TypeVar("_Q")
_M = TypeVar("_M", bound=Message)
Unary = Callable[[_S, _Q, Context], Awaitable[_M]]

log = structlog.get_logger("heteroscale.operator")


def guarded(method: Unary[_S, _Q, _M]) -> Unary[_S, _Q, _M]:
    """Give a unary method its deadline, its size limit and one way to fail."""

    @functools.wraps(method)
    async def call(servicer: _S, request: _Q, context: Context) -> _M:
        try:
            async with asyncio.timeout(DEADLINE_S):
                answer = await method(servicer, request, context)
        except TimeoutError:
            late = f"no answer within {DEADLINE_S:g} s: the coordinator is overloaded"
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, late)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            log.exception("call failed", method=method.__name__)
            words = f"{type(error).__name__}: {error}"
            await context.abort(grpc.StatusCode.INTERNAL, shortened(words.splitlines()))
        size = answer.ByteSize()
        if size > MAX_MESSAGE_BYTES:
            too_long = f"the answer has {size} bytes, more than {MAX_MESSAGE_BYTES}"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, too_long)
        return answer

    return call


def shortened(lines: list[str]) -> str:
    """Return the lines as one text that fits into a status, saying how many are left out."""
    room = MAX_DETAILS_BYTES - 100
    kept: list[str] = []
    for number, line in enumerate(lines):
        text = line[:MAX_WORDS]
        room -= len(quote(text, safe=" ")) + 3
        if room < 0:
            kept.append(f"… and {len(lines) - number} more")
            break
        kept.append(text)
    return "\n".join(kept)


def words(text: str) -> str:
    """Return what a person wrote as one printable line of bounded length."""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_WORDS]).strip()
