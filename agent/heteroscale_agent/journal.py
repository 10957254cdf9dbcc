"""Intents and outcomes on disk: what makes "at most once" outlive a kill -9.

A file of lines, each a checksum and a JSON list of entries that stand or fall together; appended
and synced before the agent acts on them. A torn last line is cut off at the next start. After a
failed write the file's tail is in doubt, so the next write makes the file anew from memory first
(new file, sync, rename). The file is made anew as well when it is mostly history.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from heteroscale import __version__
from heteroscale_agent.ledger import FORMAT, Entry, Intent, Ledger, format_entry
from heteroscale_agent.model import CommandResult

_log = structlog.get_logger(__name__)

FILE = "journal.jsonl"
COMPACT_AFTER_LINES = 2000
Write = Callable[[int, bytes], int]
Sync = Callable[[int], None]


class JournalError(RuntimeError):
    """The journal cannot be written, opened or read; nothing may be done that it should tell of."""


class Journal:
    """One agent's journal. Safe to call from threads; `append` blocks for a disk sync.

    Raises:
        JournalError: the folder cannot be written, or another agent holds it.

    """

    def __init__(
        self,
        folder: Path,
        *,
        wall: Callable[[], float],
        write: Write = os.write,
        sync: Sync = os.fsync,
    ) -> None:
        self._path = folder / FILE
        self._wall = wall
        self._write, self._sync = write, sync
        self._io = threading.Lock()
        self._state = threading.Lock()
        self._ledger = Ledger()
        self._backlog: list[Entry] = []
        self._lines = 0
        self._suspect = self._signed = False
        self.damaged_lines = 0
        """Lines in the middle of the file that could not be read and were left out."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder / "journal.lock")
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            self._replay()
        except OSError as error:
            raise JournalError(f"cannot open {self._path}: {error}") from error
        except JournalError:
            self.close()
            raise

    # ---- reading ----

    @property
    def epoch(self) -> int:
        """The highest epoch heard."""
        return self._ledger.epoch

    def answer(self, command_id: str) -> CommandResult | None:
        """Return the newest answer given to a command, or None."""
        with self._state:
            return self._ledger.answers.get(command_id)

    def keep_until(self, command_id: str) -> float:
        """Return until when (wall clock) the answer of a command is kept; 0 when unknown."""
        with self._state:
            intent = self._ledger.intents.get(command_id)
            return intent.keep_until if intent else self._ledger.keep.get(command_id, 0.0)

    def interrupted(self) -> list[Intent]:
        """Return commands that were begun and never answered: the agent died in their midst."""
        with self._state:
            return list(self._ledger.intents.values())

    def pending(self) -> list[CommandResult]:
        """Return answers not yet acknowledged, oldest first; an id may stand twice."""
        with self._state:
            return list(self._ledger.pending)

    def records(self) -> dict[str, Entry]:
        """Return the newest record of every instance."""
        with self._state:
            return dict(self._ledger.records)

    def logs(self) -> list[str]:
        """Return forgotten instances whose log files are still there, oldest first."""
        with self._state:
            return list(self._ledger.logs)

    # ---- writing ----

    def append(self, entries: Iterable[Entry]) -> None:
        """Write ``entries`` as one, synced, then count them as true.

        Raises:
            JournalError: nothing of it is on disk, and nothing of it counts.

        """
        fresh = list(entries)
        with self._io:
            self._put(fresh)
            self._fold(fresh)

    def note(self, entries: Iterable[Entry]) -> bool:
        """Count ``entries`` as true at once, written now or with the next write that succeeds.

        For what has happened anyway (a process ended); return whether it is on disk.
        """
        fresh = list(entries)
        with self._io:
            self._fold(fresh)
            self._backlog.extend(fresh)
            return self._flush()

    def flush(self) -> bool:
        """Try to write what `note` could not; return whether nothing is left."""
        with self._io:
            return self._flush()

    @property
    def behind(self) -> bool:
        """Whether something noted is not on disk yet."""
        return bool(self._backlog)

    def close(self) -> None:
        """Close the file and let another agent have the folder."""
        with self._io:
            os.close(self._fd)
            os.close(self._lock)
            # A number given up may soon be another file's.
            self._fd = self._lock = -1

    def _flush(self) -> bool:
        if not self._backlog:
            return True
        try:
            self._put([])
        except JournalError as error:
            _log.warning("journal.behind", entries=len(self._backlog), error=str(error))
            return False
        return True

    def _fold(self, entries: Iterable[Entry]) -> None:
        with self._state:
            for entry in entries:
                self._ledger.apply(entry)

    def _put(self, fresh: list[Entry]) -> None:
        """Write the backlog and ``fresh`` as one line, or neither."""
        try:
            if self._suspect or self._lines >= COMPACT_AFTER_LINES:
                self._rewrite()
                # The backlog was counted before: the file made from memory has it.
                self._backlog.clear()
            entries = [*self._backlog, *fresh]
            if entries and not self._signed:
                # First, so that a release that cannot read the rest knows it before it tries.
                entries.insert(0, format_entry())
            if entries:
                _write_all(self._write, self._fd, _encode(entries))
                self._sync(self._fd)
                self._lines += 1
                self._signed = True
        except OSError as error:
            self._suspect = True
            raise JournalError(f"{error.strerror or error} ({self._path})") from error
        self._backlog.clear()

    def _rewrite(self) -> None:
        """Make the file anew from memory: the state, without what is about to be written."""
        fresh = self._path.with_suffix(".new")
        with self._state:
            self._ledger.prune(self._wall())
            lines = [_encode([entry]) for entry in self._ledger.snapshot(self._wall())]
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            _write_all(self._write, fd, b"".join(lines))
            self._sync(fd)
            fresh.replace(self._path)
            _sync_folder(self._path.parent, self._sync)
        except OSError:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._lines, self._suspect = fd, 0, False
        self._signed = True

    def _replay(self) -> None:
        data = self._path.read_bytes()
        self._ledger, read = _fold_file(data)
        if (too_new := _too_new(self._path, self._ledger)) is not None:
            # Before anything is cut off: what cannot be read here may be whole to its own release.
            raise too_new
        self._lines, self.damaged_lines = read.lines, read.damaged
        if self.damaged_lines:
            _log.error("journal.damaged", path=str(self._path), lines=self.damaged_lines)
        if read.good < len(data):
            os.ftruncate(self._fd, read.good)
            self._sync(self._fd)


