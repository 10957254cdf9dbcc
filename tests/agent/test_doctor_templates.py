"""The doctor's word on templates, hooks, ports and gates."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from heteroscale_agent.doctor import gates, templates
from heteroscale_agent.doctor.finding import Case, Level
from tests.agent.doctor_cases import case, levels, only, spec


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ({"command": ["/nowhere/vllm"]}, "/nowhere/vllm does not exist"),
        ({"command": ["no-such-program-here"]}, "not on PATH"),
        ({"command": ["sh"], "user": "nobody-of-that-name"}, "no user"),
        ({"command": ["sh"], "parameters": {"model": "[a-"}}, "is no pattern"),
        ({"command": ["sh", "{modle}"], "parameters": {"model": "a"}}, "{modle}"),
        ({"command": ["sh", "{bootstrap_port}"], "ports": 1}, "{bootstrap_port}"),
        ({"command": ["sh"], "env": {"X": "{port_3}"}}, "{port_3}"),
    ],
)
def test_a_template_that_cannot_work(template: dict[str, Any], says: str) -> None:
    found = only(templates.look(case(templates={"a": {"role": "decode", **template}})))
    assert found.level is Level.PROBLEM
    assert says in found.saw
    assert found.todo


def test_a_template_that_can_and_one_whose_model_is_not_there(tmp_path: Path) -> None:
    words = ["sh", "{port}", "{port_2}", "{model}", '{"json": 1}', f"--log={tmp_path}"]
    body = {"role": "decode", "command": words, "parameters": {"model": "[a-z]+"}}
    assert only(templates.look(case(templates={"a": body}))).level is Level.OK
    body["command"] = [*words, f"--model-path={tmp_path}/none"]
    found = only(templates.look(case(templates={"a": body})))
    assert (found.level, found.saw) == (Level.NOTE, f"{tmp_path}/none does not exist")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees what others may not")
def test_a_program_that_its_user_may_not_run(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    program = tmp_path / "engine"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    body = {"role": "decode", "command": [str(program)], "user": "nobody"}
    assert "is closed to it" in only(templates.look(case(templates={"a": body}))).saw
    body["user"] = "root"
    assert only(templates.look(case(templates={"a": body}))).level is Level.OK


def test_hooks_and_ports(tmp_path: Path) -> None:
    hooks = {"balancer": {"open": ["sh"], "close": [str(tmp_path / "none")]}}
    found = levels(templates.look(case(hooks=hooks)))
    assert found["hook balancer"] is Level.PROBLEM
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        port = busy.getsockname()[1]
        some = {"a": {"role": "decode", "command": ["sh"]}}
        narrow = case(templates=some, ports={"first": port, "last": port})
        assert only(templates.ports(narrow)).level is Level.PROBLEM
    assert list(templates.ports(case())) == []
    (tmp_path / "sys/net/ipv4").mkdir(parents=True)
    (tmp_path / "sys/net/ipv4/ip_local_port_range").write_text("1024\t65535\n")
    overlapping = Case(spec(templates=some), proc=tmp_path)
    assert [one.level for one in templates.ports(overlapping)] == [Level.OK, Level.NOTE]


def test_gates_that_can_and_that_cannot_work(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    good = {
        "upstreams": {"n": {"path": str(tmp_path / "servers.conf"), "reload": ["true"]}},
        "http": {"h": http_hook({"file": str(secret)})},
    }
    secret.write_text("x")
    assert set(levels(gates.look(case(gates=good))).values()) == {Level.OK}
    secret.unlink()
    bad = {
        "upstreams": {"n": {"path": "/nowhere/servers.conf", "reload": ["no-such-program"]}},
        "haproxy": {"p": {"sockets": [str(tmp_path / "none.sock")], "backend": "b"}},
        "http": {"h": http_hook({"file": str(secret)}), "i": http_hook({"env": "NO_SUCH_TOKEN"})},
    }
    found = list(gates.look(case(gates=bad)))
    assert {one.level for one in found} == {Level.PROBLEM}
    assert [one.check for one in found] == ["upstream n", "haproxy p", "http h", "http i"]
    assert "no-such-program is not on PATH" in found[0].saw


def http_hook(secret: dict[str, str]) -> dict[str, Any]:
    call = {"url": "http://edge/", "secrets": {"Authorization": secret}}
    return {"open": call, "close": call}


def test_a_proxys_socket_is_dialled(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        proxy = {"p": {"sockets": [str(path)], "backend": "b"}}
        assert only(gates.look(case(gates={"haproxy": proxy}))).level is Level.OK
