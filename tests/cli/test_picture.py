"""What a watch shows: the stream folded into a picture, told in lines, drawn as a view."""

from __future__ import annotations

import io

from rich.console import Console

from heteroscale.convert import timestamp
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1 import types_pb2 as types
from heteroscale_cli.lines import Lines
from heteroscale_cli.picture import Lost, Picture
from heteroscale_cli.screen import render
from tests.cli import fleet


def changed(**parts: object) -> pb.WatchResponse:
    return pb.WatchResponse(time=timestamp(1_700_000_000), **parts)  # type: ignore[arg-type]


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
    picture.take(changed(service=pb.Service(name="chat", condition="deleted")))
    assert picture.services == {}


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
