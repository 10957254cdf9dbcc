"""The gate of a real nginx, with requests flowing while instances come and go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heteroscale_agent.config.gates import Upstream
from heteroscale_agent.hands.gates.upstream_file import NOBODY, UpstreamFileGate
from heteroscale_agent.model import Gate
from tests.agent.proxies import (
    NGINX,
    Proxy,
    agreed,
    come_and_go,
    engines,
    member_of,
    needs_nginx,
)


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
async def test_nginx_loses_no_request_while_instancescome_and_go(nginx: Nginx) -> None:
    gate = UpstreamFileGate({"chat": nginx.upstream})
    await come_and_go(gate, CHAT, nginx.url)
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
