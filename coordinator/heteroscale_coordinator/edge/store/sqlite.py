"""The default store: one SQLite file in the data directory, locked against a second coordinator.

WAL with ``synchronous=FULL``: what ``commit`` has returned from survives a power cut. One
connection, because there is one writer.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from heteroscale_coordinator.edge.store.codec import to_text
from heteroscale_coordinator.edge.store.port import StoreCorruptError, StoreError, StoreLockedError
from heteroscale_coordinator.edge.store.sql import SqlStore

FILE_NAME = "coordinator.db"
BUSY_TIMEOUT_S = 5.0


class DirectoryLock:
    """Holds a directory for this process until ``release``; the kernel lets go when we die."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"data directory {directory}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 20, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise StoreLockedError(
                f"data directory {directory} is in use by another coordinator"
                f"{f' (pid {holder})' if holder else ''}: stop it, or give this one its own"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes lock two different files."""
        os.close(self._descriptor)


class SqliteStore(SqlStore):
    """A ``SqlStore`` that holds the lock of its directory."""

    def __init__(self, engine: sa.Engine, place: str, lock: DirectoryLock) -> None:
        super().__init__(engine, place)
        self._lock = lock

    def close(self) -> None:
        """Close the file and let go of the directory."""
        if not self._closed:
            super().close()
            self._lock.release()


def open_sqlite(data_dir: Path) -> SqliteStore:
    """Open or create the store in ``data_dir``, migrated and checked.

    Raises:
        StoreLockedError: another coordinator runs on this directory.
        StoreCorruptError: the file is damaged, or of a newer version.
        StoreError: it cannot be opened or written.

    """
    lock = DirectoryLock(data_dir)
    path = data_dir / FILE_NAME
    store = SqliteStore(sqlite_engine(path, synchronous="FULL"), str(path), lock)
    try:
        _check(store)
        store.migrate()
    except BaseException:
        store.close()
        raise
    return store


def sqlite_engine(path: Path, *, synchronous: str, max_pages: int | None = None) -> sa.Engine:
    """Return an engine of one connection on ``path``; ``max_pages`` makes it full early."""
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        pool_size=1,
        max_overflow=0,
        json_serializer=to_text,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # The driver's own idea of when a transaction begins leaves DDL and reads outside it.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        if max_pages is not None:
            connection.execute(f"PRAGMA max_page_count = {max_pages}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _check(store: SqlStore) -> None:
    with store.transaction("checking") as connection:
        verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if verdict != "ok":
        raise StoreCorruptError(
            f"{store.place} is damaged ({verdict}): move it away and restore a copy, or start anew"
        )
