"""One face for every store under test: open again, open as a rival, break the disk, mend it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from heteroscale_coordinator.edge.store import Store, StoreError
from heteroscale_coordinator.edge.store.memory import Backing, MemoryStore
from heteroscale_coordinator.edge.store.sql import SqlStore
from heteroscale_coordinator.edge.store.sqlite import FILE_NAME, open_sqlite, sqlite_engine


class Provider(Protocol):
    def open(self) -> Store:
        """Return a handle on what lasts."""
        ...

    def rival(self) -> Store:
        """Return a second handle while the first is open: another coordinator's."""
        ...

    def fill_disk(self, store: Store) -> None:
        """Let writes of this handle fail for want of room."""
        ...

    def free_disk(self, store: Store) -> None:
        """Let them succeed again."""
        ...


class MemoryProvider:
    def __init__(self) -> None:
        self._backing = Backing()

    def open(self) -> MemoryStore:
        return MemoryStore(self._backing)

    def rival(self) -> MemoryStore:
        return self.open()

    def fill_disk(self, store: Store) -> None:
        assert isinstance(store, MemoryStore)
        for operation in ("commit", "set_epoch", "save_inventories"):
            store.fail(operation, StoreError("database or disk is full"))

    def free_disk(self, store: Store) -> None:
        assert isinstance(store, MemoryStore)
        store.heal()


class SqliteProvider:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._pages = 1_000_000

    def open(self) -> SqlStore:
        store = open_sqlite(self.directory)

        @sa.event.listens_for(store.engine, "begin")
        def _limit(connection: sa.Connection) -> None:
            # SQLite never goes below the present size, so the file is full from here on.
            connection.exec_driver_sql(f"PRAGMA max_page_count = {self._pages}")

        return store

    def rival(self) -> SqlStore:
        path = self.directory / FILE_NAME
        return SqlStore(sqlite_engine(path, synchronous="FULL"), str(path))

    def fill_disk(self, store: Store) -> None:
        self._pages = 1

    def free_disk(self, store: Store) -> None:
        self._pages = 1_000_000


def providers() -> dict[str, Any]:
    return {"memory": lambda _: MemoryProvider(), "sqlite": SqliteProvider}
