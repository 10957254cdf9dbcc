"""GPUs and RDMA ports of a node: what stands there, what they last said, what is wrong with them.

Readings are many and looked at seldom, so a report keeps them as they came, and whoever looks has
them read (``Devices``). Only what every placement asks, whether a GPU is healthy, is ready at hand.
Unknown is ``None``, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from heteroscale.words import GpuHealth, NicDistance

THROTTLED = {1: "its power limit", 2: "heat", 4: "a hardware slowdown", 8: "another reason"}
"""Bits of ``GpuSample.throttle``, and what they say."""
_WORTH_SAYING = 2 | 4
"""At its power limit a busy GPU is where it should be."""
_NAMED = 8
"""So many ports or GPUs are named in one sentence."""


@dataclass(frozen=True, slots=True)
class GpuFact:
    """A GPU of a node."""

    index: int
    type: str
    memory_bytes: int = 0
    uuid: str = ""
    vendor: str = ""
    partition: str = ""
    """A MIG device's profile; empty: a whole GPU."""
    parent_uuid: str = ""
    nic_distances: tuple[NicDistance | None, ...] = ()
    """How far each port is, in the inventory's order; empty: unknown."""
    numa_node: int | None = None
    nvlink_group: int | None = None
    """GPUs of one number reach each other by NVLink; one that is alone has no such link."""


@dataclass(frozen=True, slots=True)
class NicFact:
    """A port of an RDMA device of a node."""

    name: str
    port: int = 1
    rate_gbps: float | None = None
    """The best it was seen to run at."""
    rail: int | None = None
    link_layer: str = ""
    netdev: str = ""
    numa_node: int | None = None

    @property
    def label(self) -> str:
        """Its device's name, with the port where it is not the first."""
        return self.name if self.port == 1 else f"{self.name}/{self.port}"


class GpuSample(NamedTuple):
    """One GPU's last readings; see ``GpuReadings`` on the wire."""

    health: GpuHealth | None = None
    utilization_percent: int | None = None
    memory_utilization_percent: int | None = None
    memory_used_mib: int | None = None
    power_watts: int | None = None
    temperature_celsius: int | None = None
    ecc_uncorrected: int | None = None
    ecc_corrected: int | None = None
    process_count: int | None = None
    foreign_process_count: int | None = None
    sm_activity_percent: int | None = None
    dram_activity_percent: int | None = None
    tensor_activity_percent: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttle: int | None = None
    pcie_received_mib_per_s: int | None = None
    pcie_sent_mib_per_s: int | None = None
    nvlink_received_mib_per_s: int | None = None
    nvlink_sent_mib_per_s: int | None = None
    xid_count: int | None = None
    last_xid: int | None = None


class NicSample(NamedTuple):
    """One port's last readings; counters are cumulative since the agent first saw it."""

    active: bool | None = None
    received_octets: int | None = None
    sent_octets: int | None = None
    errors: int | None = None
    congestion_marks: int | None = None
    retransmissions: int | None = None
    link_flaps: int | None = None
    share: float | None = None
    """The busier direction, 0 to 1 of what the port can carry."""
    rate_gbps: int | None = None
    xmit_wait: int | None = None


_ALL = 100
UNTOLD = 255
"""In a byte of percent: unknown."""


def percents(values: Sequence[int | None]) -> bytes:
    """Return percentages as bytes; what is unknown or out of range is ``UNTOLD``."""
    try:
        packed = bytes(values)  # type: ignore[arg-type] # nearly always all are known
    except (TypeError, ValueError):
        packed = bytes([UNTOLD])
    if max(packed, default=0) <= _ALL:
        return packed
    return bytes([UNTOLD if one is None or not 0 <= one <= _ALL else one for one in values])


class Devices(Protocol):
    """What a report says of devices, in the order of the inventory; may be shorter than that."""

    @property
    def healthy(self) -> tuple[bool, ...]:
        """Which GPUs answer their driver."""

    @property
    def suspect(self) -> bool:
        """Whether a GPU may be closed to new instances, so that looking closer is worth it."""

    @property
    def ports_up(self) -> int:
        """How many ports are active."""

    @property
    def ports_down(self) -> int:
        """How many are known not to be."""

    @property
    def utilization(self) -> bytes:
        """GPU utilisation of each GPU in percent; ``UNTOLD`` is unknown.

        Ready at hand, as it is folded into tracks with every report.
        """

    @property
    def sm_activity(self) -> bytes:
        """SM activity of each GPU, likewise."""

    @property
    def port_share(self) -> int:
        """Share of the busiest port in percent; ``UNTOLD`` is unknown."""

    def gpus(self) -> tuple[GpuSample, ...]:
        """Read the GPUs' columns."""

    def nics(self) -> tuple[NicSample, ...]:
        """Read the ports' columns."""


