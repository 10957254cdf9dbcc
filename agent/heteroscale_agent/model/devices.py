"""What stands on a host, and what its devices say. Unknown is ``None``, never zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.words import GpuHealth, NicDistance, Role


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a MIG device of one; columns of readings are in the inventory's order.

    ``index`` is the agent's own number of it: it never moves to another GPU while something holds it.
    """

    index: int
    uuid: str
    name: str
    type: str
    memory_bytes: int
    pci_address: str = ""
    numa_node: int | None = None
    vendor: str = "nvidia"
    partition: str = ""
    """A MIG device's profile, such as ``1g.10gb``; empty: a whole GPU."""
    parent_uuid: str = ""
    """The GPU that a MIG device is a part of."""
    nic_distances: tuple[NicDistance | None, ...] = ()
    """How far each NIC is, in the inventory's order; empty: unknown."""
    visible: str = ""
    """How an engine is told of it in CUDA_VISIBLE_DEVICES; empty: by its index."""
    present: bool = True
    """False: it keeps its place, but does not answer, so nothing is launched on it."""
    nvlink_group: int | None = None
    """GPUs of one number reach each other by NVLink; one that is alone has no such link."""


@dataclass(frozen=True, slots=True)
class Nic:
    """One port of an RDMA device."""

    name: str
    port: int
    pci_address: str = ""
    numa_node: int | None = None
    rate_bps: int | None = None
    link_layer: str = ""
    hca_type: str = ""
    firmware: str = ""
    node_guid: str = ""
    rail: int | None = None
    """The plane of switches that it is wired to."""
    netdev: str = ""
    """The kernel's network device of a RoCE port."""


@dataclass(frozen=True, slots=True)
class TemplateInfo:
    """What the coordinator may know of a launch template."""

    name: str
    role: Role
    gpus: int
    engine: str
    switches_role: bool = False
    """Its engines change between prefill and decode while they run."""
    engine_version: str = ""
    """As an engine launched from it said last, else as the configuration says; empty: untold."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """Slow facts of a host; sent when their hash is not known to the coordinator."""

    gpus: tuple[Gpu, ...] = ()
    nics: tuple[Nic, ...] = ()
    cpu_count: int = 0
    memory_bytes: int = 0
    topology: Mapping[str, str] = field(default_factory=dict)
    templates: tuple[TemplateInfo, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    kernel: str = ""
    driver_version: str = ""
    topology_sources: Mapping[str, str] = field(default_factory=dict)
    """Level to where its name came from, in words."""
    taints: tuple[str, ...] = ()
    """``key=value:effect``, as Kubernetes has them."""


THROTTLE_POWER, THROTTLE_HEAT, THROTTLE_HARDWARE, THROTTLE_OTHER = 1, 2, 4, 8
"""Power limit; heat; hardware slowdown or power brake; another reason that costs speed."""


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process on a GPU. ``sm_percent`` is its share of the SMs' time since the reading before."""

    pid: int
    memory_bytes: int | None = None
    sm_percent: float | None = None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment; None is unknown (not supported, lost, or the driver failed)."""

    health: GpuHealth = GpuHealth.OK
    utilization_percent: int | None = None
    memory_utilization_percent: int | None = None
    memory_used_bytes: int | None = None
    power_watts: float | None = None
    temperature_celsius: int | None = None
    ecc_uncorrected: int | None = None
    process_count: int | None = None
    sm_activity_percent: float | None = None
    """Share of the time in which an SM had work, over all SMs (NVML GPM, Hopper and newer)."""
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttle: int | None = None
    """What holds the clocks down, a sum of the ``THROTTLE_…`` bits; 0: nothing."""
    pcie_received_mib_per_s: float | None = None
    pcie_sent_mib_per_s: float | None = None
    nvlink_received_mib_per_s: float | None = None
    """All links together."""
    nvlink_sent_mib_per_s: float | None = None
    ecc_corrected: int | None = None
    xid_count: int | None = None
    """Xid events since the agent started."""
    last_xid: int | None = None
    """Code of the last of them; 0: none yet."""
    dram_activity_percent: float | None = None
    tensor_activity_percent: float | None = None
    foreign_process_count: int | None = None
    """Processes on it that belong to no instance of this host."""
    processes: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True, slots=True)
class NicReading:
    """Raw counters of one port as sysfs gives them; only words are made octets already.

    Counters that are reported as a sum stand here one by one, by name: each wraps on its own, and a
    sum of wrapped counters cannot be made whole again. One that exists and cannot be read is None.
    """

    at: float = 0.0
    """When it was read, on the agent's clock."""
    active: bool | None = None
    rate_bps: int | None = None
    """Unknown while the link is down."""
    received_octets: int | None = None
    sent_octets: int | None = None
    errors: Mapping[str, int | None] = field(default_factory=dict)
    congestion_marks: Mapping[str, int | None] = field(default_factory=dict)
    retransmissions: Mapping[str, int | None] = field(default_factory=dict)
    link_downed: int | None = None
    xmit_wait: int | None = None
    """Ticks in which data waited and none was sent; the adapter says how long a tick is."""


@dataclass(frozen=True, slots=True)
class HostReading:
    """CPU, memory and load of the host."""

    cpu_percent: float | None = None
    memory_used_bytes: int | None = None
    load_1m: float | None = None
