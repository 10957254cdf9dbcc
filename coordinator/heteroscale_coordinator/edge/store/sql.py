"""The store on any database that SQLAlchemy speaks to with upserts: SQLite now, PostgreSQL later.

One transaction a commit. It begins with the compare-and-set on the epoch; the rest is batched
upserts of whole documents, so that repeating a commit whose outcome was unsure does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from heteroscale_coordinator.core.cordon import Cordon
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.model import Command, Instance, Inventory, Service
from heteroscale_coordinator.edge.store import tables
from heteroscale_coordinator.edge.store.codec import decode, encode
from heteroscale_coordinator.edge.store.port import (
    Snapshot,
    StoreConflictError,
    StoreCorruptError,
    StoreError,
)

_T = TypeVar("_T")
_DAMAGED = ("malformed", "not a database", "disk image", "corrupt")
MIGRATIONS = Path(__file__).parent / "migrations"


class SqlStore:
    """See ``port.Store``. Owns ``engine`` and disposes of it; ``place`` names it in errors."""

    def __init__(self, engine: sa.Engine, place: str) -> None:
        self.engine = engine
        self.place = place
        self._epoch = 0
        self._closed = False

    def migrate(self) -> None:
        """Create the tables, or bring them up to this version.

        Raises:
            StoreCorruptError: no database, or one that a newer version wrote.
            StoreError: it could not be written.

        """
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        scripts = ScriptDirectory.from_config(config)
        with self.transaction("migrating") as connection:
            present = MigrationContext.configure(connection).get_current_heads()
            known = {script.revision for script in scripts.walk_revisions()}
            if not known.issuperset(present):
                raise StoreCorruptError(
                    f"{self.place} was written by a newer version (its tables are "
                    f"{', '.join(present)}): run that version, or restore an older copy"
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def load(self) -> Snapshot:
        """Read everything; see ``port.Store.load``."""
        with self.transaction("reading") as connection:
            row = connection.execute(sa.select(tables.meta)).one_or_none()
            if row is None:
                raise StoreCorruptError(f"{self.place}: the table `meta` has lost its row")
            snapshot = Snapshot(
                _read(connection, tables.services, Service),
                _read(connection, tables.instances, Instance),
                _read(connection, tables.commands, Command),
                _read(connection, tables.inventories, Inventory),
                _read(connection, tables.cordons, Cordon),
                row.epoch,
                row.last_now,
            )
        self._epoch = snapshot.epoch
        return snapshot

    def commit(self, changes: Changes, now: float) -> None:
        """Write services, instances, commands and cordons; see ``port.Store.commit``."""
        # The heavy part comes before the transaction.
        plans = [
            _Plan(tables.services, changes.services),
            _Plan(tables.instances, changes.instances),
            _Plan(tables.commands, changes.commands),
            _Plan(tables.cordons, changes.cordons),
        ]
        later = sa.case((tables.meta.c.last_now < now, now), else_=tables.meta.c.last_now)
        with self.transaction("committing") as connection:
            self._claim(connection, last_now=later)
            for plan in plans:
                plan.run(connection)

    def set_epoch(self, epoch: int) -> None:
        """Lead with ``epoch``; see ``port.Store.set_epoch``."""
        if epoch < self._epoch:
            raise StoreConflictError(f"epoch {epoch} is below the stored {self._epoch}")
        with self.transaction("setting the epoch") as connection:
            self._claim(connection, epoch=epoch)
        self._epoch = epoch

    def save_inventory(self, agent_id: str, inventory: Inventory) -> None:
        """Keep one inventory."""
        self.save_inventories({agent_id: inventory})

    def save_inventories(self, inventories: Mapping[str, Inventory]) -> None:
        """Keep inventories; see ``port.Store.save_inventories``."""
        plan = _Plan(tables.inventories, inventories)
        with self.transaction("keeping inventories") as connection:
            self._claim(connection, epoch=self._epoch)
            plan.run(connection)

    def close(self) -> None:
        """Release the connections; see ``port.Store.close``."""
        self._closed = True
        self.engine.dispose()

    def _claim(self, connection: sa.Connection, **values: Any) -> None:
        """Write the row of facts if the epoch is still ours, else raise StoreConflictError."""
        mine = tables.meta.c.epoch == self._epoch
        if connection.execute(sa.update(tables.meta).where(mine).values(values)).rowcount != 1:
            stored = connection.execute(sa.select(tables.meta.c.epoch)).scalar()
            raise StoreConflictError(
                f"another coordinator leads: epoch {stored} is stored, ours is {self._epoch}"
            )

    @contextmanager
    def transaction(self, doing: str) -> Iterator[sa.Connection]:
        """Give a connection in one transaction; errors come out as the port's."""
        if self._closed:
            raise StoreError("the store is closed")
        try:
            with self.engine.connect() as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            # After a failed write the connection's own view is not to be trusted.
            self.engine.dispose()
            raise self._explained(doing, error) from error

    def _explained(self, doing: str, error: SQLAlchemyError) -> StoreError:
        cause = getattr(error, "orig", None) or error
        text = f"{doing} {self.place}: {cause}"
        if isinstance(error, DatabaseError) and any(word in str(cause) for word in _DAMAGED):
            return StoreCorruptError(f"{text}: move it away and restore a copy, or start anew")
        return StoreError(text)


class _Plan:
    """Upserts and deletes of one table, encoded and ready."""

    def __init__(self, table: sa.Table, changed: Mapping[str, object | None]) -> None:
        self._table = table
        self._upserts = [
            {"id": key, "document": encode(value)}
            for key, value in changed.items()
            if value is not None
        ]
        self._deletes = [{"key": key} for key, value in changed.items() if value is None]

    def run(self, connection: sa.Connection) -> None:
        """Carry it out within the connection's transaction."""
        if self._upserts:
            connection.execute(_upsert(connection, self._table), self._upserts)
        if self._deletes:
            gone = self._table.c.id == sa.bindparam("key")
            connection.execute(sa.delete(self._table).where(gone), self._deletes)


def _upsert(connection: sa.Connection, table: sa.Table) -> sa.Executable:
    insert: sqlite.Insert | postgresql.Insert = sqlite.insert(table)
    if connection.dialect.name == "postgresql":
        insert = postgresql.insert(table)
    return insert.on_conflict_do_update(
        index_elements=[table.c.id], set_={"document": insert.excluded.document}
    )


def _read(connection: sa.Connection, table: sa.Table, kind: type[_T]) -> dict[str, _T]:
    rows: Sequence[Any] = connection.execute(sa.select(table)).all()
    return {row.id: decode(kind, row.document, row.id) for row in rows}
