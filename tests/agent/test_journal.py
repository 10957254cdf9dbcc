"""The journal: what it promised is there after any death, and it promises nothing it cannot keep."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale import __version__
from heteroscale.words import Outcome
from heteroscale_agent import journal as journal_module
from heteroscale_agent.journal import Journal, JournalError, peek
from heteroscale_agent.ledger import (
    FORMAT,
    Entry,
    Intent,
    acknowledged_entry,
    epoch_entry,
    forgotten_entry,
    instance_entry,
    intent_entry,
    pruned_entry,
    result_entry,
)
from heteroscale_agent.model import CommandResult


class Disk:
    """A disk that can be full: then writes go to /dev/full, after ``torn`` bytes of them."""

    def __init__(self) -> None:
        self.full = False
        self.torn = 0

    def write(self, fd: int, data: bytes) -> int:
        if not self.full:
            return os.write(fd, data)
        if self.torn:
            torn, self.torn = self.torn, 0
            return os.write(fd, data[:torn])
        sink = os.open("/dev/full", os.O_WRONLY)
        try:
            return os.write(sink, data)
        finally:
            os.close(sink)


def open_journal(folder: Path, disk: Disk | None = None, wall: float = 0.0) -> Journal:
    write = disk.write if disk is not None else os.write
    return Journal(folder, wall=lambda: wall, write=write)


def done(command_id: str, message: str = "") -> Entry:
    return result_entry(CommandResult(command_id, Outcome.DONE, message), 100.0)


def answers(journal: Journal, *ids: str) -> list[str | None]:
    found = [journal.answer(i) for i in ids]
    return [answer.message if answer is not None else None for answer in found]


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append([epoch_entry(7), intent_entry(Intent("c1", "i1", "launch", 50.0))])
    journal.append([done("c2", "ok"), instance_entry("i1", {"a": 1})])
    journal.append([instance_entry("i2", {"b": 2}), forgotten_entry("i2"), epoch_entry(3)])
    journal.close()
    again = open_journal(tmp_path)
    assert again.epoch == 7
    assert [intent.command_id for intent in again.interrupted()] == ["c1"]
    assert again.answer("c2") == CommandResult("c2", Outcome.DONE, "ok")
    assert again.records() == {"i1": {"a": 1}}
    assert [result.command_id for result in again.pending()] == ["c2"]
    again.close()


def test_forgotten_instances_with_logs_outlive_restarts_and_compaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path)
    for name in ("i1", "i2", "i3", "i4"):
        journal.append([instance_entry(name, {})])
        journal.append([forgotten_entry(name)])
    journal.append([pruned_entry(["i1", "nobody"]), instance_entry("i3", {})])
    monkeypatch.setattr(journal_module, "COMPACT_AFTER_LINES", 1)
    for _ in range(2):
        # A new instance of an old name writes to the same file: it is not forgotten.
        assert journal.logs() == ["i2", "i4"]
        assert journal.records() == {"i3": {}}
        journal.append([epoch_entry(1)])
        journal.close()
        journal = open_journal(tmp_path)
    journal.close()


def test_every_way_of_being_torn_leaves_the_whole_lines_before(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append([done("c1", "one")])
    journal.append([done("c2", "two"), done("c3", "three")])
    journal.close()
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        again = open_journal(tmp_path)
        assert answers(again, "c1", "c2", "c3") == ["one", None, None]
        assert again.damaged_lines == 0
        again.append([done("c4", "four")])
        again.close()
        once_more = open_journal(tmp_path)
        assert answers(once_more, "c1", "c4") == ["one", "four"]
        once_more.close()


def test_a_flipped_bit_costs_its_own_line_only(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for name in ("c1", "c2", "c3"):
        journal.append([done(name, name)])
    journal.close()
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"c2","outcome"', b'"c9","outcome"'))
    again = open_journal(tmp_path)
    assert answers(again, "c1", "c2", "c9", "c3") == ["c1", None, None, "c3"]
    assert again.damaged_lines == 1
    again.close()


@pytest.mark.parametrize("torn", [0, 1, 30])
def test_a_full_disk_is_said_and_nothing_counts(tmp_path: Path, torn: int) -> None:
    disk = Disk()
    journal = open_journal(tmp_path, disk)
    journal.append([done("c1", "one")])
    disk.full, disk.torn = True, torn
    with pytest.raises(JournalError, match="No space left"):
        journal.append([done("c2", "two")])
    assert journal.answer("c2") is None
    disk.full = False
    journal.append([done("c3", "three")])
    journal.close()
    again = open_journal(tmp_path)
    assert answers(again, "c1", "c2", "c3") == ["one", None, "three"]
    assert again.damaged_lines == 0
    again.close()


def test_a_crash_while_the_disk_is_full_keeps_what_was_promised(tmp_path: Path) -> None:
    disk = Disk()
    journal = open_journal(tmp_path, disk)
    journal.append([done("c1", "one")])
    disk.full, disk.torn = True, 25
    with pytest.raises(JournalError):
        journal.append([done("c2", "two")])
    journal.close()
    again = open_journal(tmp_path)
    assert answers(again, "c1", "c2") == ["one", None]
    again.close()


def test_what_happened_anyway_counts_now_and_is_written_later_once(tmp_path: Path) -> None:
    disk = Disk()
    journal = open_journal(tmp_path, disk)
    disk.full = True
    assert not journal.note([done("c1", "one")])
    assert answers(journal, "c1") == ["one"]
    assert not journal.flush()
    disk.full = False
    assert journal.flush()
    journal.close()
    again = open_journal(tmp_path)
    assert [result.command_id for result in again.pending()] == ["c1"]
    again.close()


def test_the_next_promise_carries_the_backlog_along(tmp_path: Path) -> None:
    disk = Disk()
    journal = open_journal(tmp_path, disk)
    disk.full = True
    journal.note([instance_entry("i1", {"n": 1})])
    with pytest.raises(JournalError):
        journal.append([done("c1")])
    disk.full = False
    journal.append([instance_entry("i1", {"n": 2})])
    journal.close()
    again = open_journal(tmp_path)
    assert again.records() == {"i1": {"n": 2}}
    again.close()


def test_a_failed_sync_makes_the_file_anew(tmp_path: Path) -> None:
    fails = [False]

    def sync(fd: int) -> None:
        if fails[0]:
            raise OSError(5, "Input/output error")
        os.fsync(fd)

    journal = Journal(tmp_path, wall=lambda: 0.0, sync=sync)
    journal.append([done("c1", "one")])
    fails[0] = True
    with pytest.raises(JournalError, match="Input/output error"):
        journal.append([done("c2", "two")])
    fails[0] = False
    journal.append([done("c3", "three")])
    journal.close()
    again = open_journal(tmp_path)
    assert answers(again, "c1", "c2", "c3") == ["one", None, "three"]
    again.close()


def test_an_accepted_that_is_acknowledged_leaves_the_done_behind_it(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    accepted = result_entry(CommandResult("c1", Outcome.ACCEPTED), 100.0)
    journal.append([accepted])
    journal.append([done("c1")])
    journal.append([acknowledged_entry(["c1"])])
    assert [result.outcome for result in journal.pending()] == [Outcome.DONE]
    journal.append([acknowledged_entry(["c1", "c1", "unknown"])])
    assert journal.pending() == []
    newest = journal.answer("c1")
    assert newest is not None
    assert newest.outcome is Outcome.DONE
    journal.close()


def test_compaction_keeps_the_living_and_drops_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "COMPACT_AFTER_LINES", 10)
    wall = [0.0]
    journal = Journal(tmp_path, wall=lambda: wall[0])
    journal.append([done("old"), acknowledged_entry(["old"]), done("unheard", "x")])
    wall[0] = 101.0
    for number in range(40):
        journal.append([instance_entry("i1", {"n": number}), epoch_entry(number)])
    assert len((tmp_path / "journal.jsonl").read_bytes().splitlines()) < 20
    assert answers(journal, "old", "unheard") == [None, "x"]
    journal.close()
    again = open_journal(tmp_path)
    assert again.records() == {"i1": {"n": 39}}
    assert again.epoch == 39
    assert [result.command_id for result in again.pending()] == ["unheard"]
    again.close()


def test_two_agents_cannot_share_a_folder(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    with pytest.raises(JournalError, match="another agent"):
        open_journal(tmp_path)
    journal.close()


_ENTRIES = st.lists(
    st.one_of(
        st.integers(0, 5).map(epoch_entry),
        st.sampled_from("abc").map(lambda c: intent_entry(Intent(c, "i", "launch", 100.0))),
        st.sampled_from("abc").map(done),
        st.lists(st.sampled_from("abc"), max_size=2).map(acknowledged_entry),
        st.sampled_from("xy").map(lambda i: instance_entry(i, {"n": 1})),
        st.sampled_from("xy").map(forgotten_entry),
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(_ENTRIES, st.sampled_from(["append", "note", "full"]))))
def test_memory_and_disk_never_differ_once_the_disk_is_well(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[list[Entry], str]]
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    disk = Disk()
    journal = open_journal(folder, disk)
    for entries, way in steps:
        disk.full, disk.torn = way == "full", 3
        if way == "append":
            journal.append(entries)
        else:
            journal.note(entries)
    disk.full = False
    journal.flush()

    def state(of: Journal) -> object:
        return of.epoch, of.pending(), of.records(), of.interrupted(), answers(of, *"abc")

    before = state(journal)
    journal.close()
    again = open_journal(folder)
    assert state(again) == before
    again.close()


def test_a_file_says_how_it_is_written_and_an_older_one_need_not(tmp_path: Path) -> None:
    line = journal_module._encode([epoch_entry(3)])
    (tmp_path / "journal.jsonl").write_bytes(line)  # as releases before wrote it
    journal = open_journal(tmp_path)
    journal.append([epoch_entry(4)])
    journal.close()
    ledger, damaged = peek(tmp_path)
    assert (ledger.epoch, ledger.format, ledger.release, damaged) == (4, FORMAT, __version__, 0)


def test_a_file_of_a_later_format_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    later = [{"k": "format", "format": FORMAT + 1, "release": "9.9.9"}, {"k": "new", "x": 1}]
    path = tmp_path / "journal.jsonl"
    path.write_bytes(journal_module._encode(later) + b"what only that release can read")
    before = path.read_bytes()
    for read in (open_journal, peek):
        with pytest.raises(JournalError, match=r"heteroscale 9\.9\.9 in format 2; this is .*move"):
            read(tmp_path)
    assert path.read_bytes() == before


def test_what_a_later_release_adds_is_passed_over(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append([{"k": "new", "x": 1}, {**epoch_entry(5), "why": "new"}, done("c1", "one")])
    journal.close()
    again = open_journal(tmp_path)
    assert (again.epoch, again.damaged_lines, answers(again, "c1")) == (5, 0, ["one"])
    again.close()
