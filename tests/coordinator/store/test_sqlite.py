"""What only a file can suffer: a second process, damage, another version, a kill in mid-commit."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.edge.store import (
    StoreCorruptError,
    StoreError,
    StoreLockedError,
)
from heteroscale_coordinator.edge.store.sqlite import FILE_NAME, open_sqlite
from heteroscale_coordinator.edge.store.tables import metadata
from tests.coordinator.values import NOW, instance, service

WRITER = Path(__file__).with_name("writer.py")


def filled(directory: Path) -> Path:
    store = open_sqlite(directory)
    store.commit(Changes({"chat": service()}, {f"i-{n}": instance() for n in range(500)}), NOW)
    store.close()
    return directory / FILE_NAME


def test_two_coordinators_on_one_directory_are_refused_in_words(tmp_path: Path) -> None:
    first = open_sqlite(tmp_path)
    with pytest.raises(StoreLockedError, match=r"in use by another coordinator \(pid \d+\)"):
        open_sqlite(tmp_path)
    first.close()
    open_sqlite(tmp_path).close()


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="data directory"):
        open_sqlite(tmp_path / "file" / "data")


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.write_bytes(b"not at all what it was" * 500)
    with pytest.raises(StoreCorruptError, match="restore a copy"):
        open_sqlite(tmp_path)
    path.unlink()
    open_sqlite(tmp_path).close()


def test_a_damaged_page_is_found_at_the_start(tmp_path: Path) -> None:
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    data[5 * 4096 : 7 * 4096] = b"\xa5" * 8192
    path.write_bytes(data)
    with pytest.raises(StoreCorruptError, match=r"damaged|malformed"):
        open_sqlite(tmp_path)


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_a_newer_versions_tables_are_refused(tmp_path: Path) -> None:
    execute(filled(tmp_path), "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreCorruptError, match="newer version"):
        open_sqlite(tmp_path)


def test_a_newer_field_of_a_value_is_passed_over(tmp_path: Path) -> None:
    path = filled(tmp_path)
    execute(path, "UPDATE instances SET document = json_set(document, '$.mood', 'good')")
    store = open_sqlite(tmp_path)
    assert store.load().instances["i-3"] == instance()
    store.close()


def test_a_newer_field_of_a_specification_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path)
    execute(path, "UPDATE services SET document = json_set(document, '$.spec.mood', 'good')")
    store = open_sqlite(tmp_path)
    with pytest.raises(StoreCorruptError, match=r"Service 'chat': spec\.mood: is of a newer"):
        store.load()
    store.close()


def test_migrations_build_exactly_the_tables_of_the_code(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path)
    found = sa.inspect(store.engine)
    assert set(found.get_table_names()) == {*metadata.tables, "alembic_version"}
    for name, table in metadata.tables.items():
        columns = {c["name"]: (str(c["type"]), c["nullable"]) for c in found.get_columns(name)}
        assert columns == {
            c.name: (c.type.compile(store.engine.dialect), c.nullable) for c in table.columns
        }
    store.close()


def write_until_killed(directory: Path, *, die_inside: int) -> list[int]:
    """Run the writer until it dies inside commit ``die_inside``, or is killed after 20 commits."""
    with subprocess.Popen(
        [sys.executable, str(WRITER), str(directory), str(die_inside)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    ) as process:
        assert process.stdout is not None
        told: list[int] = []
        for line in process.stdout:
            told.append(int(line))
            if len(told) >= 20:
                process.send_signal(signal.SIGKILL)
                break
        told += [int(line) for line in process.stdout]
    assert process.returncode == -signal.SIGKILL
    return told


@pytest.mark.parametrize("die_inside", [4, 0], ids=["before-commit", "anywhere"])
def test_kill_9_loses_nothing_committed_and_keeps_nothing_torn(
    tmp_path: Path, die_inside: int
) -> None:
    told = write_until_killed(tmp_path, die_inside=die_inside)
    store = open_sqlite(tmp_path)
    found = store.load()
    store.close()
    newest = int(found.services["chat"].paused)
    assert newest in ({told[-1]} if die_inside else {told[-1], told[-1] + 1})
    assert {i.generation for i in found.instances.values()} == {newest}
    assert found.last_now == NOW + newest
