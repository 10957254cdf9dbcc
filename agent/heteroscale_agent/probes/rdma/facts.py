"""Finding RDMA ports, and the slow facts of each: names, places, rails."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from heteroscale_agent.config import RdmaSettings
from heteroscale_agent.model import Nic
from heteroscale_agent.probes import sysfs

MAX_PORTS = 64
"""More are left out: a host with so many shows virtual functions."""

_GIDS = 4
"""Entries of a GID table that are asked for their network device."""
_MAX_RATE_GBPS = 10_000.0
_MAX_NUMA_NODE = 1_023
_RATE = re.compile(rb"([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*Gb/sec\b")
_PORT = re.compile(r"[0-9]{1,3}")
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


@dataclass(frozen=True, slots=True)
class RdmaRules:
    """Which ports are watched, and what only their owner knows of them.

    Keys and patterns are a device's name (`mlx5_0`), or one of its ports (`mlx5_0/2`).
    """

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    limits_bps: Mapping[str, float] = field(default_factory=dict)
    """Usable bits per second where they are less than the link's; `default` for all others."""
    rails: Mapping[str, int] = field(default_factory=dict)
    rails_in_order: bool = False
    """Ports without an entry get rails 0, 1, 2 … in the order of their PCI addresses."""

    def wanted(self, nic: Nic) -> bool:
        """Tell whether a port is to be watched; network devices are matched too."""
        called = [nic.name, f"{nic.name}/{nic.port}", *([nic.netdev] if nic.netdev else [])]
        return _matches(called, self.include) and not _matches(called, self.exclude)

    def limit_bps(self, nic: Nic) -> float | None:
        """Return the configured limit of a port."""
        for key in (f"{nic.name}/{nic.port}", nic.name, "default"):
            if key in self.limits_bps:
                return self.limits_bps[key]
        return None

    def with_rails(self, nics: Sequence[Nic]) -> list[Nic]:
        """Return the ports with their rails, in their order."""
        ordered = sorted(nics, key=lambda nic: (_pci_order(nic.pci_address), nic.name, nic.port))
        places = {(nic.name, nic.port): place for place, nic in enumerate(ordered)}
        return [replace(nic, rail=self._rail(nic, places[nic.name, nic.port])) for nic in nics]

    def _rail(self, nic: Nic, place: int) -> int | None:
        for key in (f"{nic.name}/{nic.port}", nic.name):
            if key in self.rails:
                return self.rails[key]
        return place if self.rails_in_order else None


def rdma_rules(settings: RdmaSettings) -> RdmaRules:
    """Return the rules of an agent's document."""
    return RdmaRules(
        include=settings.include,
        exclude=settings.exclude,
        limits_bps={name: limit * 1e9 for name, limit in settings.limits.items()},
        rails=settings.rails,
        rails_in_order=settings.rails_in_order,
    )


def _matches(called: Iterable[str], patterns: Iterable[str]) -> bool:
    patterns = tuple(patterns)
    return any(fnmatchcase(name, pattern) for name in called for pattern in patterns)


def _pci_order(address: str) -> tuple[bool, str]:
    # Ports of no known place come last.
    return (not address, address.zfill(16))


def find(root: Path, rules: RdmaRules) -> list[tuple[Nic, Path]]:
    """Return every wanted port below `root` with its folder, in the order of their numbers.

    Raises:
        OSError: the devices cannot be listed. That there are none is no error.

    """
    found = {}
    for device in _devices(root):
        ports = filter(_PORT.fullmatch, sysfs.names(device / "ports"))
        for port in sorted(ports, key=int):
            folder = device / "ports" / port
            nic = _facts(device, folder)
            if rules.wanted(nic):
                found[nic.name, nic.port] = (nic, folder)
    kept = list(found.values())[:MAX_PORTS]
    railed = rules.with_rails([nic for nic, _ in kept])
    return [(nic, folder) for nic, (_, folder) in zip(railed, kept, strict=True)]


def _devices(root: Path) -> list[Path]:
    try:
        plain = (path for path in root.iterdir() if sysfs.is_plain(path.name))
        return sorted(plain, key=_natural)
    except FileNotFoundError:
        return []


def _natural(path: Path) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"([0-9]+)", path.name)
    ]


def _facts(device: Path, folder: Path) -> Nic:
    link_layer = sysfs.text(folder / "link_layer")
    numa_node = sysfs.number(device / "device" / "numa_node")
    return Nic(
        name=device.name,
        port=int(folder.name),
        pci_address=_pci_address(device),
        # -1 in sysfs: the firmware does not say.
        numa_node=numa_node if numa_node is not None and numa_node <= _MAX_NUMA_NODE else None,
        link_layer=link_layer,
        # What a driver without `hca_type` is called by its bus.
        hca_type=sysfs.text(device / "hca_type") or _driver(device),
        firmware=sysfs.text(device / "fw_ver"),
        node_guid=sysfs.text(device / "node_guid"),
        netdev=_netdev(device, folder) if link_layer == "Ethernet" else "",
    )


def _pci_address(device: Path) -> str:
    try:
        address = (device / "device").resolve(strict=True).name
    except (OSError, RuntimeError):
        return ""
    return address if _PCI_ADDRESS.fullmatch(address) else ""


def _driver(device: Path) -> str:
    try:
        return (device / "device" / "driver").resolve(strict=True).name
    except (OSError, RuntimeError):
        return ""


def _netdev(device: Path, folder: Path) -> str:
    """Return the network device of a RoCE port: its GIDs know it; else it is its device's only one."""
    for index in range(_GIDS):
        if name := sysfs.text(folder / "gid_attrs" / "ndevs" / str(index)):
            return name
    only = sysfs.names(device / "device" / "net")
    return only[0] if len(only) == 1 else ""


def rate_bps(said: bytes) -> int | None:
    """Read `400 Gb/sec (4X NDR)` as bits per second."""
    found = _RATE.match(said)
    rate = float(found[1]) if found else 0.0
    return round(rate * 1e9) if 0 < rate <= _MAX_RATE_GBPS else None
