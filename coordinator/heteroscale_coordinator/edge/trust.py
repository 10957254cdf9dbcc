"""Who may listen, and who may speak as what.

With a client CA every caller shows a certificate of it; its organisational unit says the role. An
agent is held to the agent ids that its common name covers, so that a stolen agent certificate
speaks for one host and is no operator. Without a client CA nobody can be told from anybody: that is
for loopback, for networks trusted as a whole, and said aloud at start.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from heteroscale.channel import ChannelError, read_pem, require_trust

OPERATOR_SERVICE = "/heteroscale.v1.OperatorService/"
_ATTRIBUTE = re.compile(r"(?:^|[,+])([^=,+\\]+)=((?:[^\\,+]|\\.)*)", re.DOTALL)


class CallerRole(StrEnum):
    """Organisational units of client certificates."""

    AGENT = "heteroscale-agent"
    OPERATOR = "heteroscale-operator"
    KEDA = "heteroscale-keda"
    """Reads counts, and nothing else."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Paths of PEM files. With ``client_ca`` it is mutual, and roles are checked."""

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ChannelError("tls: give both `certificate` and `key`, or neither")
        if self.client_ca is not None and self.certificate is None:
            raise ChannelError("tls: `clientCa` needs `certificate` and `key` too")

    @property
    def enabled(self) -> bool:
        """Whether the listener speaks TLS."""
        return self.certificate is not None

    @property
    def mutual(self) -> bool:
        """Whether callers must show a certificate."""
        return self.client_ca is not None


def listen(server: grpc.aio.Server, address: str, tls: ServerTls, *, insecure: bool) -> int:
    """Let ``server`` listen on ``host:port``; return the port.

    Raises:
        ChannelError: the address needs TLS, a PEM file cannot be used, or the port cannot be had.

    """
    require_trust(address, tls=tls.enabled, insecure=insecure, verb="listening on")
    try:
        if not tls.enabled:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, _credentials(tls))
    except RuntimeError as error:
        what = "address in use, or the TLS files do not fit" if tls.enabled else "address in use?"
        raise ChannelError(f"cannot listen on {address}: {what}") from error


def _credentials(tls: ServerTls) -> grpc.ServerCredentials:
    key, chain = read_pem(tls.key, "key"), read_pem(tls.certificate, "certificate")
    roots = read_pem(tls.client_ca, "clientCa")
    if key is None or chain is None:
        raise ChannelError("tls: `certificate` and `key` are missing")
    return grpc.ssl_server_credentials(
        [(key, chain)], root_certificates=roots, require_client_auth=roots is not None
    )


class Gatekeeper:
    """Says why a caller is refused; an empty text lets it in."""

    def __init__(self, *, mutual: bool) -> None:
        self._mutual = mutual

    def refuse(self, context: grpc.aio.ServicerContext[Any, Any], role: CallerRole) -> str:
        """Return why the caller may not act as ``role``."""
        if not self._mutual:
            return ""
        subject = _property(context, "x509_subject")
        if role in units_of(subject):
            return ""
        return f"certificate {subject!r} has no organisational unit {role}"

    def refuse_agent(self, context: grpc.aio.ServicerContext[Any, Any], agent_id: str) -> str:
        """Return why the caller may not speak for ``agent_id``."""
        if not self._mutual:
            return ""
        name = _property(context, "x509_common_name")
        if name and fnmatchcase(agent_id, name):
            return ""
        return f"certificate of {name!r} does not cover agent {agent_id!r}"

    def refuse_claim(self, agent_id: str, within: str) -> str:
        """Return why an agent may not stand for a job within ``<cluster>/<node>``.

        Else the certificate of any host would do to take the launch, and the traffic, of any job.
        """
        cluster = within.partition("/")[0]
        if not self._mutual or agent_id.startswith(f"{cluster}."):
            return ""
        return (
            f"agent {agent_id!r} may not stand for jobs of {cluster!r}: its id, and the common name of "
            f"its certificate, must begin with '{cluster}.'"
        )


def units_of(subject: str) -> frozenset[str]:
    """Return the organisational units of an RFC 2253 name, as they are escaped there."""
    return frozenset(
        match[2] for match in _ATTRIBUTE.finditer(subject) if match[1].strip().upper() == "OU"
    )


def _property(context: grpc.aio.ServicerContext[Any, Any], key: str) -> str:
    values = list(context.auth_context().get(key) or ())
    return values[0].decode("utf-8", "replace") if values else ""


class OperatorsOnly(grpc.aio.ServerInterceptor):
    """Lets only operators call the OperatorService, so that its servicer need not ask."""

    def __init__(self, gatekeeper: Gatekeeper) -> None:
        self._gatekeeper = gatekeeper

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handlers of that service, and hand out the others as they are."""
        handler = await continuation(handler_call_details)
        if handler is None or not str(handler_call_details.method).startswith(OPERATOR_SERVICE):
            return handler
        codec = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._one(handler.unary_unary), *codec)
        streaming = handler.unary_stream
        guard = self._many if inspect.isasyncgenfunction(streaming) else self._one
        return grpc.unary_stream_rpc_method_handler(guard(streaming), *codec)

    def _one(self, call: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        async def guarded(request: Any, context: Any) -> Any:
            await self._check(context)
            return await call(request, context)

        return guarded

    def _many(self, call: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._check(context)
            async for response in call(request, context):
                yield response

        return guarded

    async def _check(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if why := self._gatekeeper.refuse(context, CallerRole.OPERATOR):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, why)
