"""MIG: the parts of a GPU that a launch can hold, each with its own memory and processes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import pynvml

from heteroscale_agent.probes.gpu.asking import quiet, text

_PROFILE = re.compile(r"\bMIG ([0-9]+[cg](?:\.[0-9a-z+-]+)+)\s*$", re.IGNORECASE)
_EIGHTHS = 8
_GIB = 1 << 30


def is_on(handle: Any) -> bool:
    """Tell whether a GPU is in MIG mode now."""
    modes = quiet(pynvml.nvmlDeviceGetMigMode, handle)
    return modes is not None and modes[0] == pynvml.NVML_DEVICE_MIG_ENABLE


def devices(handle: Any) -> Iterator[Any]:
    """Yield the handles of a GPU's MIG devices; their numbers may have holes."""
    for place in range(quiet(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        device = quiet(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, place)
        if device is not None:
            yield device


def uuids(handle: Any) -> tuple[str, ...]:
    """Return the uuids of a GPU's MIG devices, none when it is not in MIG mode."""
    if not is_on(handle):
        return ()
    return tuple(text(quiet(pynvml.nvmlDeviceGetUUID, device)) for device in devices(handle))


def profile(device: Any, parent_bytes: int) -> str:
    """Return a MIG device's profile, such as `1g.10gb` or `1c.3g.40gb`.

    The driver's name ends in it; where not, it follows from the slices, as `nvidia-smi` makes it.
    """
    if found := _PROFILE.search(text(quiet(pynvml.nvmlDeviceGetName, device))):
        return found[1].lower()
    slices = quiet(pynvml.nvmlDeviceGetAttributes_v2, device)
    if slices is None or not parent_bytes:
        return "mig"
    eighths = math.ceil((slices.memorySizeMB << 20) / parent_bytes * _EIGHTHS)
    gigabytes = round(eighths / _EIGHTHS * math.ceil(parent_bytes / _GIB))
    whole = f"{slices.gpuInstanceSliceCount}g.{gigabytes}gb"
    if slices.computeInstanceSliceCount == slices.gpuInstanceSliceCount:
        return whole
    return f"{slices.computeInstanceSliceCount}c.{whole}"
