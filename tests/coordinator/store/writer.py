"""A process that commits until it is killed: `writer.py DIRECTORY DIE_INSIDE` (0: never by itself).

Prints the number of each commit once it has returned. Every commit writes its number everywhere.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import sys
from pathlib import Path

import sqlalchemy as sa

from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.edge.store.sqlite import open_sqlite
from tests.coordinator.values import NOW, instance, service


def changes(number: int) -> Changes:
    rows = (dataclasses.replace(instance(f"i-{n}"), generation=number) for n in range(300))
    return Changes(
        {"chat": dataclasses.replace(service(), paused=str(number))},
        {row.instance_id: row for row in rows},
    )


def main(directory: Path, die_inside: int) -> None:
    store = open_sqlite(directory)
    for number in itertools.count(1):
        if number == die_inside:
            # Everything is written, and COMMIT is what comes next.
            sa.event.listen(store.engine, "commit", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        store.commit(changes(number), NOW + number)
        print(number, flush=True)  # noqa: T201 — the parent reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
