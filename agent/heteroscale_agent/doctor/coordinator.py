"""The way to the coordinator: name, port, TLS, health. Each step says why the next cannot be."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import grpc
import grpc.aio

from heteroscale.channel import ChannelError, open_channel, require_trust
from heteroscale_agent.doctor import certificates
from heteroscale_agent.doctor.finding import Case, Finding, note, ok, problem
from heteroscale_agent.doctor.state import kept_id

HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"
"""HealthCheckResponse with status SERVING; spelt out, so that the agent needs no library for it."""


def look(case: Case) -> Iterator[Finding]:
    """Yield one finding a step, up to the first that fails."""
    spec = case.spec
    if not case.configured:
        yield note("address", "no document was given", "name it: heteroscale doctor -c agent.yaml")
        return
    try:
        tls = spec.tls.files()
        require_trust(spec.coordinator, tls=tls.enabled, insecure=spec.insecure, verb="dialling")
        tls.read()
    except ChannelError as error:
        yield problem("trust", str(error), "the agent will not start with this")
        return
    yield _trust(case)
    host, _, port = spec.coordinator.rpartition(":")
    if spec.coordinator.startswith("unix:"):
        yield ok("address", spec.coordinator)
    elif not port.isdecimal() or not host:
        yield problem("address", f"{spec.coordinator!r} is no host:port", "mend `coordinator`")
        return
    else:
        steps = list(_reach(host.strip("[]"), int(port), case.deadline / 3))
        yield from steps
        if steps[-1].todo:
            return
        if tls.enabled:
            yield certificates.of_server(host.strip("[]"), int(port), tls, case.deadline / 3)
    yield asyncio.run(_health(case, case.deadline / 3))


def _trust(case: Case) -> Finding:
    tls = case.spec.tls.files()
    if tls.certificate is not None:
        return ok("trust", "mutual TLS")
    if tls.enabled:
        return note(
            "trust", "TLS; this agent shows no certificate", "mutual TLS tells agents apart"
        )
    if case.spec.insecure:
        return note("trust", "no TLS (`insecure`)", "anyone on the network can read and forge this")
    return ok("trust", "no TLS, on loopback")


def _reach(host: str, port: int, deadline: float) -> Iterator[Finding]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        todo = "mend `coordinator`, or the resolver (/etc/resolv.conf)"
        yield problem("name", f"{host} is not known: {error.strerror or error}", todo)
        return
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    yield ok("name", f"{host} is {', '.join(addresses[:4])}")
    errors: list[str] = []
    for address in addresses[:4]:
        try:
            with socket.create_connection((address, port), deadline / len(addresses[:4])):
                yield ok("port", f"{address} port {port} is open")
                return
        except OSError as error:
            errors.append(f"{address}: {error.strerror or error}")
    todo = (
        "start the coordinator (heteroscale coordinator), or open the way; engines go on without it"
    )
    yield problem("port", f"{port} cannot be reached: {'; '.join(errors)}", todo)


async def _health(case: Case, deadline: float) -> Finding:
    spec = case.spec
    async with open_channel(spec.coordinator, spec.tls.files(), insecure=spec.insecure) as opened:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = opened.unary_unary(HEALTH)
        try:
            answer = await call(b"", timeout=deadline)
        except grpc.aio.AioRpcError as error:
            said = f"{error.code().name}: {error.details()}"
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return problem("health", said, "something else listens there: mend `coordinator`")
            return problem("health", said, "see the coordinator's log")
    if answer == _SERVING:
        return ok("health", "the coordinator serves")
    return problem("health", "the coordinator does not serve", "see its /readyz, and its log")


def identity(case: Case) -> Iterator[Finding]:
    """Yield who this agent is to the coordinator, and how long its own certificate says so."""
    agent_id = case.spec.agent_id or kept_id(case.spec.state_dir)
    yield (
        ok("agent id", agent_id)
        if agent_id
        else note("agent id", "not drawn yet", "the first start draws one; or set `agentId`")
    )
    if case.spec.tls.certificate is not None and case.spec.tls.key is not None:
        yield from certificates.own(case.spec.tls.certificate, case.spec.tls.key, agent_id)
    if case.spec.cluster_id:
        yield ok("cluster id", f"{case.spec.cluster_id}: coordinators of another are refused")
