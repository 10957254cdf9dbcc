"""The doctor's word on the way to the coordinator, and on certificates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme

from heteroscale_agent.doctor import certificates, coordinator
from heteroscale_agent.doctor.finding import Finding, Level
from tests.agent.doctor_cases import case, free_port, levels

AGENT = "heteroscale-agent"


@asynccontextmanager
async def healthy(
    credentials: grpc.ServerCredentials | None = None, says: bytes = b"\x08\x01"
) -> AsyncIterator[int]:
    """Run a server that knows nothing but health."""

    async def check(_: bytes, __: Any) -> bytes:
        return says

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
    )
    address = "127.0.0.1:0"
    port = (
        server.add_secure_port(address, credentials)
        if credentials
        else server.add_insecure_port(address)
    )
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def reach(**fields: Any) -> dict[str, Finding]:
    one = case(**fields)
    found = await asyncio.to_thread(lambda: list(coordinator.look(one)))
    return {finding.check: finding for finding in found}


async def test_a_coordinator_on_loopback() -> None:
    async with healthy() as port:
        found = await reach(coordinator=f"127.0.0.1:{port}")
        assert {one.level for one in found.values()} == {Level.OK}
        assert list(found) == ["trust", "name", "port", "health"]
    async with healthy(says=b"\x08\x02") as port:
        assert (await reach(coordinator=f"127.0.0.1:{port}"))["health"].level is Level.PROBLEM


async def test_each_step_that_fails_is_the_last() -> None:
    found = await reach(coordinator="name.invalid:7070", insecure=True)
    assert (list(found), found["name"].level) == (["trust", "name"], Level.PROBLEM)
    found = await reach(coordinator=f"127.0.0.1:{free_port()}")
    assert (list(found), found["port"].level) == (["trust", "name", "port"], Level.PROBLEM)
    found = await reach(coordinator="127.0.0.1")
    assert found["address"].level is Level.PROBLEM
    found = await reach(coordinator="10.0.0.1:7070")
    assert "without TLS" in found["trust"].saw


class Papers:
    """An authority, a server's certificate, and one for an agent."""

    def __init__(self, folder: Path, **agent: Any) -> None:
        self.ca = trustme.CA()
        self.server = self.ca.issue_cert("127.0.0.1")
        own = self.ca.issue_cert("agent.example", **agent)
        self.tls = {name: str(folder / f"{name}.pem") for name in ("ca", "certificate", "key")}
        self.ca.cert_pem.write_to_path(self.tls["ca"])
        own.cert_chain_pems[0].write_to_path(self.tls["certificate"])
        own.private_key_pem.write_to_path(self.tls["key"])

    def credentials(self) -> grpc.ServerCredentials:
        chain = b"".join(pem.bytes() for pem in self.server.cert_chain_pems)
        pair = (self.server.private_key_pem.bytes(), chain)
        root = self.ca.cert_pem.bytes()
        return grpc.ssl_server_credentials([pair], root, require_client_auth=True)


async def test_mutual_tls_end_to_end(tmp_path: Path) -> None:
    papers = Papers(tmp_path, common_name="host-*", organization_unit_name=AGENT)
    async with healthy(papers.credentials()) as port:
        fields = {"coordinator": f"127.0.0.1:{port}", "tls": papers.tls, "agentId": "host-7"}
        found = await reach(**fields)
        assert {one.level for one in found.values()} == {Level.OK}, found
        assert "good for" in found["certificate"].saw
        assert {one.level for one in coordinator.identity(case(**fields))} == {Level.OK}
        stranger = tmp_path / "stranger.pem"
        trustme.CA().cert_pem.write_to_path(stranger)
        found = await reach(**{**fields, "tls": {**papers.tls, "ca": str(stranger)}})
        assert found["certificate"].level is Level.PROBLEM
        assert "certificate" in found["certificate"].saw
        wrong = {**papers.tls, "serverName": "other.example"}
        found = await reach(**{**fields, "tls": wrong})
        assert found["certificate"].level is Level.PROBLEM


@pytest.mark.parametrize(
    ("agent", "check", "says"),
    [
        ({"organization_unit_name": "heteroscale-operator"}, "own role", "heteroscale-operator"),
        ({"organization_unit_name": AGENT, "common_name": "other"}, "own name", "does not cover"),
        (
            {"not_after": datetime.now(UTC) - timedelta(days=1)},
            "own certificate",
            "expired",
        ),
    ],
)
def test_a_certificate_that_will_not_be_believed(
    tmp_path: Path, agent: dict[str, Any], check: str, says: str
) -> None:
    papers = Papers(tmp_path, **agent)
    found = certificates.own(Path(papers.tls["certificate"]), Path(papers.tls["key"]), "host-7")
    wrong = {one.check: one for one in found if one.level is Level.PROBLEM}
    assert says in wrong[check].saw


def test_a_certificate_that_soon_ends_and_a_key_of_another(tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(days=3)
    papers = Papers(tmp_path, organization_unit_name=AGENT, common_name="h", not_after=soon)
    pair = Path(papers.tls["certificate"]), Path(papers.tls["key"])
    assert levels(certificates.own(*pair, "h"))["own certificate"] is Level.NOTE
    papers.server.private_key_pem.write_to_path(papers.tls["key"])
    assert levels(certificates.own(*pair, "h")) == {"own certificate": Level.PROBLEM}
