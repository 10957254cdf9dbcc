"""The file behind the record of decisions: a SQLite database that never grows beyond its cap.

Full means: the oldest fifth goes. ``synchronous=NORMAL``, for a power cut may cost the last words.
What is asked for by (time, action, what bound it …) stands in columns; the document is the decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError

from heteroscale_coordinator.core.model import Action, Decision
from heteroscale_coordinator.edge.store.codec import decode, encode
from heteroscale_coordinator.edge.store.port import StoreCorruptError, StoreError
from heteroscale_coordinator.edge.store.query import DecisionQuery, PageError, last_of
from heteroscale_coordinator.edge.store.sqlite import sqlite_engine

_VERSION = 2
_PAGE = 4096
_CHECK_EVERY = 64
"""Writes between two looks at the size."""
_NEARLY_FULL = 0.8

_metadata = sa.MetaData()
_table = sa.Table(
    "decisions",
    _metadata,
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, unique=True, nullable=False),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("began", sa.Float, nullable=False, server_default="0"),
    sa.Column("ended", sa.Float, nullable=False, server_default="0"),
    sa.Column("action", sa.Text, nullable=False, server_default=""),
    sa.Column("bound_by", sa.Text, nullable=False, server_default=""),
    sa.Column("advisory", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("instances", sa.Text, nullable=False, server_default=""),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Index("by_service", "service", "sequence"),
)
_ADDED = ("began", "ended", "action", "bound_by", "advisory", "instances")
"""Columns that version 1 had not, filled from its documents."""
_FILL = """
UPDATE decisions SET
  began = coalesce(json_extract(document, '$.at'), 0),
  ended = coalesce(nullif(json_extract(document, '$.last_at'), 0), json_extract(document, '$.at'), 0),
  action = coalesce(json_extract(document, '$.action'), ''),
  bound_by = coalesce(json_extract(document, '$.bound_by'), ''),
  advisory = coalesce(json_extract(document, '$.advisory'), 0),
  instances = coalesce((SELECT ' ' || group_concat(value, ' ') || ' '
                        FROM json_each(document, '$.instance_ids')), '')
WHERE json_valid(document)
"""
_log = structlog.get_logger(__name__)


class DecisionFile:
    """Decisions on disk at ``path``, at most ``max_bytes`` and a write-ahead log of a few MB.

    A file of an older version is brought up to this one. A damaged file, or one of a newer version,
    is moved aside and a new one begun. Everything raises StoreError when it cannot be done. Not for
    two threads at once.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._writes = 0
        self.engine = self._open()
        try:
            self._prepare()
        except StoreCorruptError as error:
            self.engine.dispose()
            _log.warning("decisions_moved_aside", path=str(path), why=str(error))
            self._move_aside()
            self.engine = self._open()
            self._prepare()

    def write(self, decisions: Iterable[Decision]) -> None:
        """Insert them in their order, or replace those that are there by id. All or none."""
        rows = [_row(decision) for decision in decisions]
        try:
            self._upsert(rows)
        except StoreError as error:
            if "full" not in str(error):
                raise
            self._prune()
            self._upsert(rows)
        self._writes += 1
        if self._writes % _CHECK_EVERY == 0 and self._used() > 0.9 * self._max_bytes:
            self._prune()

    def read(self, query: DecisionQuery) -> list[Decision]:
        """Return at most ``query.limit`` decisions, newest first.

        Raises:
            PageError: the decision that the page comes after is no longer here.

        """
        select = sa.select(_table).order_by(_table.c.sequence.desc()).limit(query.limit)
        if query.after:
            with self._connection() as connection:
                known = sa.select(_table.c.sequence).where(_table.c.id == query.after)
                sequence = connection.execute(known).scalar()
            if sequence is None:
                raise PageError(f"decision {query.after!r} is no longer kept: begin anew")
            select = select.where(_table.c.sequence < sequence)
        return self._decoded(select.where(*_narrowed(query)))

    def read_at(self, service: str, at: float) -> Decision | None:
        """Return the decision of ``service`` in force at a time: the newest that began until then."""
        select = sa.select(_table).where(_table.c.service == service, _table.c.began <= at)
        found = self._decoded(select.order_by(_table.c.sequence.desc()).limit(1))
        return found[0] if found else None

    def read_oldest(self, service: str) -> Decision | None:
        """Return the oldest decision of ``service`` that is kept."""
        select = sa.select(_table).where(_table.c.service == service)
        found = self._decoded(select.order_by(_table.c.sequence).limit(1))
        return found[0] if found else None

    def read_newest_of_each(self) -> list[Decision]:
        """Return the newest decision of every service."""
        newest = sa.select(sa.func.max(_table.c.sequence)).group_by(_table.c.service)
        return self._decoded(sa.select(_table).where(_table.c.sequence.in_(newest)))

    def close(self) -> None:
        """Release the file."""
        self.engine.dispose()

    def _open(self) -> sa.Engine:
        pages = self._max_bytes // _PAGE
        return sqlite_engine(self._path, synchronous="NORMAL", max_pages=pages)

    def _prepare(self) -> None:
        with self._connection() as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar() or 0
            if version > _VERSION:
                raise StoreCorruptError(f"decisions of version {version}, this one is {_VERSION}")
            if version == 1:
                _add_columns(connection)
            _metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {_VERSION}")

    def _upsert(self, rows: list[dict[str, Any]]) -> None:
        insert = sqlite.insert(_table)
        statement = insert.on_conflict_do_update(
            index_elements=[_table.c.id],
            set_={name: insert.excluded[name] for name in (*_ADDED, "document")},
        )
        with self._connection() as connection:
            connection.execute(statement, rows)

    def _decoded(self, query: sa.Select[Any]) -> list[Decision]:
        with self._connection() as connection:
            rows = connection.execute(query).all()
        found = []
        for row in rows:
            try:
                found.append(decode(Decision, row.document, row.id))
            except StoreCorruptError as error:
                _log.warning("decision_unreadable", why=str(error))
        return found

    def _used(self) -> int:
        with self._connection() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar() or 0
            free = connection.exec_driver_sql("PRAGMA freelist_count").scalar() or 0
        return int(pages - free) * _PAGE

    def _prune(self) -> None:
        """Delete the oldest fifth; its pages are used again."""
        sequence = _table.c.sequence
        with self._connection() as connection:
            bounds = sa.select(sa.func.min(sequence), sa.func.max(sequence))
            low, high = connection.execute(bounds).one()
            if low is not None:
                edge = low + (high - low) // 5
                connection.execute(sa.delete(_table).where(sequence <= edge))

    def _move_aside(self) -> None:
        try:
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            damaged = any(word in str(cause) for word in ("malformed", "not a database"))
            raise (StoreCorruptError if damaged else StoreError)(
                f"{self._path}: {cause}"
            ) from error


