"""An id that lasts, an incarnation that grows, and one agent for each state directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from heteroscale_agent.__main__ import run
from heteroscale_agent.identity import Identity, IdentityError, StateDirectory


def start(folder: Path, configured: str = "") -> Identity:
    with StateDirectory(folder) as directory:
        return directory.identify(configured)


def test_the_id_lasts_and_the_incarnation_grows(tmp_path: Path) -> None:
    first, second, third = (start(tmp_path / "new" / "state") for _ in range(3))
    assert first.agent_id == second.agent_id == third.agent_id
    assert [one.incarnation for one in (first, second, third)] == [1, 2, 3]
    assert len({one.process_token for one in (first, second, third)}) == 3
    assert first.boot_id == third.boot_id != ""
    assert (tmp_path / "new" / "state").stat().st_mode & 0o077 == 0


def test_every_directory_has_an_agent_of_its_own(tmp_path: Path) -> None:
    assert start(tmp_path / "a").agent_id != start(tmp_path / "b").agent_id


def test_a_configured_id_is_kept_too(tmp_path: Path) -> None:
    assert start(tmp_path, "gpu-7").agent_id == "gpu-7"
    assert start(tmp_path).agent_id == "gpu-7"
    with pytest.raises(
        IdentityError, match=r"belongs to agent 'gpu-7', the configuration says 'gpu-8'"
    ):
        start(tmp_path, "gpu-8")
    assert start(tmp_path).incarnation == 3


def test_two_agents_cannot_share_a_directory(tmp_path: Path) -> None:
    with StateDirectory(tmp_path) as first:
        first.identify()
        with pytest.raises(IdentityError, match="held by another agent on this host"):
            StateDirectory(tmp_path).__enter__()
        first.identify()
    assert start(tmp_path).incarnation == 3


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from heteroscale_agent.identity import StateDirectory\n"
        "StateDirectory(pathlib.Path(sys.argv[1])).__enter__().identify()\n"
        "print('held', flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "held\n"
    assert start(tmp_path).incarnation == 2


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", '"x"', "{}", '{"agent_id": "a"}', '{"incarnation": 3}'),
        *('{"agent_id": "a", "incarnation": "many"}', '{"agent_id": "a", "incarnation": null}'),
        *('{"agent_id": "", "incarnation": 1}', '{"agent_id": "a", "incarnation": -3}'),
        *('{"agent_id": 7, "incarnation": 1}', "\udcff"),
    ],
)
def test_a_damaged_file_is_said_and_never_overwritten(tmp_path: Path, content: str) -> None:
    file = tmp_path / "agent.json"
    file.write_bytes(content.encode(errors="surrogateescape"))
    before = file.read_bytes()
    with pytest.raises(IdentityError, match=r"is damaged .* remove it to start as a new agent"):
        start(tmp_path)
    assert file.read_bytes() == before


def test_a_write_that_was_cut_short_leaves_the_old_file(tmp_path: Path) -> None:
    first = start(tmp_path)
    (tmp_path / "agent.json.new").write_text('{"agent_')
    assert start(tmp_path).agent_id == first.agent_id
    assert json.loads((tmp_path / "agent.json").read_text())["incarnation"] == 2


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError, match=r"state directory .*file/state: Not a directory"):
        start(tmp_path / "file" / "state")


# ---- as a person meets it ---------------------------------------------------------------------


def document(folder: Path, *lines: str) -> str:
    path = folder / "agent.yaml"
    spec = ("coordinator: 127.0.0.1:1", f"stateDir: {folder / 'state'}", *lines)
    head = ("apiVersion: heteroscale/v1", "kind: Agent", "spec:")
    path.write_text("\n".join([*head, *(f"  {line}" for line in spec)]))
    return str(path)


def test_the_second_agent_of_a_directory_ends_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = document(tmp_path)
    with StateDirectory(tmp_path / "state"):
        assert run(["--config", config]) == 1
    assert "is held by another agent on this host" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("labes: {}", "agent.yaml:6: spec.labes: unknown field; did you mean `labels`?"),
        ("tls: {ca: none.pem}", "tls ca none.pem: No such file or directory"),
        ("tls: {key: none.pem}", "tls: give both `certificate` and `key`"),
        ("ports: {first: 9, last: 3}", "agent.yaml:6: spec.ports: first 9 is above last 3"),
    ],
)
def test_a_wrong_document_is_refused_in_one_line(
    tmp_path: Path, line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", "--config", document(tmp_path, line)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "one document of kind Agent is wanted, 0 are here"),
        (b"a: 1\n---\nb: 2\n", "one document of kind Agent is wanted, 2 are here"),
        (b"\xff\xfe", "is no UTF-8 text"),
    ],
)
def test_a_file_that_is_no_agent_document_is_refused(
    tmp_path: Path, content: bytes, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "agent.yaml"
    path.write_bytes(content)
    assert run(["check", "--config", str(path)]) == 2
    assert says in capsys.readouterr().err


def test_dialling_beyond_loopback_without_tls_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = document(tmp_path)
    far = ["check", "--config", config, "--coordinator", "10.0.0.1:7070"]
    assert run(far) == 2
    assert "dialling 10.0.0.1:7070 without TLS" in capsys.readouterr().err
    assert run([*far, "--insecure"]) == 0
