"""Where the coordinator's memory lies: a port, SQLite behind it, and a twin that can fail."""

from heteroscale_coordinator.edge.store.port import (
    Snapshot,
    Store,
    StoreConflictError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
)

__all__ = [
    "Snapshot",
    "Store",
    "StoreConflictError",
    "StoreCorruptError",
    "StoreError",
    "StoreLockedError",
]
