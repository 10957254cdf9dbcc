"""How GPUs are called: short types, PCI addresses, MIG profiles."""

from __future__ import annotations

import re
from pathlib import Path

PCI_DEVICES = Path("/sys/bus/pci/devices")
UNKNOWN_TYPE = "unknown"
_FILLER = frozenset({"nvidia", "tesla", "geforce", "quadro", "amd", "instinct", "radeon"})


def short_type(name: str) -> str:
    """Shorten a driver's name to the type that specifications use.

    `NVIDIA H100 80GB HBM3` is `H100`, `Tesla T4` is `T4`, `NVIDIA GeForce RTX 4090` is `RTX4090`,
    `AMD Instinct MI300X` is `MI300X`.
    """
    words = [word for word in name.split() if word.lower() not in _FILLER]
    kept: list[str] = []
    for word in words:
        part = word.split("-")[0]
        if re.fullmatch(r"[A-Za-z]+[0-9]+[A-Za-z]*", part):
            return part
        kept.append(part)
        if re.search("[0-9]", part):
            break
    return "".join(kept) or UNKNOWN_TYPE


def pci_address(bus_id: str) -> str:
    """Write NVML's `00000000:1B:00.0` as sysfs does, `0000:1b:00.0`; empty when it is none."""
    found = re.fullmatch(r"0*([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", bus_id.lower())
    return found[1] if found else ""


def numa_node(pci_devices: Path, address: str) -> int | None:
    """Return the NUMA node of a PCI device, None where the kernel does not tell."""
    if not address:
        return None
    try:
        node = int((pci_devices / address / "numa_node").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None
