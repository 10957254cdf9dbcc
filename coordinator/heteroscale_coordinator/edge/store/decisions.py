"""Why the fleet is as it is: the record of decisions, in a database of its own with a size cap.

It is worth less than the fleet: whatever fails here is said once and never stops the loop. What
could not be written stays in memory, the newest thousand of it.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import structlog

from heteroscale_coordinator.core.model import Decision
from heteroscale_coordinator.edge.store.decision_file import DecisionFile
from heteroscale_coordinator.edge.store.fit import fit
from heteroscale_coordinator.edge.store.port import StoreError
from heteroscale_coordinator.edge.store.query import DecisionPage, DecisionQuery, PageError, page_of
from heteroscale_coordinator.edge.store.runs import RunLength

FILE_NAME = "decisions.db"
MAX_BYTES = 256 * 1024 * 1024
FLUSH_EVERY_S = 60.0
"""The count of a run that goes on is written so often; a kill loses at most that much of it."""
RETRY_EVERY_S = 10.0
"""After a failed write the next is tried so much later, for all that waits is encoded anew."""
KEPT = 1000
_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class DecisionLog:
    """Records decisions run-length; ``path`` None keeps them in memory only.

    ``record`` and what reads the past do I/O, and may be called from different threads; ``latest``
    does none. No failing disk raises here.
    """

    def __init__(self, path: Path | None, *, max_bytes: int = MAX_BYTES) -> None:
        self._lock = threading.Lock()
        self._failing = ""
        self._failed_at: float | None = None
        self._file: DecisionFile | None = None
        self._recent: dict[str, Decision] = {}
        self._latest: dict[str, Decision] = {}
        self._unwritten: set[str] = set()
        self._written_at: dict[str, float] = {}
        self._runs = RunLength()
        self._begun: dict[str, int] = {}
        """Of what is in ``_recent``: the how-manieth run it is."""
        self._begins = itertools.count()
        if path is not None:
            with self._forgiving("opening"):
                self._file = DecisionFile(path, max_bytes)
                self._latest = {d.service: d for d in self._file.read_newest_of_each()}

    @property
    def failing(self) -> str:
        """Why decisions cannot be written or read; empty: they can."""
        return self._failing

    def record(self, decisions: Sequence[Decision]) -> None:
        """Take decisions in, in their order; equal ones prolong their run."""
        with self._lock:
            for decision in decisions:
                self._take(self._runs.fold(decision))
            if decisions and not self._resting(decisions[-1].last_at):
                self._write([d for d in self._waiting() if self._due(d)])

    def latest(self, service: str) -> Decision | None:
        """Return the newest decision of ``service``, or None when there is none."""
        return self._latest.get(service)

    def latest_of_all(self) -> list[Decision]:
        """Return the newest decision of every service."""
        return list(self._latest.values())

    def newest(self, service: str = "", limit: int = 20) -> list[Decision]:
        """Return at most ``limit`` decisions, newest first; of every service when it is empty."""
        return list(self.select(DecisionQuery(service, limit)).decisions)

    def select(self, query: DecisionQuery) -> DecisionPage:
        """Return a page of what is asked for, newest first.

        Raises:
            PageError: the record no longer knows where the page begins.

        """
        more = replace(query, limit=query.limit + 1)
        found = self._read(lambda file: file.read(more), lambda kept: _selected(kept, more))
        return page_of(found, query.limit)

    def at(self, service: str, at: float) -> Decision | None:
        """Return the decision of ``service`` in force at a time; None: the record begins later."""
        query = DecisionQuery(service, 1, until=math.nextafter(at, math.inf))
        return self._read(
            lambda file: file.read_at(service, at),
            lambda kept: next(iter(_selected(kept, query)), None),
        )

    def oldest(self, service: str) -> Decision | None:
        """Return the oldest decision of ``service`` that is kept."""
        return self._read(
            lambda file: file.read_oldest(service),
            lambda kept: next((d for d in reversed(kept) if d.service == service), None),
        )

    def _read(
        self, stored: Callable[[DecisionFile], _T], kept: Callable[[list[Decision]], _T]
    ) -> _T:
        """Return what the file tells; what memory tells when it cannot be read."""
        with self._lock:
            self._write(self._waiting())
            if self._file is not None and not self._failing:
                with self._forgiving("reading"):
                    return stored(self._file)
            # As in the file: by when a run began, not by when it was last heard of.
            begun = sorted(self._recent.values(), key=lambda d: self._begun[d.decision_id])
            return kept(begun[::-1])

    def close(self) -> None:
        """Write what is left and release the file."""
        with self._lock:
            self._write(self._waiting())
            if self._file is not None:
                self._file.close()

    def _take(self, decision: Decision) -> None:
        decision = fit(decision)
        key = decision.decision_id
        self._recent.pop(key, None)
        self._recent[key] = self._latest[decision.service] = decision
        self._unwritten.add(key)
        if key not in self._begun:
            self._begun[key] = next(self._begins)
        if len(self._recent) > KEPT:
            oldest = next(iter(self._recent))
            del self._recent[oldest]
            self._unwritten.discard(oldest)
            self._written_at.pop(oldest, None)
            self._begun.pop(oldest, None)

    def _waiting(self) -> list[Decision]:
        return [d for key in self._unwritten if (d := self._recent.get(key)) is not None]

    def _resting(self, now: float) -> bool:
        if not self._failing:
            return False
        self._failed_at = now if self._failed_at is None else self._failed_at
        if now - self._failed_at < RETRY_EVERY_S:
            return True
        self._failed_at = None
        return False

    def _due(self, decision: Decision) -> bool:
        goes_on = self._latest[decision.service].decision_id == decision.decision_id
        written_at = self._written_at.get(decision.decision_id)
        return not goes_on or written_at is None or decision.last_at - written_at >= FLUSH_EVERY_S

    def _write(self, due: list[Decision]) -> None:
        if self._file is None or not due:
            return
        with self._forgiving("writing"):
            self._file.write(sorted(due, key=lambda d: self._begun[d.decision_id]))
            for decision in due:
                self._unwritten.discard(decision.decision_id)
                self._written_at[decision.decision_id] = decision.last_at
            if self._failing:
                _log.info("decisions_written_again")
            self._failing = ""

    @contextmanager
    def _forgiving(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (StoreError, OSError) as error:
            why = f"{doing} decisions: {error}"
            if why != self._failing:
                _log.warning("decisions_failing", why=why)
            self._failing = why


def _selected(kept: list[Decision], query: DecisionQuery) -> list[Decision]:
    if query.after:
        places = [n for n, d in enumerate(kept) if d.decision_id == query.after]
        if not places:
            raise PageError(f"decision {query.after!r} is no longer kept: begin anew")
        kept = kept[places[0] + 1 :]
    return list(islice((d for d in kept if query.matches(d)), query.limit))
