"""Devices: where readings of GPUs and RDMA ports come from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from heteroscale.documents import DocumentModel


class GpuSettings(DocumentModel):
    """Where GPU readings come from."""

    source: Literal["nvml", "none"] = "nvml"
    """`none`: this host's GPUs are not watched, and GPU indices of commands are taken on trust."""
    library: Path | None = None
    """An NVML library to load instead of the system's libnvidia-ml.so.1."""
    types: dict[str, str] = {}
    """Driver name to the short type of specifications; unlisted names are shortened by rule."""


class RdmaSettings(DocumentModel):
    """Where RDMA readings come from."""

    root: Path = Path("/sys/class/infiniband")
    """Where the kernel lists RDMA devices."""
