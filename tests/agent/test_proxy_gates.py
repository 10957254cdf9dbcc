"""Gates of real nginx and HAProxy, with requests flowing while instances come and go."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from heteroscale.words import Role
from heteroscale_agent.config.gates import Haproxy, Upstream
from heteroscale_agent.hands.gates.haproxy_socket import HaproxySocketGate
from heteroscale_agent.hands.gates.port import GateKind, Member, View
from heteroscale_agent.hands.gates.upstream_file import NOBODY, UpstreamFileGate
from heteroscale_agent.model import Gate
from tests.agent.proxies import HAPROXY, NGINX, Engine, Proxy, Traffic, until

needs_nginx = pytest.mark.skipif(NGINX is None, reason="needs nginx")
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="needs haproxy")


def member_of(engine: Engine, gate: Gate, name: str) -> Member:
    return Member(name, "chat", Role.DECODE, engine.endpoint, None, gate)


async def agreed(gate: GateKind, member: Member, *, wanted_in: bool) -> View:
    """Pass again and again until the proxy was seen to agree."""
    last = View({"never": None})

    async def agrees() -> bool:
        nonlocal last
        last = await gate.reconcile(member, wanted_in=wanted_in)
        return last.all_in if wanted_in else last.all_out

    try:
        await until(agrees)
    except TimeoutError:
        raise AssertionError(f"no agreement: {last}") from None
    return last


@asynccontextmanager
async def engines(count: int) -> AsyncIterator[list[Engine]]:
    async with AsyncExitStack() as stack:
        made = [Engine() for _ in range(count)]
        for engine in made:
            await engine.start()
            stack.push_async_callback(engine.stop)
        yield made


async def _come_and_go(gate: GateKind, options: Gate, url: str) -> None:
    """In, in, out, stopped; back, and the other out: no request fails, none goes astray."""
    traffic = Traffic(url)
    async with engines(2) as (one, two):
        first, second = member_of(one, options, "i1"), member_of(two, options, "i2")
        await agreed(gate, first, wanted_in=True)
        async with traffic.flowing():
            await agreed(gate, second, wanted_in=True)
            assert set(await traffic.more(60)) == {str(one.port), str(two.port)}
            await agreed(gate, first, wanted_in=False)
            # What was on its way when the gate closed still arrives.
            await traffic.settled()
            answered = one.answered
            assert set(await traffic.more(60)) == {str(two.port)}
            assert one.answered == answered
            await agreed(gate, first, wanted_in=True)
            assert set(await traffic.more(60)) == {str(one.port), str(two.port)}
            await agreed(gate, second, wanted_in=False)
            await traffic.settled()
            await two.stop()
            assert set(await traffic.more(60)) == {str(one.port)}
        assert traffic.failures == []


# ---- nginx ----


class Nginx(Proxy):
    """A real nginx with one upstream that includes the gate's file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.servers = folder / "chat.conf"
        self.pid_file = folder / "nginx.pid"
        self.config = folder / "nginx.conf"
        self.config.write_text(
            f"daemon off; user root; worker_processes 2; pid {self.pid_file};\n"
            f"error_log {folder}/error.log; events {{}}\n"
            f"http {{ access_log off; client_body_temp_path {folder}/body;\n"
            f"proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;\n"
            f"uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n"
            f"upstream chat {{ include {self.servers}; }}\n"
            f"server {{ listen 127.0.0.1:{self.port};\n"
            f"location / {{ proxy_next_upstream off; proxy_pass http://chat; }} }} }}\n"
        )
        self.command = (str(NGINX), "-e", str(folder / "error.log"), "-c", str(self.config))
        self.servers.write_text("server 127.0.0.1:1 down;\n")

    @property
    def upstream(self) -> Upstream:
        return Upstream(
            path=self.servers,
            check=(*self.command, "-t"),
            reload=(*self.command, "-s", "reload"),
            pid_file=self.pid_file,
        )

    async def serve(self) -> None:
        await self.start(*self.command)


@pytest.fixture
async def nginx(tmp_path: Path) -> AsyncIterator[Nginx]:
    proxy = Nginx(tmp_path)
    await proxy.serve()
    yield proxy
    proxy.stop()