def _row(decision: Decision) -> dict[str, Any]:
    instances = " ".join(decision.instance_ids)
    return {
        "id": decision.decision_id,
        "service": decision.service,
        "began": decision.at,
        "ended": last_of(decision),
        "action": decision.action.value,
        "bound_by": decision.bound_by,
        "advisory": decision.advisory,
        "instances": f" {instances} " if instances else "",
        "document": encode(decision),
    }


def _narrowed(query: DecisionQuery) -> Iterator[sa.ColumnElement[bool]]:
    """Return the conditions that say the same as ``query.matches``."""
    columns = _table.c
    if query.service:
        yield columns.service == query.service
    if query.since is not None:
        yield columns.ended >= query.since
    if query.until is not None:
        yield columns.began < query.until
    if query.actions:
        yield columns.action.in_(query.actions)
    if query.bound_by:
        yield columns.bound_by.in_(query.bound_by)
    if query.only:
        yield columns.action != Action.HOLD.value
        yield columns.advisory.is_(query.only == "advice")
    if query.instance:
        yield sa.func.instr(columns.instances, f" {query.instance}") > 0


def _add_columns(connection: sa.Connection) -> None:
    """Bring version 1 up: nothing of its past is lost.

    A version 1 that is full has no room for the columns: its oldest fifth goes first, as always.
    """
    bounds = connection.exec_driver_sql("SELECT min(sequence), max(sequence) FROM decisions").one()
    full = connection.exec_driver_sql("PRAGMA page_count").scalar() or 0
    most = connection.exec_driver_sql("PRAGMA max_page_count").scalar() or 0
    if bounds[0] is not None and full > _NEARLY_FULL * most:
        edge = bounds[0] + (bounds[1] - bounds[0]) // 5
        connection.exec_driver_sql("DELETE FROM decisions WHERE sequence <= ?", (edge,))
    for name in _ADDED:
        kind = _table.c[name].type.compile(connection.dialect)
        # Every column that a migration adds has a default, else old rows could not be read.
        default = _table.c[name].server_default.arg  # type: ignore[union-attr]
        connection.exec_driver_sql(
            f"ALTER TABLE decisions ADD COLUMN {name} {kind} NOT NULL DEFAULT '{default}'"
        )
    connection.exec_driver_sql(_FILL)
