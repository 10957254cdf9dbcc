"""Loads amdsmi, which needs libamd_smi.so, of ROCm's package amd-smi-lib, already when imported."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heteroscale_agent.probes.gpu.port import GpuError

_LIBRARY = "libamd_smi.so"


def load_amdsmi() -> Any:
    """Import amdsmi.

    Raises:
        GpuError: it or libamd_smi.so is not there, or they do not fit together.

    """
    if importlib.util.find_spec("amdsmi") is None:
        raise GpuError("amdsmi: not installed (pip install 'heteroscale[amd]')")
    if not any(_loads(path) for path in _libraries()):
        # The binding would print this to where our own output goes, and raise a KeyError.
        raise GpuError(f"amdsmi: there is no {_LIBRARY} (of ROCm's package amd-smi-lib)")
    try:
        return importlib.import_module("amdsmi")
    except Exception as error:  # a library without a symbol it wants, say
        raise GpuError(f"amdsmi: {error!r}") from error


def _libraries() -> Iterator[str]:
    """Yield where amdsmi looks for its library."""
    for variable in ("ROCM_HOME", "ROCM_PATH"):
        if root := os.environ.get(variable):
            yield f"{root}/lib/{_LIBRARY}"
    yield _LIBRARY
    found = importlib.util.find_spec("amdsmi")
    if found is not None and found.origin:
        yield str(Path(found.origin).parent / _LIBRARY)
    yield f"/opt/rocm/lib/{_LIBRARY}"


def _loads(path: str) -> bool:
    try:
        ctypes.CDLL(path)
    except OSError:
        return False
    return True
