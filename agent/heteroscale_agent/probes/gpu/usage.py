"""Which processes are on a GPU, what memory each has, and how much of the SMs' time it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pynvml

from heteroscale_agent.model import GpuProcess
from heteroscale_agent.probes.gpu.asking import MAX_PERCENT, Asked, processes, within

SETTLE = 3.0
"""Seconds without a sample after which a process that runs is idle: the driver samples the busy
alone, about once a second."""
_MAX_PROCESSES = 256
_MAX_MEMORY = 1 << 44


class Usage:
    """The processes of one GPU or MIG device."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._seen: dict[int, tuple[float | None, float]] = {}
        """By pid: its newest share in percent, and when that was (or when it came)."""
        self._sampled: int | None = None
        """The driver's time of its newest sample, in microseconds."""
        self._supported = True

    def read(self, asked: Asked, now: float) -> tuple[GpuProcess, ...] | None:
        """Return the processes, None when the driver does not list them; `now` in seconds.

        Raises:
            LostError: the GPU no longer answers.

        """
        running = asked(processes, self._handle)
        if running is None:
            self._seen = {}
            return None
        running = running[:_MAX_PROCESSES]
        self._seen = {one.pid: self._seen.get(one.pid, (None, now)) for one in running}
        self._sample(asked, now)
        return tuple(
            GpuProcess(one.pid, within(one.usedGpuMemory, _MAX_MEMORY), self._share(one.pid, now))
            for one in running
        )

    def _share(self, pid: int, now: float) -> float | None:
        share, at = self._seen[pid]
        idle = self._supported and now - at > SETTLE
        return 0.0 if idle else share

    def _sample(self, asked: Asked, now: float) -> None:
        if not self._seen or not self._supported:
            return
        since = self._sampled
        samples = asked(_samples, self._handle, since or 0)
        if samples is None:
            self._supported = asked.failed
            return
        times = [sample.timeStamp for sample in samples]
        self._sampled = max([since or 0, *times])
        if since is None:
            return  # of a past that nobody asked about
        shares: dict[int, list[int]] = {}
        for sample in samples:
            share = within(sample.smUtil, MAX_PERCENT)
            if sample.timeStamp > since and share is not None:
                shares.setdefault(sample.pid, []).append(share)
        for pid, values in shares.items():
            if pid in self._seen:
                self._seen[pid] = (sum(values) / len(values), now)


def _samples(handle: Any, since: int) -> Sequence[Any]:
    try:
        samples: Sequence[Any] = pynvml.nvmlDeviceGetProcessUtilization(handle, since)
    except pynvml.NVMLError_NotFound:
        return ()
    except pynvml.NVMLError as error:
        # The binding raises even a success, when that has no samples.
        if error.value != pynvml.NVML_SUCCESS:
            raise
        return ()
    return samples
