"""Devices: where readings of GPUs and RDMA ports come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from heteroscale.documents import DocumentModel

Rail = Annotated[int, Field(ge=0, le=1023)]


class GpuSettings(DocumentModel):
    """Where GPU readings come from."""

    source: Literal["auto", "nvml", "amd", "none"] = "auto"
    """`nvml`: NVIDIA's; `amd`: AMD's, through amdsmi; `auto`: whichever has GPUs here. `none`: this
    host's GPUs are not watched, and GPU indices of commands are taken on trust."""
    library: Path | None = None
    """An NVML library to load instead of the system's libnvidia-ml.so.1."""
    types: dict[str, str] = {}
    """Driver name to the short type of specifications; unlisted names are shortened by rule."""


class RdmaSettings(DocumentModel):
    """Where RDMA readings come from."""

    root: Path = Path("/sys/class/infiniband")
    """Where the kernel lists RDMA devices."""
    pci_root: Path = Path("/sys/bus/pci/devices")
    """Where it lists PCI devices: how far each GPU is from each port is read from their paths."""
    include: tuple[str, ...] = ("*",)
    """Which ports are watched: patterns of devices (`mlx5_*`), ports (`mlx5_0/2`) or network devices."""
    exclude: tuple[str, ...] = ()
    """Which of them are not: those of storage or management, say."""
    limits: dict[str, PositiveFloat] = {}
    """Gb/s that a device or port can carry where that is less than its link's rate (PCIe, a cloud's
    limit); `default` is for all others. A port's share is of this."""
    rails: dict[str, Rail] = {}
    """Which rail (plane of switches) a device or port is wired to."""
    rails_in_order: bool = False
    """Ports that `rails` does not name are rails 0, 1, 2 … in the order of their PCI addresses: right
    where the hosts are wired alike."""
