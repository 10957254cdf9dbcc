"""Files and commands as sources: real ones, and all the ways in which they are no use."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import psutil
import pytest

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.config.places import TopologySource
from heteroscale_agent.probes.source import SourceError, Thread, read_file, run
from heteroscale_agent.probes.topology import Found, look

PATIENCE = 60.0


async def found(tmp_path: Path, *entries: object) -> Found:
    spec = AgentSpec.model_validate({"coordinator": "127.0.0.1:1", "topologyFrom": entries})
    return await look(spec, {}, PATIENCE)


async def test_a_file_and_a_command_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "place.yaml").write_text("s1: leaf-1\n")
    command = ["/bin/sh", "-c", "echo s1=leaf-2; echo s2=pod-0"]
    place = await found(tmp_path, {"file": f"{tmp_path}/place.yaml"}, {"command": command})
    assert place.levels == {"s1": "leaf-1", "s2": "pod-0"}
    assert place.sources == {
        "s1": f"file {tmp_path}/place.yaml; overrules: command /bin/sh says leaf-2",
        "s2": "command /bin/sh",
    }
    assert place.problems == ()


async def test_one_source_that_is_no_use_leaves_the_others_be(tmp_path: Path) -> None:
    (tmp_path / "place").write_text("rack=7")
    place = await found(
        tmp_path,
        {"file": str(tmp_path / "missing")},
        {"file": str(tmp_path / "place")},
        {"command": ["sleep", "1000"], "timeout": "50ms"},
        {"command": ["echo", "s1=leaf"]},
    )
    assert place.levels == {"s1": "leaf"}
    missing, unknown, late = place.problems
    assert "No such file" in missing
    assert "no level" in unknown or "LEVEL=NAME" in unknown
    assert late == "command sleep: sleep: no whole answer in time"


def test_what_a_command_starts_ends_with_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"sleep 1000 & echo $! > {pid}; wait"
    with pytest.raises(SourceError, match="in time"):
        run(["/bin/sh", "-c", script], 1.0)
    child = int(pid.read_text())
    gone, alive = psutil.wait_procs([psutil.Process(child)] if psutil.pid_exists(child) else [], 30)
    assert not alive, gone


def test_a_child_that_keeps_the_pipe_open_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="in time"):
        run(["/bin/sh", "-c", "echo s1=a; sleep 1000 &"], 0.5)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 3", "ended with 3: said nothing"),
        ("echo no such switch >&2; exit 1", "no such switch"),
        ("echo cannot connect >&2", "cannot connect"),
        ("yes", "prints more than"),
        ("yes >&2", "in time"),
        ("exec >&- 2>&-; sleep 1000", "does not end"),
    ],
)
def test_a_command_that_fails_says_why(script: str, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        run(["/bin/sh", "-c", script], 0.5 if "sleep" in script or ">&2" in script else 30, 10_000)


def test_warnings_beside_an_answer_are_no_failure() -> None:
    assert run(["/bin/sh", "-c", "echo careful >&2; echo s1=a"], 30) == "s1=a\n"


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(SourceError, match="No such file"):
        run(["/nowhere/topology"], 30)


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b"x" * 101)
    (tmp_path / "odd").write_bytes(b"\xff\xfe")
    assert read_file(tmp_path / "pipe") == ""
    with pytest.raises(SourceError, match="longer than 100"):
        read_file(tmp_path / "long", 100)
    with pytest.raises(SourceError, match="UTF-8"):
        read_file(tmp_path / "odd")
    with pytest.raises(SourceError, match="directory"):
        read_file(tmp_path)


async def test_a_thread_that_hangs_is_not_asked_again_until_it_is_back() -> None:
    thread, go_on, began = Thread("test"), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang() -> int:
        loop.call_soon_threadsafe(began.set)
        go_on.wait()
        return 1

    with pytest.raises(SourceError, match="no answer within"):
        await thread.call(hang, 0.01)
    with pytest.raises(SourceError, match="still hangs"):
        await thread.call(lambda: 2, 30)
    await began.wait()
    go_on.set()

    async def back() -> int:
        while True:
            try:
                return await thread.call(lambda: 3, 30)
            except SourceError:
                await asyncio.sleep(0)

    async with asyncio.timeout(30):
        assert await back() == 3
    thread.close()


@pytest.mark.parametrize(
    "entry", [{}, {"file": "/a", "command": ["b"]}, {"slurm": {}, "kubernetes": {}}]
)
def test_an_entry_names_one_source(entry: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exactly one of"):
        TopologySource.model_validate(entry)
