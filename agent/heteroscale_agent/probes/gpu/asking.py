"""NVML calls that may fail: what is not supported is unknown, what should not fail is noted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import pynvml

from heteroscale_agent.probes.gpu.port import LostError

Value = TypeVar("Value")

MAX_PERCENT = 100
_SLACK = 1.0
"""Percent above 100 that a share measured over two clocks may show; more is absurd."""


class Asked:
    """Calls the driver about one GPU and remembers whether it failed where it should not."""

    def __init__(self) -> None:
        self.failed = False

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `function` says, None when it is not to be known; raises LostError."""
        try:
            return function(*arguments)
        except (
            pynvml.NVMLError_NotSupported,
            pynvml.NVMLError_FunctionNotFound,
            pynvml.NVMLError_NoPermission,
        ):
            return None
        except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_GpuNotFound) as error:
            raise LostError from error
        except pynvml.NVMLError:
            self.failed = True
            return None


def quiet(function: Callable[..., Value], *arguments: Any) -> Value | None:
    """Return what `function` says, None when it says nothing, for whatever reason."""
    try:
        return function(*arguments)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None


def text(value: str | bytes | None) -> str:
    """Return a driver's word as text; older bindings give bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def within(value: int | None, highest: int) -> int | None:
    """Return `value` where it can be meant."""
    return value if value is not None and 0 <= value <= highest else None


def share(value: float | None) -> float | None:
    """Return a percentage where it can be meant."""
    if value is None or not math.isfinite(value) or not 0 <= value <= MAX_PERCENT + _SLACK:
        return None
    return min(value, float(MAX_PERCENT))


def memory(handle: Any) -> Any:
    """Prefer the call that does not count what the driver keeps for itself as used."""
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except (
        pynvml.NVMLError_FunctionNotFound,
        pynvml.NVMLError_NotSupported,
        pynvml.NVMLError_ArgumentVersionMismatch,
    ):
        return pynvml.nvmlDeviceGetMemoryInfo(handle)


def processes(handle: Any) -> Any:
    """List the compute processes on a GPU or a MIG device."""
    # By version: the function without one raises something of its own when a driver is older.
    try:
        return pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
    except pynvml.NVMLError_FunctionNotFound:
        return pynvml.nvmlDeviceGetComputeRunningProcesses_v2(handle)


def clock_reasons(handle: Any) -> int:
    """Return what holds the clocks down, in NVML's bits."""
    try:
        reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except pynvml.NVMLError_FunctionNotFound:
        # Its name before driver 535.
        reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return int(reasons)