CHAT = Gate("upstream-file", options={"upstream": "chat"})


@needs_nginx
@pytest.mark.process
async def test_nginx_loses_no_request_while_instances_come_and_go(nginx: Nginx) -> None:
    gate = UpstreamFileGate({"chat": nginx.upstream})
    await _come_and_go(gate, CHAT, nginx.url)
    await gate.close()


@needs_nginx
@pytest.mark.process
async def test_nginx_with_nobody_in_still_has_a_valid_file(nginx: Nginx) -> None:
    nginx.servers.write_text("")
    gate = UpstreamFileGate({"chat": nginx.upstream})
    async with engines(1) as (one,):
        await agreed(gate, member_of(one, CHAT, "i1"), wanted_in=False)
        assert nginx.servers.read_text() == f"server 127.0.0.1:1 down; {NOBODY}\n"
        await agreed(gate, member_of(one, CHAT, "i1"), wanted_in=True)
        assert NOBODY not in nginx.servers.read_text()
    await gate.close()


@needs_nginx
@pytest.mark.process
async def test_a_reload_that_nginx_did_not_carry_out_confirms_nothing(nginx: Nginx) -> None:
    gate = UpstreamFileGate({"chat": nginx.upstream})
    async with engines(1) as (one,):
        member = member_of(one, CHAT, "i1")
        await agreed(gate, member, wanted_in=True)
        good = nginx.config.read_text()
        nginx.config.write_text(good + "nonsense;\n")
        await gate.reconcile(member, wanted_in=False)
        view = await gate.reconcile(member, wanted_in=False)
        assert not view.all_out
        assert "nonsense" in view.message
        # Passed over the check, nginx is asked all the same, and goes on as it was: said, not taken.
        hasty = UpstreamFileGate(
            {"chat": nginx.upstream.model_copy(update={"check": (), "timeout": 2.0})}
        )
        nginx.config.write_text(good.replace("listen 127", "listen 999.127"))
        view = await hasty.reconcile(member, wanted_in=False)
        for _ in range(2):
            view = await hasty.reconcile(member, wanted_in=False)
            assert view.places == {str(nginx.servers): None}
        assert view.message
        nginx.config.write_text(good)
        await agreed(hasty, member, wanted_in=False)
        await hasty.close()
    await gate.close()


@needs_nginx
@pytest.mark.process
async def test_an_nginx_that_is_gone_confirms_nothing(nginx: Nginx) -> None:
    gate = UpstreamFileGate({"chat": nginx.upstream})
    async with engines(1) as (one,):
        member = member_of(one, CHAT, "i1")
        await agreed(gate, member, wanted_in=True)
        nginx.stop()
        assert not (await gate.reconcile(member, wanted_in=True)).all_in
        assert not (await gate.reconcile(member, wanted_in=False)).all_out
        await nginx.serve()
        await agreed(gate, member, wanted_in=False)
    await gate.close()


# ---- HAProxy ----


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


WEB = Gate("haproxy-socket", options={"haproxy": "web"})


@needs_haproxy
@pytest.mark.process
async def test_haproxy_loses_no_request_when_its_file_is_reloaded(haproxy: HaProxy) -> None:
    gate = UpstreamFileGate({"chat": haproxy.upstream})
    await _come_and_go(gate, CHAT, haproxy.url)
    await gate.close()


@needs_haproxy
@pytest.mark.process
async def test_haproxy_loses_no_request_over_its_socket(haproxy: HaProxy) -> None:
    gate = HaproxySocketGate({"web": Haproxy(sockets=(str(haproxy.socket),), backend="chat")})
    await _come_and_go(gate, WEB, haproxy.url)
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


# ---- files, whatever reads them ----


def _file(folder: Path, **changes: object) -> Upstream:
    touch = (sys.executable, "-S", "-c", f"open({str(folder / 'reloads')!r}, 'a').write('x')")
    told = {"path": folder / "chat.conf", "reload": touch, **changes}
    return Upstream.model_validate(told)


def _at(port: int, name: str, gate: Gate = CHAT) -> Member:
    return Member(name, "chat", Role.DECODE, f"http://10.0.0.7:{port}", None, gate)


