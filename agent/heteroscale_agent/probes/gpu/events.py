"""Xid events: NVML says them to whoever waits, so a thread of its own does nothing but wait."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from typing import Any

import pynvml
import structlog

from heteroscale_agent.probes.gpu.asking import quiet

log = structlog.get_logger(__name__)

WAIT_MS = 500
"""How long the driver is waited for at a time; so long an end may take."""
PATIENCE = 3.0
"""Seconds after which a thread that hangs in the driver is left to itself."""
_WHOLE_GPU = ctypes.c_uint(-1).value


class Xids:
    """Counts Xid events of each GPU from the first `start`; counts go on over a `stop`."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int | None], tuple[int, int, int]] = {}
        """Of a GPU, or of a GPU instance of it: how many, the last code, and when in order."""
        self._heard = 0
        self._watched: frozenset[str] = frozenset()
        self._thread: _Waiter | None = None

    def start(self, handles: Mapping[str, Any]) -> None:
        """Listen to GPUs, by uuid; those that tell no events stay unknown. Never raises."""
        events = quiet(pynvml.nvmlEventSetCreate)
        if events is None:
            return
        kind = pynvml.nvmlEventTypeXidCriticalError
        watched = {}
        for uuid, handle in handles.items():
            try:
                pynvml.nvmlDeviceRegisterEvents(handle, kind, events)
            except pynvml.NVMLError:
                continue
            # By address: of a GPU that an Xid has just taken away, nothing else can be asked.
            watched[_address(handle)] = uuid
        self._watched = frozenset(watched.values())
        self._thread = _Waiter(events, watched, self._count)
        self._thread.start()

    def stop(self) -> bool:
        """Stop listening; False when the thread hangs in the driver, and has been left there."""
        thread, self._thread = self._thread, None
        self._watched = frozenset()
        return thread is None or thread.end()

    def seen(self, uuid: str, instance: int | None = None) -> tuple[int, int] | None:
        """Return how many there were and the last's code (0: none yet), None when not listened to.

        Of a GPU `instance`: its own, and those of the whole GPU.
        """
        if uuid not in self._watched:
            return None
        keys = [key for key in self._counts if key[0] == uuid]
        if instance is not None:
            keys = [key for key in keys if key[1] in (None, instance)]
        told = [self._counts[key] for key in keys]
        last = max(told, key=lambda one: one[2], default=(0, 0, 0))
        return sum(one[0] for one in told), last[1]

    def _count(self, uuid: str, code: int, instance: int | None) -> None:
        self._heard += 1
        before = self._counts.get((uuid, instance), (0, 0, 0))
        self._counts[uuid, instance] = (before[0] + 1, code, self._heard)
        log.warning("xid", gpu=uuid, xid=code, gpu_instance=instance)


class _Waiter(threading.Thread):
    """Waits for events; a daemon, so that one that hangs in the driver keeps no agent alive."""

    def __init__(self, events: Any, watched: Mapping[int, str], count: Any) -> None:
        super().__init__(name="gpu-events", daemon=True)
        self._events, self._watched, self._count = events, watched, count
        self._ended = threading.Event()

    def end(self) -> bool:
        self._ended.set()
        self.join(PATIENCE)
        return not self.is_alive()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, WAIT_MS)
            except pynvml.NVMLError_Timeout:
                continue
            except pynvml.NVMLError:
                # A GPU that is gone, most often: said again at once, until the list is made anew.
                self._ended.wait(WAIT_MS / 1000)
                continue
            uuid = self._watched.get(_address(event.device))
            if uuid is not None and event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                instance = event.gpuInstanceId
                self._count(uuid, event.eventData, None if instance == _WHOLE_GPU else instance)
        quiet(pynvml.nvmlEventSetFree, self._events)


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
