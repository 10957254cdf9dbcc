"""NVML's GPM (Hopper and newer): what the GPU's units did between the last reading and this one."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import pynvml

from heteroscale_agent.probes.gpu.asking import Asked, quiet, share

_SHARES = {
    "sm_activity_percent": pynvml.NVML_GPM_METRIC_SM_UTIL,
    "dram_activity_percent": pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL,
    "tensor_activity_percent": pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
}
_RATES = {
    "pcie_received_mib_per_s": pynvml.NVML_GPM_METRIC_PCIE_RX_PER_SEC,
    "pcie_sent_mib_per_s": pynvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC,
    "nvlink_received_mib_per_s": pynvml.NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC,
    "nvlink_sent_mib_per_s": pynvml.NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC,
}
"""NVML gives these in MiB/s."""
_IDS = {**_SHARES, **_RATES}
_MAX_RATE = 1 << 24


def mib_per_s(value: float | None) -> float | None:
    """Return a rate where it can be meant."""
    if value is None or not math.isfinite(value) or not 0 <= value <= _MAX_RATE:
        return None
    return value


class Gpm:
    """Two samples of one GPU, or of one GPU instance of it, taken in turns."""

    def __init__(self, handle: Any, instance: int | None = None) -> None:
        """Use `supported` first. `instance` is a GPU instance of the GPU behind `handle`."""
        if instance is None:
            self._take = partial(pynvml.nvmlGpmSampleGet, handle)
        else:
            self._take = partial(pynvml.nvmlGpmMigSampleGet, handle, instance)
        self._samples: list[Any] = []
        self._primed = False
        self._asked = pynvml.c_nvmlGpmMetricsGet_t()
        self._asked.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        self._asked.numMetrics = len(_IDS)
        for place, number in enumerate(_IDS.values()):
            self._asked.metrics[place].metricId = number
        self.works = True
        """False since the driver refused a sample."""

    @staticmethod
    def supported(handle: Any) -> bool:
        """Tell whether the GPU behind `handle`, a whole one, has GPM."""
        support = quiet(pynvml.nvmlGpmQueryDeviceSupport, handle)
        return support is not None and bool(support.isSupportedDevice)

    def read(self, asked: Asked) -> dict[str, float | None]:
        """Return fields of a `GpuReading`, since the last read; nothing at the first.

        Raises:
            LostError: the GPU no longer answers.

        """
        while len(self._samples) < 2:  # noqa: PLR2004 - one of then, one of now
            sample = asked(pynvml.nvmlGpmSampleAlloc)
            if sample is None:
                self.works = False
                return {}
            self._samples.append(sample)
        old, new = self._samples
        self.works = asked(self._take, new) is not None
        primed, self._primed = self._primed, self.works
        if not self.works:
            return {}
        self._samples = [new, old]
        return self._metrics(asked, old, new) if primed else {}

    def _metrics(self, asked: Asked, old: Any, new: Any) -> dict[str, float | None]:
        self._asked.sample1, self._asked.sample2 = old, new
        if asked(pynvml.nvmlGpmMetricsGet, self._asked) is None:
            return {}
        values: dict[str, float | None] = {}
        for place, name in enumerate(_IDS):
            metric = self._asked.metrics[place]
            value = metric.value if metric.nvmlReturn == pynvml.NVML_SUCCESS else None
            values[name] = share(value) if name in _SHARES else mib_per_s(value)
        return values

    def close(self) -> None:
        """Free the samples; the library must still be open."""
        for sample in self._samples:
            quiet(pynvml.nvmlGpmSampleFree, sample)
        self._samples = []


class Links:
    """PCIe and NVLink traffic where there is no GPM.

    A PCIe figure costs the driver 20 ms of watching the bus, two figures 40 ms a GPU: so they are
    asked of one GPU a reading, in turn, and what one said stays until its next turn.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._pcie: dict[str, float | None] = {}
        self._counters: tuple[float, tuple[int, int]] | None = None
        self._nvlink = True

    def read(self, asked: Asked, now: float, *, turn: bool) -> dict[str, float | None]:
        """Return fields of a `GpuReading`; `now` in seconds, `turn`: this GPU's PCIe is asked.

        Raises:
            LostError: the GPU no longer answers.

        """
        if turn:
            self._pcie = {
                "pcie_received_mib_per_s": self._throughput(asked, pynvml.NVML_PCIE_UTIL_RX_BYTES),
                "pcie_sent_mib_per_s": self._throughput(asked, pynvml.NVML_PCIE_UTIL_TX_BYTES),
            }
        return {**self._pcie, **self._nvlink_rates(asked, now)}

    def _throughput(self, asked: Asked, way: int) -> float | None:
        kb_per_s = asked(pynvml.nvmlDeviceGetPcieThroughput, self._handle, way)
        return None if kb_per_s is None else mib_per_s(kb_per_s / 1024)

    def _nvlink_rates(self, asked: Asked, now: float) -> Mapping[str, float | None]:
        if not self._nvlink:
            return {}
        before, self._counters = self._counters, None
        # Of all links together; cumulative KiB.
        fields = [(number, _ALL_LINKS) for number in _NVLINK_FIELDS]
        values = asked(pynvml.nvmlDeviceGetFieldValues, self._handle, fields)
        if values is None:
            self._nvlink = asked.failed
            return {}
        if any(value.nvmlReturn == pynvml.NVML_ERROR_NOT_SUPPORTED for value in values):
            self._nvlink = False
            return {}
        if any(value.nvmlReturn != pynvml.NVML_SUCCESS for value in values):
            return {}
        received, sent = (int(value.value.ullVal) for value in values)
        self._counters = (now, (received, sent))
        if before is None or now <= before[0]:
            return {}
        spent = now - before[0]
        return {
            "nvlink_received_mib_per_s": mib_per_s((received - before[1][0]) / 1024 / spent),
            "nvlink_sent_mib_per_s": mib_per_s((sent - before[1][1]) / 1024 / spent),
        }


_NVLINK_FIELDS = (
    pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX,
    pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX,
)
_ALL_LINKS = ctypes.c_uint32(-1).value
