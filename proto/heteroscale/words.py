"""The words of the field, shared by every house: roles, the life of an instance, gates.

Pure values without a library, so that the coordinator's core may use them. On the wire they are the
enums of ``heteroscale/v1/types.proto``; ``heteroscale.convert`` maps one to the other by name.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The work an instance does for its service."""

    PREFILL = "prefill"
    DECODE = "decode"
    AGGREGATED = "aggregated"
    ATTENTION = "attention"
    FFN = "ffn"


class InstanceState(StrEnum):
    """The life of an instance; which change follows which is a table in each house that owns one."""

    PENDING = "pending"
    LAUNCHING = "launching"
    WARMING = "warming"
    IN_SERVICE = "in_service"
    WITHDRAWN = "withdrawn"
    DRAINING = "draining"
    TERMINATED = "terminated"
    FAILED = "failed"
    LOST = "lost"
    UNKNOWN = "unknown"


class WithdrawReason(StrEnum):
    """Why a healthy instance is out of service."""

    SOFT_SCALE_IN = "soft_scale_in"
    RATIO_HOLD = "ratio_hold"
    OPERATOR = "operator"
    MAINTENANCE = "maintenance"
    SICK = "sick"


class GateState(StrEnum):
    """What every listed router was last seen to say of an instance."""

    OPEN = "open"
    OPENING = "opening"
    CLOSED = "closed"
    CLOSING = "closing"


class ScrapeQuality(StrEnum):
    """How much an engine's reading can be relied on."""

    OK = "ok"
    STALE = "stale"
    MISSING = "missing"


class Outcome(StrEnum):
    """How a command ended."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"


class GpuHealth(StrEnum):
    """Whether a GPU answers its driver."""

    OK = "ok"
    LOST = "lost"
    ERROR = "error"


class NicDistance(StrEnum):
    """What lies between a GPU and a NIC, nearest first, in the words of ``nvidia-smi topo -m``."""

    PIX = "pix"
    PXB = "pxb"
    PHB = "phb"
    NODE = "node"
    SYS = "sys"


LATENCY_BOUNDS_MS: tuple[int, ...] = (
    *(1, 2, 5, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750),
    *(1000, 1500, 2000, 3000, 5000, 10000, 20000, 60000),
)
"""Upper bounds of the one latency grid of the wire; the last bucket, after these, is unbounded."""

WITHIN = "heteroscale.io/within"
"""Label of an agent's inventory: ``<cluster>/<node>``, the scheduler's node that it stands in.
Its GPUs are that node's, and offered there."""

TOPOLOGY_LEVELS: tuple[str, ...] = (
    *("s0", "s1", "s2", "logical_cluster", "physical_cluster", "vdc"),
)
"""Network domains from the nearest outward: s1 is a minipod, s2 a bigpod."""
