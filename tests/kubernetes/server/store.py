"""What is kept: objects, one counter of revisions for all of them, and the log that watches read."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.kubernetes.server.errors import Json, expired

Table = tuple[str, str]
"""API group and plural name: all versions of a kind are kept in one table."""
Key = tuple[str, str]
"""Namespace (empty for what has none) and name."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change. ``before`` is None for what is new, ``after`` for what is gone."""

    revision: int
    table: Table
    key: Key
    before: Json | None
    after: Json | None


class Store:
    """Objects are never changed in place: whoever has one has it as it was."""

    def __init__(self, revision: int = 1000) -> None:
        self.revision = revision
        self.compacted = revision
        self._tables: dict[Table, dict[Key, Json]] = {}
        self._log: list[Event] = []
        self._listeners: list[Callable[[Event], None]] = []

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Have ``listener`` called at each change; returns how to end that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def get(self, table: Table, key: Key) -> Json | None:
        """Return a copy."""
        return copy.deepcopy(self._tables.get(table, {}).get(key))

    def peek(self, table: Table) -> Iterator[Json]:
        """Yield the objects of a table in the order of the real server, not copied: only to look at."""
        rows = self._tables.get(table, {})
        for key in sorted(rows):
            yield rows[key]

    def tables(self) -> list[Table]:
        return sorted(self._tables)

    def put(self, table: Table, key: Key, value: Json) -> Json:
        """Write, with the next revision in ``metadata.resourceVersion``; returns a copy."""
        self.revision += 1
        value = copy.deepcopy(value)
        value["metadata"]["resourceVersion"] = str(self.revision)
        rows = self._tables.setdefault(table, {})
        before = rows.get(key)
        rows[key] = value
        self._tell(Event(self.revision, table, key, before, value))
        return copy.deepcopy(value)

    def drop(self, table: Table, key: Key, last: Json | None = None) -> Json:
        """Remove; ``last`` is how it looked at the end, if that was never written."""
        self.revision += 1
        before = self._tables[table].pop(key)
        gone = copy.deepcopy(last or before)
        gone["metadata"]["resourceVersion"] = str(self.revision)
        self._tell(Event(self.revision, table, key, gone, None))
        return copy.deepcopy(gone)

    def since(self, table: Table, revision: int) -> list[Event]:
        """Return the changes of a table after ``revision``; 410 if the log no longer reaches there."""
        if revision < self.compacted:
            raise expired(f"too old resource version: {revision} ({self.compacted})")
        return [e for e in self._log if e.revision > revision and e.table == table]

    def at(self, table: Table, revision: int) -> list[Json]:
        """Return a table's objects as they were at ``revision``, in order, not copied."""
        if revision < self.compacted:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. "
                "You can start a new list without the continue parameter."
            )
        rows = dict(self._tables.get(table, {}))
        for event in reversed(self._log):
            if event.revision <= revision:
                break
            if event.table != table:
                continue
            if event.before is None:
                rows.pop(event.key, None)
            else:
                rows[event.key] = event.before
        return [rows[key] for key in sorted(rows)]

    def compact(self) -> None:
        """Forget the log: whoever goes on from before now gets 410."""
        self.compacted = self.revision
        self._log.clear()

    def skip(self, count: int = 1) -> None:
        """Let revisions pass, as objects of others would."""
        self.revision += count

    def _tell(self, event: Event) -> None:
        self._log.append(event)
        for listener in list(self._listeners):
            listener(event)
