"""The file behind the record of decisions: a SQLite database that never grows beyond its cap.

Full means: the oldest fifth goes. ``synchronous=NORMAL``, for a power cut may cost the last words.
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

from heteroscale_coordinator.core.model import Decision
from heteroscale_coordinator.edge.store.codec import decode, encode
from heteroscale_coordinator.edge.store.port import StoreCorruptError, StoreError
from heteroscale_coordinator.edge.store.sqlite import sqlite_engine

_VERSION = 1
_PAGE = 4096
_CHECK_EVERY = 64
"""Writes between two looks at the size."""

_metadata = sa.MetaData()
_table = sa.Table(
    "decisions",
    _metadata,
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, unique=True, nullable=False),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Index("by_service", "service", "sequence"),
)
_log = structlog.get_logger(__name__)


class DecisionFile:
    """Decisions on disk at ``path``, at most ``max_bytes`` and a write-ahead log of a few MB.

    A damaged file, or one of another version, is moved aside and a new one begun. Everything raises
    StoreError when it cannot be done. Not for two threads at once.
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
        rows = [
            {"id": d.decision_id, "service": d.service, "document": encode(d)} for d in decisions
        ]
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

    def read(self, service: str, limit: int) -> list[Decision]:
        """Return at most ``limit``, newest first; of every service when it is empty."""
        query = sa.select(_table).order_by(_table.c.sequence.desc()).limit(limit)
        return self._decoded(query.where(_table.c.service == service) if service else query)

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
            version = connection.exec_driver_sql("PRAGMA user_version").scalar()
            if version not in (0, _VERSION):
                raise StoreCorruptError(f"decisions of version {version}, this one is {_VERSION}")
            _metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {_VERSION}")

    def _upsert(self, rows: list[dict[str, Any]]) -> None:
        insert = sqlite.insert(_table)
        statement = insert.on_conflict_do_update(
            index_elements=[_table.c.id], set_={"document": insert.excluded.document}
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
