"""The gate of a real HAProxy, with requests flowing while instances come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heteroscale.words import Role
from heteroscale_agent.config.gates import Haproxy, Upstream
from heteroscale_agent.hands.gates.haproxy_socket import HaproxySocketGate
from heteroscale_agent.hands.gates.port import Member
from heteroscale_agent.hands.gates.upstream_file import UpstreamFileGate
from heteroscale_agent.model import Gate
from tests.agent.proxies import (
    HAPROXY,
    Proxy,
    agreed,
    come_and_go,
    engines,
    member_of,
    needs_haproxy,
    until,
)


class HaProxy(Proxy):
    """A real HAProxy with a stats socket and one backend."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.socket = folder / "admin.sock"
        self.servers = folder / "chat.cfg"
        self.pid_file = folder / "haproxy.pid"
        self.config = folder / "haproxy.cfg"
        self.header = (
            "backend chat",
            "  balance roundrobin",
            "  default-server inter 100ms rise 1 fall 2",
        )
        self.config.write_text(
            f"global\n  stats socket {self.socket} level admin expose-fd listeners\n"
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n"
            "  timeout server 30s\n"
            f"frontend front\n  bind 127.0.0.1:{self.port}\n  default_backend chat\n"
        )
        self.command = (str(HAPROXY), "-f", str(self.config), "-f", str(self.servers))

    @property
    def upstream(self) -> Upstream:
        return Upstream(
            path=self.servers,
            format="haproxy",
            header=self.header,
            check=(*self.command, "-c", "-q"),
            reload=("sh", "-c", f"kill -USR2 $(cat {self.pid_file})"),
            pid_file=self.pid_file,
        )

    async def serve(self) -> None:
        await self.start(*self.command, "-W", "-p", str(self.pid_file))


@pytest.fixture
async def haproxy(tmp_path: Path) -> AsyncIterator[HaProxy]:
    proxy = HaProxy(tmp_path)
    proxy.servers.write_text("".join(f"{line}\n" for line in proxy.header))
    await proxy.serve()
    yield proxy
    proxy.stop()


CHAT = Gate("upstream-file", options={"upstream": "chat"})
WEB = Gate("haproxy-socket", options={"haproxy": "web"})


@needs_haproxy
@pytest.mark.process
async def test_haproxy_loses_no_request_when_its_file_is_reloaded(haproxy: HaProxy) -> None:
    gate = UpstreamFileGate({"chat": haproxy.upstream})
    await come_and_go(gate, CHAT, haproxy.url)
    await gate.close()


@needs_haproxy
@pytest.mark.process
async def test_haproxy_loses_no_request_over_its_socket(haproxy: HaProxy) -> None:
    gate = HaproxySocketGate({"web": Haproxy(sockets=(str(haproxy.socket),), backend="chat")})
    await come_and_go(gate, WEB, haproxy.url)
    await gate.close()


@needs_haproxy
@pytest.mark.process
@pytest.mark.parametrize("closed", ["drain", "maint"])
async def test_haproxy_server_of_its_own_file_is_steered_and_heals(
    haproxy: HaProxy, closed: str
) -> None:
    proxy = Haproxy.model_validate(
        {"sockets": [str(haproxy.socket)], "backend": "chat", "closed": closed}
    )
    gate = HaproxySocketGate({"web": proxy})
    async with engines(1) as (one,):
        member = member_of(one, WEB, "i1")
        files = UpstreamFileGate({"chat": haproxy.upstream})
        await agreed(files, member_of(one, CHAT, "i1"), wanted_in=True)
        await agreed(gate, member, wanted_in=True)
        await agreed(gate, member, wanted_in=False)
        # A restart forgets what it was told: the next pass sees it, and tells it again.
        haproxy.stop()
        assert (await gate.reconcile(member, wanted_in=False)).places == {proxy.sockets[0]: None}
        await haproxy.serve()
        assert not (await gate.reconcile(member, wanted_in=False)).all_out
        await agreed(gate, member, wanted_in=False)
        await files.close()


@needs_haproxy
@pytest.mark.process
async def test_what_haproxy_itself_holds_down_is_not_in(haproxy: HaProxy) -> None:
    gate = HaproxySocketGate({"web": Haproxy(sockets=(str(haproxy.socket),), backend="chat")})
    async with engines(1) as (one,):
        member = member_of(one, WEB, "i1")
        await agreed(gate, member, wanted_in=True)
        await one.stop()

        async def down() -> bool:
            return bool((await gate.reconcile(member, wanted_in=True)).kept_out_by)

        await until(down)
        assert "holds it down" in (await gate.reconcile(member, wanted_in=True)).message


@needs_haproxy
@pytest.mark.process
async def test_haproxy_without_such_a_backend_is_unknown(haproxy: HaProxy) -> None:
    gate = HaproxySocketGate({"web": Haproxy(sockets=(str(haproxy.socket),), backend="other")})
    async with engines(1) as (one,):
        view = await gate.reconcile(member_of(one, WEB, "i1"), wanted_in=False)
        assert list(view.places.values()) == [None]
        assert "Can't find backend" in view.message


STATE = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port\n"
    "3 chat 1 gpu1 {address} 2 0 8000\n\n"
)


@pytest.mark.parametrize(
    ("endpoint", "address", "out"),
    [
        ("http://localhost:8000", "127.0.0.1", False),
        ("http://[0:0::1]:8000", "::1", False),
        ("http://10.0.0.7:8000", "::ffff:10.0.0.7", False),
        ("http://10.0.0.7:8000", "10.0.0.8", True),
    ],
)
async def test_haproxy_server_of_another_spelling_is_not_out(
    tmp_path: Path, endpoint: str, address: str, *, out: bool
) -> None:
    async def says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readline()).startswith(b"show"):
            writer.write(STATE.format(address=address).encode())
        writer.close()

    server = await asyncio.start_unix_server(says, tmp_path / "admin.sock")
    gate = HaproxySocketGate(
        {"web": Haproxy(sockets=(str(tmp_path / "admin.sock"),), backend="chat")}
    )
    member = Member("i1", "chat", Role.DECODE, endpoint, None, WEB)
    async with server:
        assert (await gate.reconcile(member, wanted_in=False)).all_out is out


async def test_haproxy_of_an_endpoint_nobody_knows_the_address_of_is_unknown(
    tmp_path: Path,
) -> None:
    gate = HaproxySocketGate({"web": Haproxy(sockets=(str(tmp_path / "none"),), backend="chat")})
    member = Member("i1", "chat", Role.DECODE, "http://no.such.invalid:8000", None, WEB)
    view = await gate.reconcile(member, wanted_in=False)
    assert list(view.places.values()) == [None]
