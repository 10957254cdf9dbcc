"""Files that others read and several agents write: changed whole, under a lock beside them.

Nobody ever reads half a file: it is written under another name and renamed. The lock is not waited
for (whoever holds it may be stopped); the next pass tries again. Storage that hangs holds up only
the files on it: each file has a thread of its own, and is unknown while that thread is stuck.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from heteroscale_agent.probes.worker import Worker

MAX_FILE_BYTES = 4 * 1024 * 1024
DEADLINE = 5.0
"""Seconds for one look at a file and one change of it."""

Result = TypeVar("Result")


@dataclass(slots=True)
class _Turn:
    """One job of one thread: whether it began, has ended, and whether nobody waits any more."""

    begun: bool = False
    ended: bool = False
    given_up: bool = False

    def take(self, job: Callable[[], Result]) -> Result:
        self.begun = True
        try:
            if self.given_up:
                raise TimeoutError("nobody waits for it any more")
            return job()
        finally:
            self.ended = True


class Desk:
    """Does the blocking work on shared files, one thing after the other for each file."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self._stuck: dict[str, _Turn] = {}

    async def do(self, place: str, job: Callable[[], Result], deadline: float = DEADLINE) -> Result:
        """Return what ``job`` returns, in the thread of ``place``.

        Raises:
            OSError: it took longer than ``deadline``, an earlier one still hangs, or as ``job`` does.

        """
        if (earlier := self._stuck.get(place)) is not None:
            if not earlier.ended:
                raise TimeoutError("an earlier look at it still hangs")
            del self._stuck[place]
        turn = _Turn()
        future = self._worker(place).call(partial(turn.take, job))
        done, _ = await asyncio.wait({future}, timeout=deadline)
        if done:
            return future.result()
        # In this order: either the thread sees that it is given up, or here is seen that it began.
        turn.given_up = True
        if turn.begun and not turn.ended:
            self._stuck[place] = turn
        future.cancel()
        raise TimeoutError(f"no answer within {deadline:g} s")

    def close(self) -> None:
        """Let all threads end after what they are at."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def _worker(self, place: str) -> Worker:
        worker = self._workers.get(place)
        if worker is None:
            worker = self._workers[place] = Worker("shared file")
        return worker


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of ``path``, or raise BlockingIOError at once."""
    with path.with_name(path.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def read_text(path: Path) -> str:
    """Return the text of a file, empty where there is none.

    Raises:
        OSError: it cannot be read as a whole: what is left of it must never be written back.

    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return ""
    if len(data) > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"longer than {MAX_FILE_BYTES} bytes")
    return data.decode("utf-8", errors="surrogateescape")


def write_whole(path: Path, text: str) -> None:
    """Replace the file by ``text``; its mode stays, so whoever read it can read it still."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8", errors="surrogateescape") as file:
        with suppress(FileNotFoundError):
            os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def below(text: str) -> PurePosixPath | None:
    """Return ``text`` as a path below some folder, or None where it leads out of it."""
    path = PurePosixPath(text)
    return None if not path.name or path.is_absolute() or ".." in path.parts else path
