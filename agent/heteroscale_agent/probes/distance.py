"""How far a GPU is from a NIC, from where both hang in the PCI tree of sysfs.

A resolved path such as `/sys/devices/pci0000:15/0000:15:01.0/0000:16:00.0/0000:17:00.0/0000:18:00.0`
names, from the host bridge inward, every bridge on the way: a root port, and for each switch one
port upward and one downward. What two paths share tells what a transfer between them crosses; the
words are those of `nvidia-smi topo -m`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from heteroscale.words import NicDistance
from heteroscale_agent.probes import sysfs

DEFAULT_PCI_ROOT = Path("/sys/bus/pci/devices")

_ADDRESS = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")
_HOST_BRIDGE = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class PciPlace:
    """Where a device hangs: host bridge, bridges, itself; and its NUMA node, if that is known."""

    path: tuple[str, ...]
    numa_node: int | None = None


def distance(one: PciPlace, other: PciPlace) -> NicDistance | None:
    """Return what lies between two devices; None when the NUMA nodes would tell and do not."""
    shared = 0
    for left, right in zip(one.path, other.path, strict=False):
        if left != right:
            break
        shared += 1
    if shared == 0:
        if one.numa_node is None or other.numa_node is None:
            return None
        return NicDistance.NODE if one.numa_node == other.numa_node else NicDistance.SYS
    if shared == 1:
        return NicDistance.PHB
    # Below the bridge that both share, one switch has one port on the way to each.
    bridges = max(len(place.path) - shared - 1 for place in (one, other))
    return NicDistance.PIX if bridges <= 1 else NicDistance.PXB


class Places:
    """Finds devices by their PCI address, each once."""

    def __init__(self, root: Path = DEFAULT_PCI_ROOT) -> None:
        self._root = root
        self._found: dict[str, PciPlace | None] = {}

    def distance(self, one: str, other: str) -> NicDistance | None:
        """Return what lies between two addresses; None when either is not found."""
        left, right = self.place(one), self.place(other)
        return None if left is None or right is None else distance(left, right)

    def place(self, address: str) -> PciPlace | None:
        """Return where a device hangs; None when sysfs does not know it."""
        if address not in self._found:
            self._found[address] = self._look(address)
        return self._found[address]

    def _look(self, address: str) -> PciPlace | None:
        name = as_sysfs(address)
        if name is None:
            return None
        link = self._root / name
        try:
            parts = Path(os.path.realpath(link, strict=True)).parts
        except OSError:
            return None
        # Hypervisors put host bridges deep below buses of their own.
        bridges = [place for place, part in enumerate(parts) if _HOST_BRIDGE.fullmatch(part)]
        if not bridges:
            return None
        return PciPlace(parts[bridges[0] :], sysfs.number(link / "numa_node"))


def as_sysfs(address: str) -> str | None:
    """Return a PCI address as sysfs writes it: NVML says `00000000:1B:00.0`, sysfs `0000:1b:00.0`."""
    found = _ADDRESS.fullmatch(address.strip().lower())
    return f"{int(found[1] or '0', 16):04x}:{found[2]}" if found else None
