"""The fleet of a simulation: what a user writes (``kind: Fleet``), and the hosts that it means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heteroscale.documents import read_documents, read_one
from heteroscale.documents.reader import Document
from heteroscale_simulator.fleet.hosts import Host, hosts, views
from heteroscale_simulator.fleet.model import (
    ClusterSpec,
    FaultSpec,
    FleetDocument,
    FleetSpec,
    GateDelays,
    NetworkSpec,
    NodePool,
    Place,
    StartupSpec,
    TelemetrySpec,
    TopologySpec,
    WarmUpSpec,
)
from heteroscale_simulator.fleet.room import FleetTooSmallError, check_room
from heteroscale_simulator.profiles.hardware import hardware, short_name

__all__ = [
    "ClusterSpec",
    "FaultSpec",
    "Fleet",
    "FleetDocument",
    "FleetSpec",
    "FleetTooSmallError",
    "GateDelays",
    "Host",
    "NetworkSpec",
    "NodePool",
    "Place",
    "StartupSpec",
    "TelemetrySpec",
    "TopologySpec",
    "WarmUpSpec",
    "check_room",
    "hosts",
    "load_fleet",
    "parse_fleet",
    "views",
]


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet as it was read."""

    name: str
    spec: FleetSpec
    folder: Path
    """Where its file is; `profiles` may be beside it."""

    @property
    def profiles(self) -> Path | None:
        """The folder of its own speeds; None: the catalogue's."""
        given = self.spec.profiles
        return None if given is None else self.folder / given

    def prices(self) -> dict[str, float]:
        """Return what a GPU-hour costs by type: the pools' own price, else the catalogue's.

        Raises:
            ValueError: a type has neither.

        """
        known = hardware(self.profiles)
        found: dict[str, float] = {}
        for pool in self.spec.pools:
            kind = known.get(short_name(pool.gpu_type, known))
            if pool.price_per_gpu_hour is not None:
                found[pool.gpu_type] = pool.price_per_gpu_hour
            elif kind is not None:
                found.setdefault(pool.gpu_type, kind.price_per_hour)
        if lacking := sorted(self.spec.gpu_types.keys() - found.keys()):
            raise ValueError(
                f"fleet {self.name}: {', '.join(lacking)} has no price; write pricePerGpuHour"
            )
        return found


def load_fleet(path: Path) -> Fleet:
    """Read a file with one document of kind Fleet.

    Raises:
        DocumentError: with file, line and field of everything that is wrong.
        OSError: the file cannot be read.

    """
    return _fleet(read_one(path, "Fleet"), path.parent)


def parse_fleet(text: str, file: str = "<input>") -> Fleet:
    """Return the first document of ``text`` as a fleet. DocumentError as ``load_fleet``."""
    return _fleet(read_documents(text, file)[0], Path())


def _fleet(document: Document, folder: Path) -> Fleet:
    parsed = document.parse(FleetDocument)
    return Fleet(parsed.metadata.name, parsed.spec, folder)
