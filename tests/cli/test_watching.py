"""watch and get -w: the stream as lines, JSON or a live view, and a coordinator that restarts."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from itertools import pairwise

import grpc
import pytest

from heteroscale.convert import timestamp
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1 import types_pb2 as types
from heteroscale_cli.client import connect
from heteroscale_cli.connection import Connection
from heteroscale_cli.errors import CliError
from heteroscale_cli.lines import Lines
from heteroscale_cli.picture import Lost, follow
from tests.cli import fleet
from tests.cli.conftest import Typed, clean_environment
from tests.cli.twin import OperatorTwin, Served

PATIENCE_S = 30.0


def changed(**parts: object) -> pb.WatchResponse:
    return pb.WatchResponse(time=timestamp(1_700_000_000), **parts)  # type: ignore[arg-type]


def test_get_watch_prints_what_there_is_then_every_change(typed: Typed, twin: OperatorTwin) -> None:
    twin.story = [
        changed(instance=fleet.instance(state=types.INSTANCE_STATE_DRAINING)),
        changed(decision=fleet.decision()),
    ]
    result = typed("get", "inst", "-w")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ID", "aa11bb", "aa22cc", "aa11bb"]
    assert "draining" in lines[3]
    assert all(a.index("H20") == b.index("H20") for a, b in pairwise(lines[1:]))
    assert result.exit_code == 3
    assert result.stderr == "error: the coordinator ended the stream\n"


def test_get_watch_as_json_lines(typed: Typed, twin: OperatorTwin) -> None:
    twin.story = [changed(service=fleet.service(paused=True))]
    items = [
        json.loads(line) for line in typed("get", "svc", "-w", "-o", "json").stdout.splitlines()
    ]
    assert [item["paused"] for item in items] == [False, True]


def test_get_watch_of_one_thing_leaves_the_others_out(typed: Typed) -> None:
    instances = typed("get", "inst", "aa2", "-w").stdout
    nodes = typed("get", "node", "gpu-host-1", "-w").stdout
    assert ("aa22cc" in instances, "aa11bb" in instances) == (True, False)
    assert ("node-1" in nodes, "node-2" in nodes) == (True, False)


def test_get_watch_narrows_by_service_at_the_server(typed: Typed, twin: OperatorTwin) -> None:
    typed("get", "dec", "chat", "-w")
    typed("get", "inst", "-s", "chat", "-w")
    assert twin.requests == [pb.WatchRequest(service="chat")] * 2


def test_groups_cannot_be_watched(typed: Typed) -> None:
    result = typed("get", "groups", "-w")
    assert result.exit_code == 2
    assert "watch their instances" in result.stderr


def test_an_instance_that_is_forgotten_ends_where_it_was_shown_and_only_there(
    typed: Typed, twin: OperatorTwin
) -> None:
    gone = types.INSTANCE_STATE_TERMINATED
    twin.story = [
        changed(instance=pb.Instance(instance_id="aa11bb", state=gone)),
        changed(instance=pb.Instance(instance_id="other", state=gone)),
    ]
    rows = typed("get", "inst", "-s", "chat", "-w").stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["ID", "aa11bb", "aa22cc", "aa11bb"]
    lines = Lines()
    lines.line(changed(instance=fleet.instance()), now=0)
    told = [lines.line(response, now=0) for response in twin.story]
    assert told[1] is None
    assert (told[0] or "").endswith("chat decode aa11bb in_service -> terminated")


async def test_follow_waits_for_a_coordinator_that_restarts(served: Served) -> None:
    served.twin.keep_open = True
    synced = losses = 0
    connection = Connection(coordinator=served.address, timeout_s=PATIENCE_S)
    async with (
        asyncio.timeout(PATIENCE_S),
        connect(connection) as client,
        aclosing(follow(client, "", retry_s=0.05)) as items,
    ):
        async for item in items:
            if isinstance(item, Lost):
                losses += 1
                if losses == 1:
                    await asyncio.to_thread(served.start)
            elif item.WhichOneof("event") == "synced":
                synced += 1
                if synced == 2:
                    break
                await asyncio.to_thread(served.stop)
    assert synced == 2
    assert losses >= 1


async def test_follow_begins_again_when_it_was_read_too_slowly(served: Served) -> None:
    slow = (grpc.StatusCode.RESOURCE_EXHAUSTED, "this watch was read too slowly")
    seen: list[str] = []
    connection = Connection(coordinator=served.address, timeout_s=PATIENCE_S)
    async with (
        asyncio.timeout(PATIENCE_S),
        connect(connection) as client,
        aclosing(follow(client, "", retry_s=0.05)) as items,
    ):
        async for item in items:
            if isinstance(item, Lost):
                seen.append(item.reason)
                served.twin.refusal = slow if len(seen) == 1 else None
            elif item.WhichOneof("event") == "synced" and len(seen) > 1:
                break
    assert seen == ["the coordinator ended the stream", "this watch was read too slowly"]


async def test_follow_gives_up_on_a_coordinator_never_heard(served: Served) -> None:
    served.stop()
    async with connect(Connection(coordinator=served.address)) as client:
        with pytest.raises(CliError, match="unreachable"):
            async for _ in follow(client, ""):
                pass


@contextmanager
def watching(served: Served, *words: str, **streams: int) -> Iterator[subprocess.Popen[str]]:
    """Run a watch in a process of its own, which the test interrupts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "heteroscale_cli", *words],
        env=clean_environment(HETEROSCALE_COORDINATOR=served.address),
        stdout=streams.get("terminal", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


@pytest.mark.usefixtures("heard_ctrl_c")
def test_watch_through_a_pipe_prints_lines_at_once_and_ends_on_ctrl_c(served: Served) -> None:
    served.twin.story = [changed(decision=fleet.decision())]
    served.twin.keep_open = True
    with watching(served, "watch", "chat") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "scale_out +1P +2D" in line:
                break
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert stderr == ""


def test_watch_json_is_one_object_per_line(served: Served) -> None:
    served.twin.keep_open = True
    with watching(served, "watch", "-o", "json") as process:
        assert process.stdout is not None
        kinds = []
        for line in process.stdout:
            kinds += [key for key in json.loads(line) if key != "time"]
            if kinds[-1] == "synced":
                break
    assert kinds == ["service", "instance", "instance", "node", "node", "synced"]


def read_until(terminal: int, wanted: str) -> str:
    """Read the terminal until it has shown ``wanted``; fail when it does not."""
    seen = b""
    with selectors.DefaultSelector() as selector:
        selector.register(terminal, selectors.EVENT_READ)
        while wanted not in seen.decode(errors="replace"):
            assert selector.select(PATIENCE_S), seen.decode(errors="replace")
            seen += os.read(terminal, 65536)
    return seen.decode(errors="replace")


@pytest.mark.usefixtures("heard_ctrl_c")
def test_watch_on_a_terminal_is_a_live_view(served: Served) -> None:
    served.twin.keep_open = True
    ours, theirs = pty.openpty()
    with watching(served, "watch", terminal=theirs) as process:
        os.close(theirs)
        text = read_until(ours, "decode_tps")
        process.send_signal(signal.SIGINT)
        read_until(ours, "\x1b[?1049l")  # the view leaves the screen as it found it
        assert process.wait(timeout=PATIENCE_S) == 130
    os.close(ours)
    assert "\x1b[?1049h" in text


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_only_on_a_terminal_that_wants_them(
    served: Served, env: dict[str, str], coloured: bool
) -> None:
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "heteroscale_cli", "get", "svc"],
        env=clean_environment(HETEROSCALE_COORDINATOR=served.address, **env),
        stdout=theirs,
        check=True,
        timeout=PATIENCE_S,
    )
    os.close(theirs)
    text = read_until(ours, "scale_out")
    os.close(ours)
    assert ("\x1b[32mready" in text) is coloured


def test_a_reader_that_goes_away_ends_the_watch_quietly(served: Served) -> None:
    served.twin.keep_open = True
    served.twin.story = [
        changed(service=fleet.service(paused=bool(index % 2))) for index in range(20_000)
    ]
    with watching(served, "watch", "chat") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(timeout=PATIENCE_S)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        process.stdout = None
    assert process.returncode == 1
