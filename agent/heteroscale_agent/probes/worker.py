"""A thread of its own for a source that may hang in the kernel or in a driver.

Not an executor: its threads are joined when the interpreter ends, and a hung driver call would
then keep the agent from ever ending. This thread is a daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")

_Job = tuple[Future[Any], Callable[[], Any]]


class Worker:
    """Runs calls one after the other in one daemon thread, started with the first call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def call(self, job: Callable[[], Result]) -> asyncio.Future[Result]:
        """Queue `job`; the future holds what it returns or raises."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        future: Future[Result] = Future()
        self._jobs.put((future, job))
        return asyncio.wrap_future(future)

    def close(self) -> None:
        """Let the thread end after what it is at; does not wait for it."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (entry := self._jobs.get()) is not None:
            future, job = entry
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 - whoever waits for the future judges it
                future.set_exception(error)
            else:
                # The loop that waited may be closed by now; nobody is left to tell.
                with contextlib.suppress(RuntimeError):
                    future.set_result(result)
