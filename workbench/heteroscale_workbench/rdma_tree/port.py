"""One RDMA port as files: made, moved, flapped, retrained, taken away."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from heteroscale_workbench.rdma_tree.families import FAMILIES, STICKS_AT, Family

DEFAULT_PCI = ("pci0000:10", "0000:10:01.0", "0000:18:00.0")
LIFESPAN_MS = 10
_SPEEDS = {10: "SDR", 40: "QDR", 56: "FDR", 100: "EDR", 200: "HDR", 400: "NDR", 800: "XDR"}


class RdmaPort:
    """A port of a device below ``root``; what it says can be changed at any time.

    Values change in place, as in sysfs: who holds a file open reads the new one.
    """

    def __init__(
        self,
        root: Path,
        device: str = "mlx5_0",
        port: int = 1,
        family: Family = FAMILIES["mlx5-infiniband"],
    ) -> None:
        self.root, self.device, self.port, self.family = root, device, port, family
        self._values: dict[str, int] = {}
        self._place: tuple[tuple[str, ...], int] = (DEFAULT_PCI, 0)

    @property
    def folder(self) -> Path:
        """Where its own files are."""
        return self.root / self.device / "ports" / str(self.port)

    def create(self, *, pci: str | Sequence[str] = DEFAULT_PCI, numa_node: int = 0) -> RdmaPort:
        """Write every file of a port that is up and idle.

        ``pci`` is its device's path from the host bridge inward, or its address alone.
        """
        path = ("pci0000:10", pci) if isinstance(pci, str) else tuple(pci)
        self._place = path, numa_node
        place = add_pci_device(self.root.parent, path, numa_node, driver=self.family.driver)
        real = place / "infiniband" / self.device
        for name in ("counters", "hw_counters", "gids", "gid_attrs/ndevs"):
            (real / "ports" / str(self.port) / name).mkdir(parents=True, exist_ok=True)
        _link(real / "device", place)
        _link(self.root / self.device, real)
        number = int(re.search(r"[0-9]*$", self.device)[0] or "0")  # type: ignore[index]
        _say(real / "node_guid", f"9803:9b03:00a1:{number:04x}")
        for name, text in self.family.facts:
            _say(real / name, text)
        self.up()
        self.says(link_layer=self.family.link_layer)
        self._name_gids(place, number)
        for name in (*self.family.counters, *self.family.hw_counters):
            self._set(name, 0)
        if self.family.hw_counters:
            _say(self.folder / "hw_counters" / "lifespan", str(LIFESPAN_MS))
        return self

    # ---- saying outright -------------------------------------------------------------------

    def says(self, **files: str) -> None:
        """Let files of the port say something."""
        for name, text in files.items():
            _say(self.folder / name, text)

    def counts(self, **values: int | str) -> None:
        """Let files of `counters/` say something."""
        for name, value in values.items():
            self._say_count("counters", name, value)

    def hw_counts(self, **values: int | str) -> None:
        """Let files of `hw_counters/` say something."""
        for name, value in values.items():
            self._say_count("hw_counters", name, value)

    # ---- as hardware would -----------------------------------------------------------------

    def transfer(self, *, sent: int = 0, received: int = 0) -> None:
        """Move octets."""
        self.add(
            **{
                self.family.sent: sent // self.family.unit,
                self.family.received: received // self.family.unit,
            }
        )

    def add(self, **counts: int) -> None:
        """Let counters grow; each sticks or wraps where the hardware's does."""
        for name, count in counts.items():
            value = self._values[name] + count
            if name in STICKS_AT:
                value = min(value, STICKS_AT[name])
            self._set(name, value % (1 << (32 if name in self.family.wraps_32 else 64)))

    def set(self, **values: int) -> None:
        """Put counters where they are wanted: near a wrap, or back at zero as `perfquery -R` does."""
        for name, value in values.items():
            self._set(name, value)

    def down(self) -> None:
        """Let the link go down."""
        slowest = "10 Gb/sec (4X SDR)" if self.family.link_layer == "InfiniBand" else None
        self.says(state="1: DOWN", phys_state="2: Polling")
        if slowest:
            self.says(rate=slowest)
        self._downed()

    def up(self, gbps: int | None = None) -> None:
        """Let the link come up, at its best rate or a worse one."""
        gbps = gbps or self.family.rate_gbps
        speed = f"4X {_SPEEDS[gbps]}" if gbps in _SPEEDS else "1X"
        self.says(state="4: ACTIVE", phys_state="5: LinkUp", rate=f"{gbps} Gb/sec ({speed})")

    def blink(self) -> None:
        """Let the link go down and up again so fast that nobody sees its state change."""
        self._downed()

    def remove(self) -> None:
        """Take the device away, as the unloading of its driver does."""
        real = (self.root / self.device).resolve()
        (self.root / self.device).unlink()
        # A file that somebody holds open says ENODEV in sysfs; here it says nothing at least.
        for path in (path for path in real.rglob("*") if path.is_file() and not path.is_symlink()):
            os.truncate(path, 0)
        shutil.rmtree(real)

    def reload(self) -> None:
        """Bring the device back, its counters at zero."""
        path, numa_node = self._place
        self.create(pci=path, numa_node=numa_node)

    # ---- files -----------------------------------------------------------------------------

    def _downed(self) -> None:
        if "link_downed" in self.family.counters:
            self.add(link_downed=1)

    def _say_count(self, folder: str, name: str, value: int | str) -> None:
        if isinstance(value, int):
            self._values[name] = value
        _say(self.folder / folder / name, str(value))

    def _set(self, name: str, value: int) -> None:
        folder = "counters" if name in self.family.counters else "hw_counters"
        self._say_count(folder, name, value)

    def _name_gids(self, place: Path, number: int) -> None:
        _say(self.folder / "gids" / "0", f"fe80:0000:0000:0000:9a03:9bff:fea1:{number:04x}")
        if self.family.link_layer == "Ethernet":
            netdev = f"eth{number}"
            (place / "net" / netdev).mkdir(parents=True, exist_ok=True)
            _say(self.folder / "gid_attrs" / "ndevs" / "0", netdev)


def add_pci_device(
    base: Path, path: Sequence[str], numa_node: int = 0, *, driver: str = ""
) -> Path:
    """Make a PCI device below ``base``; ``path`` goes from its host bridge inward."""
    place = base.joinpath("devices", *path)
    place.mkdir(parents=True, exist_ok=True)
    _say(place / "numa_node", str(numa_node))
    _link(base / "pci" / path[-1], place)
    if driver:
        (base / "drivers" / driver).mkdir(parents=True, exist_ok=True)
        _link(place / "driver", base / "drivers" / driver)
    return place


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(target)


def _say(path: Path, text: str) -> None:
    """Write in place and cut afterwards: at no time is the file empty."""
    said = f"{text}\n".encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(descriptor, said, 0)
        os.ftruncate(descriptor, len(said))
    finally:
        os.close(descriptor)
