"""Files of upstreams, whatever reads them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from heteroscale.words import Role
from heteroscale_agent.config.gates import Upstream
from heteroscale_agent.hands.gates.haproxy_socket import HaproxySocketGate
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.hands.gates.upstream_file import UpstreamFileGate
from heteroscale_agent.model import Gate
from tests.agent.proxies import (
    agreed,
)

CHAT = Gate("upstream-file", options={"upstream": "chat"})
WEB = Gate("haproxy-socket", options={"haproxy": "web"})


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
