"""The file gate: what it writes, and what of others it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from heteroscale_agent.hands.gates.file import FileGate
from heteroscale_agent.model import Gate
from tests.agent.gate_rigs import (
    ENDPOINT,
    file_rig,
    member,
)


async def test_files_keep_the_entries_of_others_and_their_order(tmp_path: Path) -> None:
    gate = FileGate(tmp_path)
    for form, expected in (
        ("lines", "http://a:1\nhttp://b:1\n"),
        ("json", None),
    ):
        options = {"path": f"decode.{form}", "format": form}
        two = member(Gate("file", options=options), "i2", "http://b:1")
        one = member(Gate("file", options=options), "i1", "http://a:1")
        for each in (two, one):
            await gate.reconcile(each, wanted_in=True)
        text = (tmp_path / f"decode.{form}").read_text()
        if expected is not None:
            assert text == expected
        else:
            listed = json.loads(text)["endpoints"]
            assert [entry["instance_id"] for entry in listed] == ["i1", "i2"]
        await gate.reconcile(one, wanted_in=False)
        assert (await gate.reconcile(two, wanted_in=True)).all_in


async def test_what_is_others_stays_as_it_is_and_where_it_is(tmp_path: Path) -> None:
    others = [
        {"endpoint": "http://z:1", "weight": 2, "drained": False, "tags": ["a", None]},
        {"endpoint": "http://a:1", "zone": {"rack": 7}},
        {"weight": 1.5},
        "http://10.0.0.7:20001",
        {"endpoint": 5},
    ]
    before = {"version": 3, "endpoints": others, "owner": None}
    path = tmp_path / "in.json"
    path.write_text(json.dumps(before))
    gate, at = FileGate(tmp_path), member(Gate("file", options={"path": "in.json"}))
    assert not (await gate.reconcile(at, wanted_in=True)).all_in
    assert (await gate.reconcile(at, wanted_in=True)).all_in
    after = json.loads(path.read_text())
    own = {"endpoint": ENDPOINT, "instance_id": "i1", "role": "decode"}
    after["endpoints"].remove(own)
    assert after == before
    await gate.reconcile(at, wanted_in=False)
    assert json.loads(path.read_text()) == before
    await gate.close()


async def test_lines_of_others_stay_as_they_are_and_where_they_are(tmp_path: Path) -> None:
    before = "# mine by hand\n\n  http://z:1\nhttp://a:1\n"
    (tmp_path / "in").write_text(before)
    gate = FileGate(tmp_path)
    at = member(Gate("file", options={"path": "in", "format": "lines"}))
    await gate.reconcile(at, wanted_in=True)
    assert (await gate.reconcile(at, wanted_in=True)).all_in
    await gate.reconcile(at, wanted_in=False)
    assert (tmp_path / "in").read_text() == before
    await gate.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"endpoints": 5}', "\x00\xff"])
async def test_a_file_of_nonsense_is_written_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "decode.json").write_text(text, encoding="latin-1")
    rig = file_rig(tmp_path)
    rig.member = member(Gate("file", options={"path": "decode.json"}))
    await rig.until(wanted_in=True)
    assert len(json.loads((tmp_path / "decode.json").read_text())["endpoints"]) == 1


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x"])
def test_files_stay_below_the_gate_folder(tmp_path: Path, path: str) -> None:
    assert FileGate(tmp_path).complaint(member(Gate("file", options={"path": path})))


async def test_a_file_that_cannot_be_written_is_unknown(tmp_path: Path) -> None:
    rig = file_rig(tmp_path)
    (tmp_path / "deep").write_text("a file where a folder should be")
    view = await rig.gate.reconcile(rig.member, wanted_in=True)
    assert list(view.places.values()) == [None]
    assert view.message


async def test_a_file_that_cannot_be_read_whole_is_left_as_it_is(tmp_path: Path) -> None:
    text = "".join(f"http://10.1.0.1:{port}\n" for port in range(1000, 1010)) + "#" * (4 << 20)
    (tmp_path / "in").write_text(text)
    gate = FileGate(tmp_path)
    at = member(Gate("file", options={"path": "in", "format": "lines"}))
    view = await gate.reconcile(at, wanted_in=True)
    assert list(view.places.values()) == [None]
    assert (tmp_path / "in").read_text() == text
    await gate.close()


async def test_letters_of_others_stay_whatever_they_are(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"# K\xf6ln\n")
    gate = FileGate(tmp_path)
    at = member(Gate("file", options={"path": "in", "format": "lines"}))
    await gate.reconcile(at, wanted_in=True)
    assert (tmp_path / "in").read_bytes().startswith(b"# K\xf6ln\n")
    await gate.close()


async def test_an_instance_that_moved_port_leaves_nothing_behind(tmp_path: Path) -> None:
    rig = file_rig(tmp_path)
    await rig.until(wanted_in=True)
    taken_over = replace(rig.member, instance_id="i9")
    await rig.until(wanted_in=True, member=taken_over)
    listed = json.loads((tmp_path / "deep" / "decode.json").read_text())["endpoints"]
    assert [entry["instance_id"] for entry in listed] == ["i9"]
