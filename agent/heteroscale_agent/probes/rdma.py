"""RDMA ports from sysfs, `/sys/class/infiniband`.

Names and units are those of the kernel's `Documentation/ABI/stable/sysfs-class-infiniband`. A
file that is missing or holds no number makes its reading unknown. Which error files a port has
differs between adapters, so they are listed once, when the port is found: were one to come and
go, their sum would seem to jump.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from heteroscale_agent.model import Nic, NicReading

DEFAULT_ROOT = Path("/sys/class/infiniband")

ERROR_FILES = (
    *("symbol_error", "link_downed", "link_error_recovery", "port_rcv_errors"),
    *("port_xmit_discards", "local_link_integrity_errors", "excessive_buffer_overrun_errors"),
)
"""In `counters/`: things that go wrong on the link."""

HW_ERROR_FILES = (
    *("out_of_buffer", "out_of_sequence", "packet_seq_err", "local_ack_timeout_err"),
    *("rnr_nak_retry_err", "implied_nak_seq_err", "req_cqe_error", "resp_cqe_error"),
)
"""In `hw_counters/`: things that go wrong in the transport. Congestion marks are no errors."""

_WORD = 4
"""port_*_data count words of four octets."""
_ACTIVE = 4
_MAX_COUNTER = 1 << 64
_MAX_RATE_GBPS = 10_000.0
_FILE_BYTES = 256


@dataclass(frozen=True, slots=True)
class _Port:
    nic: Nic
    folder: Path
    errors: tuple[Path, ...]


class RdmaProbe:
    """The ports found when it was made, in the order of `nics`."""

    def __init__(self, root: Path = DEFAULT_ROOT) -> None:
        """Look for ports under `root`; without RDMA there are none."""
        self._ports = tuple(_find(root))

    @property
    def nics(self) -> tuple[Nic, ...]:
        """Facts of every port; readings come in the same order."""
        return tuple(port.nic for port in self._ports)

    def read(self) -> tuple[NicReading, ...]:
        """Return what every port says now. May block in the driver; never raises."""
        return tuple(map(_read_port, self._ports))


def _find(root: Path) -> list[_Port]:
    return [
        _port(device, folder)
        for device in _children(root)
        for folder in _children(device / "ports")
        if folder.name.isdecimal()
    ]


def _children(folder: Path) -> list[Path]:
    """Return what is in `folder`, numbers in their own order; nothing when it cannot be listed."""
    try:
        return sorted(folder.iterdir(), key=_natural)
    except OSError:
        return []


def _natural(path: Path) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"([0-9]+)", path.name)
    ]


def _port(device: Path, folder: Path) -> _Port:
    candidates = (
        *(folder / "counters" / name for name in ERROR_FILES),
        *(folder / "hw_counters" / name for name in HW_ERROR_FILES),
    )
    nic = Nic(
        name=device.name,
        port=int(folder.name),
        pci_address=_pci_address(device),
        numa_node=_numa_node(device),
        rate_bps=_rate(folder),
        link_layer=_text(folder / "link_layer") or "",
        hca_type=_text(device / "hca_type") or "",
        firmware=_text(device / "fw_ver") or "",
    )
    return _Port(nic, folder, tuple(path for path in candidates if _number(path) is not None))


def _read_port(port: _Port) -> NicReading:
    state = re.match(r"\s*([0-9]{1,2})\s*:", _text(port.folder / "state") or "")
    counts = [_number(path) for path in port.errors]
    known = [count for count in counts if count is not None]
    return NicReading(
        active=None if state is None else int(state[1]) == _ACTIVE,
        rate_bps=_rate(port.folder),
        received_octets=_octets(port.folder / "counters" / "port_rcv_data"),
        sent_octets=_octets(port.folder / "counters" / "port_xmit_data"),
        errors=sum(known) if counts and len(known) == len(counts) else None,
    )


def _octets(path: Path) -> int | None:
    words = _number(path)
    return None if words is None else words * _WORD


def _rate(folder: Path) -> int | None:
    """Read `400 Gb/sec (4X NDR)` as bits per second."""
    found = re.match(r"\s*([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*Gb/sec\b", _text(folder / "rate") or "")
    rate = float(found[1]) if found else 0.0
    return round(rate * 1e9) if 0 < rate <= _MAX_RATE_GBPS else None


def _pci_address(device: Path) -> str:
    try:
        address = (device / "device").resolve(strict=True).name
    except (OSError, RuntimeError):
        return ""
    return address if re.fullmatch(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", address) else ""


def _numa_node(device: Path) -> int | None:
    # -1 in sysfs: the firmware does not say.
    return _number(device / "device" / "numa_node")


def _number(path: Path) -> int | None:
    text = _text(path)
    if text is None or not text.isdecimal() or not text.isascii():
        return None
    value = int(text)
    return value if value < _MAX_COUNTER else None


def _text(path: Path) -> str | None:
    """Return the first bytes of a sysfs file; None when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, _FILE_BYTES).decode("ascii", "replace").strip()
    except OSError:
        # What a port that is down says of some counters.
        return None
    finally:
        os.close(descriptor)
