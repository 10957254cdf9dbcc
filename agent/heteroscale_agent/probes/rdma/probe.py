"""One reading of all RDMA ports, cheap enough for every second.

State and data counters are read every time, through descriptors that stay open. The rest is read
every few samples, another port each time: the kernel asks the adapter's firmware for it, once for
each file of `counters/` and once for all of `hw_counters/` (they are good for `lifespan`, 10 ms).
Ports are looked for again every `SCAN_SECONDS`, so that a reloaded driver is found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from heteroscale.words import NicDistance
from heteroscale_agent.model import Nic, NicReading
from heteroscale_agent.probes import sysfs
from heteroscale_agent.probes.distance import DEFAULT_PCI_ROOT, Places
from heteroscale_agent.probes.rdma import facts, names

DEFAULT_ROOT = Path("/sys/class/infiniband")
SCAN_SECONDS = 15.0
SLOW_EVERY = 5
"""Samples from one reading of a port's errors, marks and rate to the next."""

_ACTIVE = b"4"
_STATES = frozenset((b"1", b"2", b"3", _ACTIVE, b"5"))
"""DOWN, INIT, ARMED, ACTIVE, ACTIVE_DEFER."""


@dataclass(frozen=True, slots=True)
class RdmaSight:
    """All ports at one moment. Readings and limits are in the order of the ports."""

    nics: tuple[Nic, ...] = ()
    readings: tuple[NicReading, ...] = ()
    limits_bps: tuple[float | None, ...] = ()
    """Configured ones; None: the link's rate is the limit."""
    distances: Mapping[str, tuple[NicDistance | None, ...]] = field(default_factory=dict)
    """How far each port is, by a GPU's PCI address as it was given."""


