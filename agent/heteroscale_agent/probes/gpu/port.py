"""What a vendor's library must be able to do; `nvml`, `amd` and the twins of the tests can."""

from __future__ import annotations

from typing import Protocol

from heteroscale_agent.model import Gpu, GpuReading


class GpuError(Exception):
    """The driver cannot be asked; the message says why."""


class LostError(Exception):
    """The GPU no longer answers its driver."""


class Driver(Protocol):
    """One vendor's library. All calls may block; all are made from one thread."""

    version: str
    """Of the driver, once it was opened."""

    def open(self) -> tuple[Gpu, ...]:
        """Begin and list what there is, in the driver's order; `index` is its own number.

        A GPU that is lost is in its place, with an empty uuid. May take seconds while the driver
        wakes up; may be called again after `close`, and then lists anew.

        Raises:
            GpuError: there is no library, no driver, or they do not fit together.

        """
        ...

    def close(self) -> None:
        """Let go of the library; never raises."""
        ...

    def read(self) -> tuple[GpuReading, ...]:
        """Return what each listed GPU says now, in the order of the list; never raises."""
        ...

    def changed(self) -> bool:
        """Tell, cheaply, whether the list may be another when it is made anew; never raises."""
        ...
