"""A store in memory that behaves like the real one and can be made to fail.

It ships with the package: tests and the simulator use it. ``Backing`` is what would lie on disk; a
second ``MemoryStore`` over the same backing is a restarted, or a rival, coordinator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.model import Inventory
from heteroscale_coordinator.edge.store.codec import encode, to_text
from heteroscale_coordinator.edge.store.port import (
    Snapshot,
    StoreConflictError,
    StoreError,
)

_T = TypeVar("_T")
Operation = Literal["load", "commit", "set_epoch", "save_inventories"]
FOR_EVER = -1


@dataclass(slots=True)
class Backing:
    """What lasts when a handle is closed."""

    kept: Snapshot = field(default_factory=Snapshot)
    commits: int = 0
    """Commits that succeeded, for tests that count them."""


class MemoryStore:
    """See ``port.Store``. Faults: ``fail`` and ``heal``, or override a method."""

    def __init__(self, backing: Backing | None = None) -> None:
        self.backing = backing or Backing()
        self._epoch = self.backing.kept.epoch
        self._closed = False
        self._faults: dict[Operation, tuple[int, StoreError]] = {}

    def fail(self, operation: Operation, error: StoreError, *, times: int = FOR_EVER) -> None:
        """Let the next ``times`` calls of ``operation`` raise; nothing is written then."""
        self._faults[operation] = (times, error)

    def heal(self) -> None:
        """Take back every fault."""
        self._faults.clear()

    def load(self) -> Snapshot:
        """Return a copy of everything; see ``port.Store.load``."""
        self._enter("load")
        kept = self.backing.kept
        self._epoch = kept.epoch
        return Snapshot(
            dict(kept.services),
            dict(kept.instances),
            dict(kept.commands),
            dict(kept.inventories),
            dict(kept.cordons),
            kept.epoch,
            kept.last_now,
        )

    def commit(self, changes: Changes, now: float) -> None:
        """Take over the changes; see ``port.Store.commit``."""
        self._enter("commit")
        self._require_leading()
        _require_storable(changes.services, changes.instances, changes.commands, changes.cordons)
        kept = self.backing.kept
        _merge(kept.services, changes.services)
        _merge(kept.instances, changes.instances)
        _merge(kept.commands, changes.commands)
        _merge(kept.cordons, changes.cordons)
        kept.last_now = max(kept.last_now, now)
        self.backing.commits += 1

    def set_epoch(self, epoch: int) -> None:
        """Lead with ``epoch``; see ``port.Store.set_epoch``."""
        self._enter("set_epoch")
        self._require_leading()
        if epoch < self._epoch:
            raise StoreConflictError(f"epoch {epoch} is below the stored {self._epoch}")
        self._epoch = self.backing.kept.epoch = epoch

    def save_inventory(self, agent_id: str, inventory: Inventory) -> None:
        """Keep one inventory."""
        self.save_inventories({agent_id: inventory})

    def save_inventories(self, inventories: Mapping[str, Inventory]) -> None:
        """Keep inventories; see ``port.Store.save_inventories``."""
        self._enter("save_inventories")
        self._require_leading()
        _require_storable(inventories)
        self.backing.kept.inventories.update(inventories)

    def close(self) -> None:
        """Refuse everything from now on; the backing stays."""
        self._closed = True

    def _enter(self, operation: Operation) -> None:
        if self._closed:
            raise StoreError("the store is closed")
        times, error = self._faults.get(operation, (0, None))
        if error is None or times == 0:
            return
        if times > 0:
            self._faults[operation] = (times - 1, error)
        raise error

    def _require_leading(self) -> None:
        stored = self.backing.kept.epoch
        if stored != self._epoch:
            raise StoreConflictError(
                f"another coordinator leads: epoch {stored} is stored, ours is {self._epoch}"
            )


def _require_storable(*tables: Mapping[str, object | None]) -> None:
    """Raise StoreError for what a database would refuse too, so that tests see it."""
    for table in tables:
        for key, value in table.items():
            try:
                to_text(encode(value))
            except ValueError as error:
                raise StoreError(f"{key} cannot be stored: {error}") from error


def _merge(table: dict[str, _T], changed: Mapping[str, _T | None]) -> None:
    for key, value in changed.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
