"""A cluster in memory behind the port: for tests, for trying things out, and as the smallest example."""

from heteroscale_scheduler_adapters.memory.adapter import MemoryAdapter
from heteroscale_scheduler_adapters.memory.cluster import MemoryCluster
from heteroscale_scheduler_adapters.memory.faults import (
    Fault,
    Hang,
    LostAnswer,
    Refusal,
    Unavailable,
)
from heteroscale_scheduler_adapters.memory.options import create

__all__ = [
    "Fault",
    "Hang",
    "LostAnswer",
    "MemoryAdapter",
    "MemoryCluster",
    "Refusal",
    "Unavailable",
    "create",
]
