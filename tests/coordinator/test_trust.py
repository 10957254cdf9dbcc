"""TLS, mutual TLS and roles, on real handshakes with certificates made for the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme

from heteroscale.channel import ChannelError, TlsFiles, open_channel
from heteroscale.v1 import agent_pb2, operator_pb2
from heteroscale.v1.operator_pb2_grpc import OperatorServiceStub
from heteroscale_coordinator.edge.trust import ServerTls, listen, units_of
from tests.coordinator.face import CONNECT, Client, Face, face, hello

CODE = grpc.StatusCode


@dataclass(frozen=True)
class Authority:
    """A CA in a folder, and what it signs."""

    ca: trustme.CA
    folder: Path

    def ca_file(self) -> Path:
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(path)
        return path

    def issue(self, file: str, name: str = "", unit: str = "") -> tuple[Path, Path]:
        """Return certificate and key for a client of ``name`` and organisational ``unit``."""
        made = self.ca.issue_cert(
            "127.0.0.1", common_name=name or None, organization_unit_name=unit or None
        )
        certificate, key = self.folder / f"{file}.pem", self.folder / f"{file}.key"
        for number, blob in enumerate(made.cert_chain_pems):
            blob.write_to_path(certificate, append=number > 0)
        made.private_key_pem.write_to_path(key)
        return certificate, key

    def server(self, *, mutual: bool) -> ServerTls:
        certificate, key = self.issue("server")
        return ServerTls(certificate, key, self.ca_file() if mutual else None)

    def client(self, name: str = "", unit: str = "") -> TlsFiles:
        if not unit:
            return TlsFiles(ca=self.ca_file())
        return TlsFiles(self.ca_file(), *self.issue("client", name, unit))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(trustme.CA(), tmp_path)


async def listing(_request: Any, _context: Any) -> operator_pb2.ListServicesResponse:
    return operator_pb2.ListServicesResponse()


async def writing(_request: Any, context: Any) -> None:
    await context.write(operator_pb2.WatchResponse(synced=True))


async def yielding(_request: Any, _context: Any) -> AsyncIterator[operator_pb2.WatchResponse]:
    yield operator_pb2.WatchResponse(synced=True)


def operators(watch: Callable[..., Any]) -> Callable[[grpc.aio.Server], None]:
    """Return what adds two calls of the OperatorService, one of each kind of streaming."""
    methods: dict[str, Any] = {
        "ListServices": grpc.unary_unary_rpc_method_handler(
            listing,
            operator_pb2.ListServicesRequest.FromString,
            operator_pb2.ListServicesResponse.SerializeToString,
        ),
        "Watch": grpc.unary_stream_rpc_method_handler(
            watch,
            operator_pb2.WatchRequest.FromString,
            operator_pb2.WatchResponse.SerializeToString,
        ),
    }
    handler = grpc.method_handlers_generic_handler("heteroscale.v1.OperatorService", methods)
    return lambda server: server.add_generic_rpc_handlers((handler,))


async def greet(it: Face, tls: TlsFiles, agent_id: str = "a1", **fields: Any) -> tuple[CODE, str]:
    """Say hello over TLS; return OK, or how the stream ended."""
    async with open_channel(it.address, tls) as channel:
        client = Client(channel.stream_stream(CONNECT)())
        try:
            await client.send(hello=hello(agent_id, **fields))
            await client.read()
        except (grpc.aio.AioRpcError, AssertionError):
            return await client.status()
        client.call.cancel()
        return CODE.OK, ""


async def test_a_server_certificate_is_checked_against_the_ca(authority: Authority) -> None:
    async with face(tls=authority.server(mutual=False)) as it:
        assert await greet(it, authority.client()) == (CODE.OK, "")
        stranger = authority.folder / "stranger.pem"
        trustme.CA().cert_pem.write_to_path(stranger)
        assert (await greet(it, TlsFiles(ca=stranger)))[0] is CODE.UNAVAILABLE
        assert (await greet(it, TlsFiles()))[0] is CODE.UNAVAILABLE, "plain text is not answered"


async def test_a_mutual_listener_answers_nobody_without_a_certificate_of_its_ca(
    authority: Authority,
) -> None:
    async with face(tls=authority.server(mutual=True)) as it:
        assert (await greet(it, authority.client()))[0] is CODE.UNAVAILABLE
        other = Authority(trustme.CA(), authority.folder)
        certificate, key = other.issue("other", "a1", "heteroscale-agent")
        foreign = TlsFiles(authority.ca_file(), certificate, key)
        assert (await greet(it, foreign))[0] is CODE.UNAVAILABLE


@pytest.mark.parametrize(
    ("name", "unit", "agent_id", "outcome"),
    [
        ("a1", "heteroscale-agent", "a1", (CODE.OK, "")),
        ("rack7-*", "heteroscale-agent", "rack7-h03", (CODE.OK, "")),
        ("*", "heteroscale-agent", "anything", (CODE.OK, "")),
        ("a1", "heteroscale-agent", "a2", (CODE.PERMISSION_DENIED, "does not cover agent 'a2'")),
        ("rack7-*", "heteroscale-agent", "rack8-h1", (CODE.PERMISSION_DENIED, "does not cover")),
        ("a1", "heteroscale-operator", "a1", (CODE.PERMISSION_DENIED, "organisational unit")),
        ("a1", "heteroscale-agents", "a1", (CODE.PERMISSION_DENIED, "organisational unit")),
        (
            "a1,OU=heteroscale-agent",
            "guests",
            "a1",
            (CODE.PERMISSION_DENIED, "organisational unit"),
        ),
    ],
)
async def test_an_agents_certificate_says_its_role_and_covers_its_id(
    authority: Authority, name: str, unit: str, agent_id: str, outcome: tuple[CODE, str]
) -> None:
    code, words = outcome
    async with face(tls=authority.server(mutual=True)) as it:
        got, text = await greet(it, authority.client(name, unit), agent_id)
        assert got is code, text
        assert words in text
        assert len(it.sessions) <= 1


@pytest.mark.parametrize(
    ("name", "agent_id", "outcome"),
    [
        ("hpc.job-*", "hpc.job-7-0", (CODE.OK, "")),
        ("west.job-*", "hpc.job-7-0", (CODE.PERMISSION_DENIED, "does not cover")),
        ("west.job-*", "west.job-7-0", (CODE.PERMISSION_DENIED, "must begin with 'hpc.'")),
        ("gpu-host-3", "gpu-host-3", (CODE.PERMISSION_DENIED, "must begin with 'hpc.'")),
    ],
)
async def test_an_agent_stands_for_jobs_of_its_own_cluster_alone(
    authority: Authority, name: str, agent_id: str, outcome: tuple[CODE, str]
) -> None:
    claim = agent_pb2.StandsFor(instance_id="i1", within="hpc/n0")
    code, words = outcome
    async with face(tls=authority.server(mutual=True)) as it:
        tls = authority.client(name, "heteroscale-agent")
        got, text = await greet(it, tls, agent_id, stands_for=claim)
        assert got is code, text
        assert words in text


@pytest.mark.parametrize("watch", [writing, yielding])
@pytest.mark.parametrize(
    ("unit", "code"),
    [("heteroscale-operator", CODE.OK), ("heteroscale-agent", CODE.PERMISSION_DENIED)],
)
async def test_only_operators_call_the_operator_service(
    authority: Authority, watch: Callable[..., Any], unit: str, code: CODE
) -> None:
    async with (
        face(tls=authority.server(mutual=True), extra=operators(watch)) as it,
        open_channel(it.address, authority.client("ada", unit)) as channel,
    ):
        stub = OperatorServiceStub(channel)
        listed = stub.ListServices(operator_pb2.ListServicesRequest(), timeout=10)
        assert await listed.code() is code
        watched = stub.Watch(operator_pb2.WatchRequest(), timeout=10)
        if code is CODE.OK:
            assert [message.synced async for message in watched] == [True]
        assert await watched.code() is code


async def test_without_a_client_ca_roles_are_not_asked_for() -> None:
    async with (
        face(extra=operators(writing)) as it,
        grpc.aio.insecure_channel(it.address) as channel,
    ):
        stub = OperatorServiceStub(channel)
        assert not (await stub.ListServices(operator_pb2.ListServicesRequest())).services


async def test_beyond_loopback_nothing_listens_without_tls_unless_it_is_said_aloud() -> None:
    server = grpc.aio.server()
    with pytest.raises(ChannelError, match="--insecure"):
        listen(server, "0.0.0.0:0", ServerTls(), insecure=False)
    assert listen(server, "0.0.0.0:0", ServerTls(), insecure=True) > 0
    await server.stop(0)


async def test_beyond_loopback_tls_needs_no_word(authority: Authority) -> None:
    server = grpc.aio.server()
    assert listen(server, "0.0.0.0:0", authority.server(mutual=True), insecure=False) > 0
    await server.stop(0)


async def test_what_is_wrong_with_the_files_is_said(authority: Authority) -> None:
    server = grpc.aio.server()
    certificate, key = authority.issue("server")
    with pytest.raises(ChannelError, match="both `certificate` and `key`"):
        ServerTls(certificate)
    with pytest.raises(ChannelError, match="`clientCa` needs"):
        ServerTls(client_ca=certificate)
    missing = ServerTls(certificate, authority.folder / "nowhere.key")
    with pytest.raises(ChannelError, match=r"tls key .*nowhere\.key: No such file"):
        listen(server, "127.0.0.1:0", missing, insecure=False)
    with pytest.raises(ChannelError, match="cannot listen on"):
        listen(server, "127.0.0.1:0", ServerTls(key, certificate), insecure=False)
    await server.stop(0)


async def test_a_port_in_use_is_not_shared() -> None:
    async with face() as it:
        second = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        with pytest.raises(ChannelError, match="address in use"):
            listen(second, it.address, ServerTls(), insecure=False)
        await second.stop(0)


@pytest.mark.parametrize(
    ("subject", "units"),
    [
        ("CN=a,OU=x,O=y", {"x"}),
        ("OU=x+OU=y,CN=a", {"x", "y"}),
        (r"CN=a\,OU=x,O=y", set()),
        (r"CN=a\\,OU=x", {"x"}),
        (r"CN=a\+OU=x", set()),
        ("", set()),
        ("O=OU=x", set()),
        (r"OU=x\,y", {r"x\,y"}),
    ],
)
def test_units_are_read_past_escapes(subject: str, units: set[str]) -> None:
    assert units_of(subject) == units
