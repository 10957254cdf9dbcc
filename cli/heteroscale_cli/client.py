"""Calls to the coordinator: one channel, a deadline on every call, and failures in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio

from heteroscale.channel import ChannelError, TlsFiles, open_channel
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1.operator_pb2_grpc import OperatorServiceStub
from heteroscale_cli.connection import Connection
from heteroscale_cli.errors import EXIT_UNREACHABLE, CliError, usage

if TYPE_CHECKING:  # the stubs alone know this class
    from heteroscale.v1.operator_pb2_grpc import OperatorServiceAsyncStub

_R = TypeVar("_R")


class NotFoundError(CliError):
    """The coordinator does not know the name; callers may try another reading of it."""


class ExhaustedError(CliError):
    """A limit was met: an answer too large, a watch read too slowly, too many watches."""


class InvalidError(CliError):
    """The coordinator finds what was sent wrong; of a document, one violation on each line."""


@dataclass(frozen=True, slots=True)
class Client:
    """The coordinator's operator face, with deadlines and with errors a person can read."""

    stub: OperatorServiceAsyncStub
    connection: Connection

    async def call(self, method: Callable[..., Awaitable[_R]], request: object) -> _R:
        """Return the answer of one unary method of ``stub``.

        Raises:
            CliError: refused, unknown, unreachable or too late.

        """
        try:
            return await method(request, timeout=self.connection.timeout_s)
        except grpc.aio.AioRpcError as error:
            raise in_words(error, self.connection) from error

    async def watch(self, service: str) -> AsyncGenerator[pb.WatchResponse]:
        """Yield the present state, ``synced``, then changes, until the server ends the stream.

        Until ``synced`` each message has the deadline; after it silence is normal, and a dead
        coordinator is noticed by the channel's keepalive.
        """
        stream = self.stub.Watch(pb.WatchRequest(service=service))
        limit: float | None = self.connection.timeout_s
        try:
            while True:
                async with asyncio.timeout(limit):
                    response = await stream.read()
                # mypy-protobuf leaves the end of the stream out of the type of read().
                if not isinstance(response, pb.WatchResponse):
                    return
                if response.WhichOneof("event") == "synced":
                    limit = None
                yield response
        except TimeoutError as error:
            raise _late(self.connection) from error
        except grpc.aio.AioRpcError as error:
            raise in_words(error, self.connection) from error
        finally:
            stream.cancel()


@asynccontextmanager
async def connect(connection: Connection) -> AsyncIterator[Client]:
    """Open the channel for one command; nothing is dialled before the first call.

    Raises:
        CliError: the address and the TLS settings do not fit, or a PEM file is unreadable.

    """
    try:
        tls = TlsFiles(connection.ca, connection.cert, connection.key, connection.server_name)
        channel = open_channel(connection.coordinator, tls, insecure=connection.insecure)
    except ChannelError as error:
        raise usage(_as_options(str(error))) from error
    async with channel:
        yield Client(OperatorServiceStub(channel), connection)


def run(connection: Connection, work: Callable[[Client], Awaitable[_R]]) -> _R:
    """Connect, do ``work``, hang up: what most commands are."""

    async def whole() -> _R:
        async with connect(connection) as client:
            return await work(client)

    return asyncio.run(whole())


def in_words(error: grpc.aio.AioRpcError, connection: Connection) -> CliError:
    """Return the error as a person needs it: what happened, and what to do."""
    code, details = error.code(), error.details() or ""
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            result = _unreachable(connection, details)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            result = _late(connection)
        case grpc.StatusCode.NOT_FOUND:
            result = NotFoundError(details or "not found")
        case grpc.StatusCode.INVALID_ARGUMENT:
            result = InvalidError(details or "invalid")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            long = "; ask for less: name a service" if "larger than max" in details else ""
            result = ExhaustedError(f"{details}{long}")
        case grpc.StatusCode.UNIMPLEMENTED:
            result = CliError("this coordinator is too old for the command: upgrade it")
        case _:
            words = details or code.name.lower().replace("_", " ")
            fault = _NAMED_FAULTS.get(code)
            result = CliError(f"{fault}: {words}" if fault else words)
    return result


_NAMED_FAULTS = {
    grpc.StatusCode.UNAUTHENTICATED: "the coordinator does not know you (give --cert and --key)",
    grpc.StatusCode.PERMISSION_DENIED: "not allowed with this certificate",
    grpc.StatusCode.INTERNAL: "the coordinator failed (its log says more)",
    grpc.StatusCode.UNKNOWN: "the coordinator failed (its log says more)",
}


_TLS_WORDS = ("ssl", "certificate", "verification")
"""One of them is in what gRPC says when a handshake fails."""


_NO_ANSWER = ("connect", "socket", "recvmsg", "dns", "keepalive", "ping", "goaway", *_TLS_WORDS)
"""One of them is in what gRPC itself says; other words are the coordinator's own."""


def _unreachable(connection: Connection, details: str) -> CliError:
    if details and not any(word in details.lower() for word in _NO_ANSWER):
        return CliError(
            f"coordinator {connection.coordinator} is unavailable: {details}", EXIT_UNREACHABLE
        )
    where = f"coordinator {connection.coordinator} is unreachable"
    if any(word in details.lower() for word in _TLS_WORDS):
        hint = "TLS failed: check --ca, --cert and --key, and --server-name against its certificate"
    elif connection.ca is None and connection.cert is None:
        hint = "is it running? Name it with --coordinator; if it speaks TLS, give --ca"
    else:
        hint = "is it running, and with TLS? Name it with --coordinator"
    # gRPC repeats itself at length; the end of its last error says all.
    first = details.splitlines()[0] if details else "no details"
    cause = first.rpartition("last error: ")[2].rpartition(": ")[2]
    return CliError(f"{where}: {hint} ({cause})", EXIT_UNREACHABLE)


def _late(connection: Connection) -> CliError:
    return CliError(
        f"coordinator {connection.coordinator} did not answer within {connection.timeout_s:g}s: "
        "is it overloaded, or behind a firewall? Wait longer with --timeout",
        EXIT_UNREACHABLE,
    )


def _as_options(text: str) -> str:
    """Name the fields of a TLS complaint as this command line does."""
    return text.replace("`certificate`", "--cert").replace("`key`", "--key")
