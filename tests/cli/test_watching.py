"""watch and get -w: the stream as lines, JSON or a live view, and a coordinator that restarts."""

from __future__ import annotations

import asyncio
import io
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

import pytest
from rich.console import Console

from heteroscale.convert import timestamp
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1 import types_pb2 as types
from heteroscale_cli.client import connect
from heteroscale_cli.connection import Connection
from heteroscale_cli.errors import CliError
from heteroscale_cli.lines import Lines
from heteroscale_cli.picture import Lost, Picture, follow
from heteroscale_cli.screen import render
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


def test_lines_tell_only_news() -> None:
    lines = Lines()

    def told(**parts: object) -> str | None:
        return lines.line(changed(**parts), now=1_700_000_000)

    first = told(service=fleet.service())
    assert first is not None
    assert first.split(" ", 1)[1] == (
        "chat ready auto: prefill 2/2 decode 3/4 ratio 0.67; "
        "decode_tps 1834 tok/s, ttft ? (missing)"
    )
    assert told(service=fleet.service()) is None
    assert told(instance=fleet.instance()) is not None
    withdrawn = fleet.instance(
        state=types.INSTANCE_STATE_WITHDRAWN, withdraw_reason=types.WITHDRAW_REASON_SICK
    )
    line = told(instance=withdrawn)
    assert line is not None
    assert line.endswith("chat decode aa11bb in_service -> withdrawn (sick)")
    assert told(instance=withdrawn) is None
    decided = told(decision=fleet.decision(advisory=True))
    assert decided is not None
    assert "chat scale_out (advice) +1P +2D: demand 3600 tok/s" in decided
    assert told(synced=True) is None
    node = told(node=pb.Node(agent_id="n1", message="two\nlines"))
    assert node is not None
    assert node.endswith("node n1 silent: two lines")


def test_a_lost_stream_is_said_once_each_time() -> None:
    lines, lost = Lines(), Lost("gone")
    assert "not up to date: gone" in (lines.line(lost, now=1.0) or "")
    assert lines.line(lost, now=2.0) is None
    lines.line(changed(synced=True), now=3.0)
    assert lines.line(lost, now=4.0) is not None


def test_the_picture_forgets_what_a_new_snapshot_does_not_name() -> None:
    picture = Picture()
    for item in (
        changed(service=fleet.service()),
        changed(instance=fleet.instance()),
        changed(instance=fleet.instance(instance_id="old")),
        changed(synced=True),
    ):
        picture.take(item)
    assert sorted(picture.instances) == ["aa11bb", "old"]
    picture.take(Lost("gone"))
    assert picture.lost == "gone"
    assert sorted(picture.instances) == ["aa11bb", "old"], "what was known is still shown"
    picture.take(changed(instance=fleet.instance()))
    picture.take(changed(synced=True))
    assert (picture.lost, list(picture.instances), list(picture.services)) == ("", ["aa11bb"], [])


def test_the_picture_counts_equal_holds_once_and_drops_the_terminated() -> None:
    picture = Picture()
    picture.take(changed(service=fleet.service()))
    assert [d.decision_id for d in picture.decisions] == ["d-1"], "a service brings its last one"
    picture.take(changed(decision=fleet.decision(repeat_count=1)))
    picture.take(changed(decision=fleet.decision(repeat_count=9)))
    assert [d.repeat_count for d in picture.decisions] == [9]
    picture.take(changed(instance=fleet.instance()))
    picture.take(changed(instance=fleet.instance(state=types.INSTANCE_STATE_TERMINATED)))
    assert picture.instances == {}


def drawn(picture: Picture, height: int = 40) -> str:
    console = Console(width=140, height=height, file=io.StringIO(), color_system=None)
    console.print(render(picture, now=1_700_000_000, height=height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_view_shows_load_counts_ratio_states_and_decisions() -> None:
    picture = Picture()
    assert "Waiting for the first state" in drawn(picture)
    picture.take(changed(service=fleet.service()))
    picture.take(changed(instance=fleet.instance(message="[bold]not markup")))
    picture.take(changed(decision=fleet.decision()))
    picture.take(changed(synced=True))
    view = drawn(picture)
    for part in ("chat", "ratio 0.67", "decode_tps", "1834 tok/s", "in_service", "+1P +2D"):
        assert part in view, part
    assert "unknown" in view
    picture.take(Lost("coordinator 127.0.0.1:1 is unreachable"))
    assert "Not up to date: coordinator 127.0.0.1:1 is unreachable" in drawn(picture)


def test_the_view_fits_a_small_terminal_and_says_what_is_hidden() -> None:
    picture = Picture()
    for index in range(100):
        picture.take(changed(instance=fleet.instance(instance_id=f"i{index}")))
        picture.take(changed(decision=fleet.decision(decision_id=f"d{index}")))
    picture.take(changed(synced=True))
    view = drawn(picture, height=24)
    assert len(view.splitlines()) <= 24
    assert "Instances (100, " in view


def test_an_empty_fleet_says_what_to_do() -> None:
    picture = Picture()
    picture.take(changed(synced=True))
    assert "heteroscale apply -f FILE" in drawn(picture)


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