async def test_lines_of_others_stay_and_one_change_is_loaded_once(tmp_path: Path) -> None:
    (tmp_path / "chat.conf").write_text("# mine\nserver 10.0.0.1:80 backup;\n")
    gates = [UpstreamFileGate({"chat": _file(tmp_path)}) for _ in range(2)]
    for gate, member in zip(gates, (_at(1, "i1"), _at(2, "i2")), strict=True):
        await agreed(gate, member, wanted_in=True)
    for gate, member in zip(gates, (_at(1, "i1"), _at(2, "i2")), strict=True):
        assert (await gate.reconcile(member, wanted_in=True)).all_in
    assert (tmp_path / "chat.conf").read_text() == (
        "# mine\nserver 10.0.0.1:80 backup;\n"
        "server 10.0.0.7:1; # heteroscale: i1 http://10.0.0.7:1\n"
        "server 10.0.0.7:2; # heteroscale: i2 http://10.0.0.7:2\n"
    )
    assert (tmp_path / "reloads").read_text() == "xx"
    # The next instance on the same port takes the place of the last.
    await agreed(gates[0], _at(1, "i9"), wanted_in=True)
    assert "i1" not in (tmp_path / "chat.conf").read_text()
    await agreed(gates[0], _at(1, "i9"), wanted_in=False)
    for gate in gates:
        await gate.close()


async def test_a_file_that_somebody_changed_is_loaded_before_it_counts(tmp_path: Path) -> None:
    gate = UpstreamFileGate({"chat": _file(tmp_path, line="server {host}:{port} weight=2;")})
    await agreed(gate, _at(1, "i1"), wanted_in=True)
    with (tmp_path / "chat.conf").open("a") as file:
        file.write("server 10.0.0.9:80;\n")
    assert (await gate.reconcile(_at(1, "i1"), wanted_in=True)).places == {
        str(tmp_path / "chat.conf"): None
    }
    assert (await gate.reconcile(_at(1, "i1"), wanted_in=True)).all_in
    assert "weight=2;" in (tmp_path / "chat.conf").read_text()
    await gate.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reload": ("/nonexistent/nginx",)}, "No such file"),
        ({"reload": ("sleep", "1000"), "timeout": 0.1}, "sleep: took longer than 0.1 s"),
        ({"check": (sys.executable, "-S", "-c", "raise SystemExit('bad')")}, "exit code 1: bad"),
        ({"path": "/nonexistent/chat.conf"}, "No such file"),
    ],
)
async def test_what_cannot_be_loaded_is_unknown_and_said(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    gate = UpstreamFileGate({"chat": _file(tmp_path, **{"timeout": 20.0, **changes})})
    view = View({})
    for wanted_in in (True, True, False, False):
        view = await gate.reconcile(_at(1, "i1"), wanted_in=wanted_in)
        assert list(view.places.values()) in ([None], [not wanted_in])
        assert not (view.all_in if wanted_in else view.all_out)
    assert said in view.message
    await gate.close()


async def test_a_reload_that_brings_no_new_workers_is_unknown_and_said(tmp_path: Path) -> None:
    # Long enough to start a program on a busy machine, and waited for but once.
    changes: dict[str, object] = {"pid_file": tmp_path / "pid", "timeout": 2.0, "reload": ("true",)}
    gate = UpstreamFileGate({"chat": _file(tmp_path, **changes)})
    view = await gate.reconcile(_at(1, "i1"), wanted_in=True)
    assert list(view.places.values()) == [None]
    assert "no new workers" in view.message
    await gate.close()


def test_proxies_must_be_configured(tmp_path: Path) -> None:
    files = UpstreamFileGate({"chat": _file(tmp_path)})
    assert "needs the option" in files.complaint(_at(1, "i1", Gate("upstream-file")))
    other = Gate("upstream-file", options={"upstream": "x"})
    assert "no upstream 'x'" in files.complaint(_at(1, "i1", other))
    sockets = HaproxySocketGate({})
    assert "no haproxy 'web'" in sockets.complaint(_at(1, "i1", WEB))
    assert "needs the option" in sockets.complaint(_at(1, "i1", Gate("haproxy-socket")))
