"""What the loop asks of a store.

Calls block and are meant for one writer thread. Every write is all or nothing and durable when the
call returns. Compare-and-set is on the epoch: a handle writes under the epoch it last loaded or
set, and once another coordinator has set a higher one its writes are refused, so that two
coordinators can never mix their rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from heteroscale_coordinator.core.cordon import Cordon
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.model import Command, Instance, Inventory, Service


class StoreError(Exception):
    """The store could not do it, and nothing was changed. The text is for the operator."""


class StoreConflictError(StoreError):
    """Another coordinator leads by now: this one must not write any more."""


class StoreLockedError(StoreError):
    """Another process holds the data directory."""


class StoreCorruptError(StoreError):
    """What is stored cannot be read: damaged, or written by a newer version."""


@dataclass(slots=True)
class Snapshot:
    """All that is durable, as of one commit. The dicts belong to the caller."""

    services: dict[str, Service] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    commands: dict[str, Command] = field(default_factory=dict)
    inventories: dict[str, Inventory] = field(default_factory=dict)
    """By agent id."""
    cordons: dict[str, Cordon] = field(default_factory=dict)
    """By ``cordon.key``."""
    epoch: int = 0
    """Highest epoch ever led with here; 0: never."""
    last_now: float = 0.0
    """Time of the newest commit, seconds since 1970; the clock must not go back behind it."""


class Store(Protocol):
    """Durable services, instances, commands, inventories, cordons, epoch and time."""

    def load(self) -> Snapshot:
        """Read everything, and write under the stored epoch from now on.

        Raises:
            StoreCorruptError: with what is damaged and what to do.
            StoreError: it could not be read.

        """
        ...

    def commit(self, changes: Changes, now: float) -> None:
        """Make the services, instances, commands and cordons of ``changes`` durable, all or none.

        ``None`` deletes a row; one that is not there is no error. ``last_now`` becomes
        ``max(last_now, now)``. Decisions and effects are not the store's.

        Raises:
            StoreConflictError: a higher epoch has been set by somebody else.
            StoreError: nothing was committed; the same changes may be tried again.

        """
        ...

    def set_epoch(self, epoch: int) -> None:
        """Lead with ``epoch`` from now on, if nobody has set another one since this handle's last.

        The handle's own epoch again is a repetition and no error.

        Raises:
            StoreConflictError: lower than this handle's, or somebody else has set one.
            StoreError: it could not be written.

        """
        ...

    def save_inventory(self, agent_id: str, inventory: Inventory) -> None:
        """Keep one agent's inventory; as ``save_inventories`` of one."""
        ...

    def save_inventories(self, inventories: Mapping[str, Inventory]) -> None:
        """Keep many at once, for the flood of hellos after a restart. All or none.

        Raises:
            StoreConflictError: a higher epoch has been set by somebody else.
            StoreError: nothing was kept.

        """
        ...

    def close(self) -> None:
        """Release files and locks. A closed store refuses everything else with StoreError."""
        ...