class KnownDevices:
    """Readings by value."""

    def __init__(self, gpus: Iterable[GpuSample] = (), nics: Iterable[NicSample] = ()) -> None:
        self._gpus, self._nics = tuple(gpus), tuple(nics)

    @property
    def healthy(self) -> tuple[bool, ...]:
        """Which GPUs answer their driver."""
        return tuple(gpu.health not in (GpuHealth.LOST, GpuHealth.ERROR) for gpu in self._gpus)

    @property
    def suspect(self) -> bool:
        """Whether any GPU is unwell or held by others, or any port is down."""
        told = any(g.ecc_uncorrected or g.xid_count or g.foreign_process_count for g in self._gpus)
        return told or self.ports_down > 0 or not all(self.healthy)

    @property
    def ports_up(self) -> int:
        """How many ports are active."""
        return sum(nic.active is True for nic in self._nics)

    @property
    def ports_down(self) -> int:
        """How many are known not to be."""
        return sum(nic.active is False for nic in self._nics)

    @property
    def utilization(self) -> bytes:
        """GPU utilisation of each GPU in percent."""
        return percents([gpu.utilization_percent for gpu in self._gpus])

    @property
    def sm_activity(self) -> bytes:
        """SM activity of each GPU in percent."""
        return percents([gpu.sm_activity_percent for gpu in self._gpus])

    @property
    def port_share(self) -> int:
        """Share of the busiest port in percent."""
        shares = [nic.share for nic in self._nics if nic.share is not None]
        return round(100 * max(shares)) if shares else UNTOLD

    def gpus(self) -> tuple[GpuSample, ...]:
        """Return the GPUs."""
        return self._gpus

    def nics(self) -> tuple[NicSample, ...]:
        """Return the ports."""
        return self._nics


NO_DEVICES = KnownDevices()


def troubles(
    gpus: Sequence[tuple[GpuFact, GpuSample]], nics: Sequence[tuple[NicFact, NicSample]]
) -> list[str]:
    """Return what a person should know of a node's devices, a sentence each; empty: nothing."""
    return [*_gpu_troubles(gpus), *_nic_troubles(nics)]


def _gpu_troubles(gpus: Sequence[tuple[GpuFact, GpuSample]]) -> Iterable[str]:
    for health, what in (
        (GpuHealth.LOST, "lost"),
        (GpuHealth.ERROR, "not answering the driver"),
    ):
        if sick := [fact.index for fact, seen in gpus if seen.health is health]:
            yield f"{_gpus(sick)} {what}"
    for bit, why in THROTTLED.items():
        held = [fact.index for fact, seen in gpus if (seen.throttle or 0) & bit & _WORTH_SAYING]
        if held:
            yield f"{_gpus(held)} slowed down by {why}"
    if broken := [fact.index for fact, seen in gpus if seen.ecc_uncorrected]:
        yield f"{_gpus(broken)} with uncorrected ECC errors"


def _gpus(indices: Sequence[int]) -> str:
    return f"GPU{'s' if len(indices) > 1 else ''} {_names(map(str, indices))}"


def _nic_troubles(nics: Sequence[tuple[NicFact, NicSample]]) -> Iterable[str]:
    down = [fact.label for fact, seen in nics if seen.active is False]
    if len(down) > 1 and len(down) == len(nics):
        yield f"all {len(nics)} RDMA ports down"
    elif down:
        yield f"RDMA port{'s' if len(down) > 1 else ''} down: {_names(down)}"
    for fact, seen in nics:
        if fact.rate_gbps and seen.rate_gbps and seen.rate_gbps < round(fact.rate_gbps):
            yield f"RDMA port {fact.label} at {seen.rate_gbps} of {fact.rate_gbps:g} Gb/s"


def _names(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:_NAMED]) + (" …" if len(every) > _NAMED else "")