class RdmaProbe:
    """Sees the ports below one folder. For one thread; `gpu_addresses` may be set by another."""

    def __init__(
        self,
        root: Path = DEFAULT_ROOT,
        rules: facts.RdmaRules | None = None,
        *,
        pci_root: Path = DEFAULT_PCI_ROOT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gpu_addresses: tuple[str, ...] = ()
        """Whose distances to the ports are wanted, as the GPUs' driver writes them."""
        self._root, self._rules, self._clock = root, rules or facts.RdmaRules(), clock
        self._pci_root = pci_root
        self._ports: dict[tuple[str, int], _Port] = {}
        self._distances: Mapping[str, tuple[NicDistance | None, ...]] = {}
        self._measured: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        self._scanned: float | None = None
        self._turn = 0

    def read(self) -> RdmaSight:
        """Return what every port says now. May block in the driver; never raises."""
        now = self._clock()
        if self._scanned is None or now - self._scanned >= SCAN_SECONDS:
            self._scan()
            self._scanned = now
        self._turn += 1
        readings = tuple(
            port.read(self._clock(), slow=(self._turn + place) % SLOW_EVERY == 0)
            for place, port in enumerate(self._ports.values())
        )
        self._measure()
        nics = tuple(port.nic for port in self._ports.values())
        limits = tuple(map(self._rules.limit_bps, nics))
        return RdmaSight(nics, readings, limits, self._distances)

    def close(self) -> None:
        """Let go of every file."""
        for port in self._ports.values():
            port.close()

    def _scan(self) -> None:
        try:
            found = facts.find(self._root, self._rules)
        except OSError:
            return  # a failing listing says nothing of the ports
        before, self._ports = self._ports, {}
        for nic, folder in found:
            key = nic.name, nic.port
            port = before.pop(key, None)
            if port is None or port.nic.node_guid != nic.node_guid:
                self._close(port)
                port = _Port(nic, folder)
            port.found(nic)
            self._ports[key] = port
        for gone in before.values():
            self._close(gone)

    @staticmethod
    def _close(port: _Port | None) -> None:
        if port is not None:
            port.close()

    def _measure(self) -> None:
        addresses = tuple(port.nic.pci_address for port in self._ports.values())
        wanted = self.gpu_addresses, addresses
        if wanted != self._measured:
            places = Places(self._pci_root)
            self._distances = {
                gpu: tuple(places.distance(gpu, nic) for nic in addresses) for gpu in wanted[0]
            }
            self._measured = wanted


class _Port:
    """One port: its facts, its open files, and what was last read of the slow ones."""

    def __init__(self, nic: Nic, folder: Path) -> None:
        self.nic, self._folder = nic, folder
        self._state = sysfs.KeptFile(str(folder / "state"))
        self._received, self._sent = _Octets((), 1), _Octets((), 1)
        self._groups: dict[str, dict[str, str]] = {
            name: {} for name in ("errors", "congestion_marks", "retransmissions", "link", "wait")
        }
        self._active: bool | None = None
        self._slow: NicReading | None = None

    def found(self, nic: Nic) -> None:
        """Take over its facts as found now, and which files it has."""
        self.nic = replace(nic, rate_bps=self.nic.rate_bps)
        counters, hardware = self._folder / "counters", self._hardware()
        if not self._received.files:
            self._received = _octets(
                counters, hardware, names.RECEIVED_WORDS, names.RECEIVED_OCTETS
            )
        if not self._sent.files:
            self._sent = _octets(counters, hardware, names.SENT_WORDS, names.SENT_OCTETS)
        present = {folder: frozenset(sysfs.names(folder)) for folder in (counters, *hardware)}
        for group, folder, known in (
            ("errors", counters, names.PORT_ERRORS),
            ("link", counters, (names.LINK_DOWNED,)),
            ("wait", counters, (names.XMIT_WAIT,)),
            *(("errors", folder, names.HW_ERRORS) for folder in hardware),
            *(("congestion_marks", folder, names.CONGESTION) for folder in hardware),
            *(("retransmissions", folder, names.RETRANSMISSIONS) for folder in hardware),
        ):
            self._list(group, folder, present[folder].intersection(known))
        if not self._groups["link"] and hardware:
            self._list("link", hardware[0], present[hardware[0]].intersection((names.LINK_DOWNED,)))

    def read(self, at: float, *, slow: bool) -> NicReading:
        """Return its reading at `at`; slow files are read when `slow`, or when the state changed."""
        said = self._state.read()
        number = said.partition(b":")[0].strip()
        active = number == _ACTIVE if number in _STATES else None
        if self._slow is None or slow or active != self._active:
            self._slow = self._read_slow(active)
        self._active = active
        return replace(
            self._slow,
            at=at,
            active=active,
            received_octets=self._received.read(),
            sent_octets=self._sent.read(),
        )

    def close(self) -> None:
        """Let go of its files."""
        for kept in (self._state, *self._received.files, *self._sent.files):
            kept.close()

    def _read_slow(self, active: bool | None) -> NicReading:
        # Of a port that is down it is whatever the adapter begins to train with.
        rate = None if active is False else facts.rate_bps(sysfs.read(self._folder / "rate"))
        if rate is not None and rate > (self.nic.rate_bps or 0):
            self.nic = replace(self.nic, rate_bps=rate)
        groups = {
            group: {name: sysfs.number(path) for name, path in paths.items()}
            for group, paths in self._groups.items()
        }
        return NicReading(
            rate_bps=rate,
            errors=groups["errors"],
            congestion_marks=groups["congestion_marks"],
            retransmissions=groups["retransmissions"],
            link_downed=groups["link"].get(names.LINK_DOWNED),
            xmit_wait=groups["wait"].get(names.XMIT_WAIT),
        )

    def _hardware(self) -> list[Path]:
        """Return the folders of the driver's counters; a device's are its only port's too."""
        device = self._folder.parent.parent
        alone = sum(map(str.isdecimal, sysfs.names(self._folder.parent))) == 1
        return [self._folder / "hw_counters", *([device / "hw_counters"] if alone else [])]

    def _list(self, group: str, folder: Path, present: Iterable[str]) -> None:
        """Add the files that say something. One that was there and is not is unknown, not zero."""
        paths = self._groups[group]
        for name in present:
            if name not in paths and sysfs.number(folder / name) is not None:
                paths[name] = str(folder / name)


@dataclass(frozen=True, slots=True)
class _Octets:
    """Files that together count the octets of one direction."""

    files: tuple[sysfs.KeptFile, ...]
    unit: int

    def read(self) -> int | None:
        total = 0
        for kept in self.files:
            count = kept.number()
            if count is None or (self.unit == names.WORD and count == names.STUCK_WORDS):
                return None
            total += count
        return total * self.unit if self.files else None


def _octets(
    counters: Path, hardware: Iterable[Path], words: str, octets: Iterable[tuple[str, ...]]
) -> _Octets:
    """Return where a port counts a direction's octets; nowhere, when no file of it can be read."""
    if sysfs.number(counters / words) is not None:
        return _Octets((sysfs.KeptFile(str(counters / words)),), names.WORD)
    octets = tuple(octets)
    for folder in hardware:
        for together in octets:
            if all(sysfs.number(folder / name) is not None for name in together):
                return _Octets(tuple(sysfs.KeptFile(str(folder / n)) for n in together), 1)
    return _Octets((), 1)