def peek(folder: Path) -> tuple[Ledger, int]:
    """Return what the journal of a state directory says, and how many lines are damaged.

    For those who only look: takes no lock, and mends nothing.

    Raises:
        OSError: it cannot be read.
        JournalError: a newer release has written it.

    """
    path = folder / FILE
    ledger, read = _fold_file(path.read_bytes())
    if (too_new := _too_new(path, ledger)) is not None:
        raise too_new
    return ledger, read.damaged


@dataclass(slots=True)
class _Read:
    """How a file was read: its whole lines, those that could not be read, and octets that are good."""

    lines: int = 0
    damaged: int = 0
    good: int = 0


def _fold_file(data: bytes) -> tuple[Ledger, _Read]:
    ledger, read = Ledger(), _Read()
    for line in data.splitlines(keepends=True):
        entries = _decode(line)
        if entries is None and read.good + len(line) == len(data):
            # Torn by a crash in mid-write: nobody was told of it, so it never was.
            break
        read.good += len(line)
        if entries is None:
            read.damaged += 1
            continue
        read.damaged += not _fold_all(ledger, entries)
        read.lines += 1
    return ledger, read


def _fold_all(ledger: Ledger, entries: list[Entry]) -> bool:
    try:
        for entry in entries:
            ledger.apply(entry)
    except (KeyError, TypeError, ValueError):
        return False
    return True


def _too_new(path: Path, ledger: Ledger) -> JournalError | None:
    if ledger.format <= FORMAT:
        return None
    return JournalError(
        f"{path} was written by heteroscale {ledger.release or 'of a later release'} in format "
        f"{ledger.format}; this is {__version__}, which reads up to {FORMAT}: install that release "
        "again, or move the file away (running engines are then adopted from what they carry)"
    )


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise OSError(error.errno, "another agent uses this state directory") from error
    return fd


def _sync_folder(folder: Path, sync: Sync) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(fd)
    finally:
        os.close(fd)


def _write_all(write: Write, fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[write(fd, bytes(view)) :]


def _encode(entries: list[Entry]) -> bytes:
    body = json.dumps(entries, separators=(",", ":"), ensure_ascii=True).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _decode(line: bytes) -> list[Entry] | None:
    body = line[9:-1]
    try:
        if not line.endswith(b"\n") or int(line[:8], 16) != zlib.crc32(body):
            return None
        entries = json.loads(body)
    except ValueError:
        return None
    return entries if isinstance(entries, list) else None
