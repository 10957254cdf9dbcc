"""Device readings off the wire: kept as they came, read when somebody looks.

Nothing here raises: what is out of range is unknown, and columns are cut. A report comes thousands of
times a second, and its thirty columns are looked at when a person asks, so only two small counts, the
GPUs' health, and what tracks keep are taken at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import zip_longest
from typing import Any

from heteroscale.convert import from_wire
from heteroscale.v1 import agent_pb2
from heteroscale.words import GpuHealth, NicDistance
from heteroscale_coordinator.core.devices import (
    NO_DEVICES,
    UNTOLD,
    Devices,
    GpuSample,
    NicFact,
    NicSample,
    percents,
)

MAX_GPUS = 64
MAX_NICS = 256

_SICK = frozenset({agent_pb2.GPU_HEALTH_LOST, agent_pb2.GPU_HEALTH_ERROR})
_SUSPECT = ("ecc_uncorrected", "xid_count", "foreign_process_count")
_HEALTH = {int(n): from_wire(GpuHealth, n) for n in agent_pb2.GpuHealth.values()}
_DISTANCES = {int(n): from_wire(NicDistance, n) for n in agent_pb2.NicDistance.values()}
_ANY = (1 << 63) - 1
_PERCENT = 100
_PERMILLE = 1_000
_ALL_BITS = 15
_GPU_MOST = tuple(
    (name, _PERCENT if name.endswith("_percent") else _ALL_BITS if name == "throttle" else _ANY)
    for name in GpuSample._fields
    if name != "health"
)
_NIC_COUNTERS = (
    *("received_octets", "sent_octets", "errors", "congestion_marks", "retransmissions"),
    *("link_flaps", "rate_gbps", "xmit_wait"),
)


class PackedDevices:
    """The devices of one report, as bytes: a tenth of what they take as columns."""

    __slots__ = (
        *("_gpus", "_nics", "healthy", "ports_down", "ports_up", "suspect"),
        *("port_share", "sm_activity", "utilization"),
    )

    def __init__(self, message: agent_pb2.Report) -> None:
        gpus, nics = message.gpus, message.nics
        self.healthy: tuple[bool, ...] = tuple(
            [health not in _SICK for health in gpus.health[:MAX_GPUS]]
        )
        active = nics.active[:MAX_NICS]
        self.ports_up: int = active.count(1)
        self.ports_down: int = active.count(0)
        self.suspect: bool = (
            self.ports_down > 0
            or not all(self.healthy)
            or any(max(getattr(gpus, name), default=0) > 0 for name in _SUSPECT)
        )
        self.utilization: bytes = percents(gpus.utilization_percent[:MAX_GPUS])
        self.sm_activity: bytes = percents(gpus.sm_activity_percent[:MAX_GPUS])
        share = max(nics.share_permille[:MAX_NICS], default=-1)
        self.port_share: int = (share + 5) // 10 if 0 <= share <= _PERMILLE else UNTOLD
        self._gpus: bytes = gpus.SerializeToString()
        self._nics: bytes = nics.SerializeToString()

    def gpus(self) -> tuple[GpuSample, ...]:
        """Read the GPUs' columns."""
        message = agent_pb2.GpuReadings.FromString(self._gpus)
        health = [_HEALTH.get(number) for number in message.health[:MAX_GPUS]]
        columns = [_column(message, name, most, MAX_GPUS) for name, most in _GPU_MOST]
        return tuple(map(GpuSample._make, _rows([health, *columns])))

    def nics(self) -> tuple[NicSample, ...]:
        """Read the ports' columns."""
        message = agent_pb2.NicReadings.FromString(self._nics)
        columns = {name: _column(message, name, _ANY, MAX_NICS) for name in _NIC_COUNTERS}
        shares = _column(message, "share_permille", _PERMILLE, MAX_NICS)
        columns["share"] = [None if v is None else v / _PERMILLE for v in shares]
        active = _column(message, "active", 1, MAX_NICS)
        columns["active"] = [None if v is None else bool(v) for v in active]
        return tuple(map(NicSample._make, _rows([columns[name] for name in NicSample._fields])))


def devices(message: agent_pb2.Report) -> Devices:
    """Return what a report says of devices."""
    if message.HasField("gpus") or message.HasField("nics"):
        return PackedDevices(message)
    return NO_DEVICES


def _column(message: Any, name: str, most: int, limit: int) -> list[Any]:
    return [value if 0 <= value <= most else None for value in getattr(message, name)[:limit]]


def _rows(columns: list[list[Any]]) -> Iterator[tuple[Any, ...]]:
    """Return columns as rows; what a shorter one lacks is unknown."""
    return zip_longest(*columns)


@lru_cache(maxsize=65_536)
def nic_fact(
    *,
    name: str,
    port: int,
    rate_bps: int,
    rail: int | None,
    link_layer: str,
    netdev: str,
    numa_node: int,
) -> NicFact:
    """Return a port; hosts that are built alike share one."""
    return NicFact(
        name=name,
        port=port,
        rate_gbps=rate_bps / 1e9 if 0 < rate_bps <= _ANY else None,
        rail=rail,
        link_layer=link_layer,
        netdev=netdev,
        numa_node=numa_node if numa_node >= 0 else None,
    )


@lru_cache(maxsize=65_536)
def distances(numbers: tuple[int, ...]) -> tuple[NicDistance | None, ...]:
    """Return how far ports are; hosts that are built alike share one."""
    return tuple(_DISTANCES.get(number) for number in numbers)
