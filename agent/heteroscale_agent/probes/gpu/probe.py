"""The GPUs of this host, whoever made them: found, kept in their places, found again.

A driver may come later than the agent, be loaded anew, lose a GPU or get one: the probe looks every
30 s whether that is so, and then makes its list anew. Indices stay (`seats`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import structlog

from heteroscale.words import GpuHealth
from heteroscale_agent.model import Gpu, GpuReading
from heteroscale_agent.probes.gpu.amd import AmdDriver
from heteroscale_agent.probes.gpu.naming import PCI_DEVICES
from heteroscale_agent.probes.gpu.nvml import NvmlDriver
from heteroscale_agent.probes.gpu.port import Driver, GpuError
from heteroscale_agent.probes.gpu.seats import Seat, Seats

log = structlog.get_logger(__name__)

Source = Literal["auto", "nvml", "amd"]
LOOK_AGAIN = 30.0
"""Seconds between looks at whether other GPUs are there."""
LOOK_AGAIN_AT_MOST = 300.0
"""While a GPU stays lost the list is made anew later and later: that wakes every GPU up."""
_LOST = GpuReading(health=GpuHealth.LOST)


class GpuProbe:
    """Reads the GPUs. `open` and `read` may block in the driver; all calls come from one thread."""

    def __init__(
        self,
        *,
        source: Source = "auto",
        library: Path | None = None,
        types: Mapping[str, str] | None = None,
        seats: Path | None = None,
        pci_devices: Path = PCI_DEVICES,
        drivers: Sequence[Driver] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to use NVML (`library`), or else amdsmi; `types` maps driver names to types.

        `seats` is the file that keeps indices over a restart. `drivers` takes the place of both
        libraries: the first that has GPUs is used.
        """
        nvml = NvmlDriver(library=library, types=types, pci_devices=pci_devices, clock=clock)
        amd = AmdDriver(types=types, pci_devices=pci_devices, clock=clock)
        known: dict[str, tuple[Driver, ...]] = {"auto": (nvml, amd), "nvml": (nvml,), "amd": (amd,)}
        self._drivers = known[source] if drivers is None else tuple(drivers)
        self._driver: Driver | None = None
        self._clock = clock
        self._file_seats = Seats(seats)
        self._seats: Sequence[Seat] = ()
        self._pause = LOOK_AGAIN
        self._looked_at = 0.0
        self.held: Collection[int] | None = None
        """Indices that something holds; None: not known yet. May be set from any thread."""

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs by index, lost ones too; of the last `open` or `look`."""
        return tuple(seat.gpu for seat in self._seats)

    @property
    def driver_version(self) -> str:
        """Of the driver that has GPUs; empty while there is none."""
        return "" if self._driver is None else self._driver.version

    def open(self) -> None:
        """Find the driver and list the GPUs. May take seconds while the driver wakes up.

        Raises:
            GpuError: no library and no driver could be had; the text says why, of each.

        """
        self._looked_at = self._clock()
        failures = []
        for driver in self._drivers:
            try:
                listed = driver.open()
            except GpuError as error:
                failures.append(str(error))
                driver.close()
                continue
            if listed or driver is self._drivers[-1] or self._driver is driver:
                self._driver = driver
                self._seats = self._file_seats.seat(listed, self.held)
                return
            driver.close()
        self._driver = None
        self._seats = self._file_seats.lose()
        raise GpuError("; ".join(failures) or "no GPUs")

    def close(self) -> None:
        """Let go of the driver."""
        if self._driver is not None:
            self._driver.close()

    def read(self) -> tuple[GpuReading, ...]:
        """Return what every GPU says now, in the order of `gpus`. May block; never raises."""
        read = () if self._driver is None else self._driver.read()
        return tuple(
            read[seat.place] if seat.place is not None and seat.place < len(read) else _LOST
            for seat in self._seats
        )

    def look(self) -> tuple[GpuReading, ...]:
        """`read`, but list the GPUs anew first where others may be there. Never raises."""
        # Read once alone: a second reading right after it would tell of no time at all.
        readings = self.read()
        now = self._clock()
        if now - self._looked_at < self._pause:
            return readings
        self._looked_at = now
        sick = any(map(_sick, readings)) or not all(seat.answers for seat in self._seats)
        self._pause = min(2 * self._pause, LOOK_AGAIN_AT_MOST) if sick else LOOK_AGAIN
        if self._driver is not None and not sick and not self._driver.changed():
            return readings
        self._list_anew()
        return self.read()

    def _list_anew(self) -> None:
        before, had = self.gpus, self._driver is not None
        self.close()
        try:
            self.open()
        except GpuError as error:
            if had:
                log.warning("the GPUs' driver is gone", error=str(error))
        if self.gpus != before:
            _tell(before, self.gpus)


def _sick(reading: GpuReading) -> bool:
    """Tell whether a driver that begins anew may have more to say of a GPU."""
    mute = reading.memory_used_bytes is None and reading.power_watts is None
    return reading.health is GpuHealth.LOST or (reading.health is GpuHealth.ERROR and mute)


def _tell(before: Sequence[Gpu], after: Sequence[Gpu]) -> None:
    old = {gpu.uuid for gpu in before if gpu.present}
    new = {gpu.uuid for gpu in after if gpu.present}
    log.warning("other GPUs", lost=sorted(old - new), found=sorted(new - old))
