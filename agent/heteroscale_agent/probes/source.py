"""A source outside the agent: what it may cost, and how it says that it has no answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from heteroscale_agent.probes.worker import Worker

MAX_OUTPUT = 1024 * 1024
MAX_ERRORS = 4096
_CHUNK = 64 * 1024

Result = TypeVar("Result")


class SourceError(Exception):
    """The source has no usable answer now; the text says why, and what to do where that is known."""


class Thread:
    """A thread for one source that may block; while a call hangs, others are refused at once."""

    def __init__(self, name: str) -> None:
        self._worker = Worker(name)
        self._under_way: asyncio.Future[Any] | None = None

    async def call(self, job: Callable[[], Result], deadline: float) -> Result:
        """Return what ``job`` returns.

        Raises:
            SourceError: it takes longer than ``deadline`` seconds, or the call before still hangs.

        """
        if self._under_way is not None and not self._under_way.done():
            raise SourceError("the read before still hangs")
        future = self._worker.call(job)
        self._under_way = future
        await asyncio.wait([future], timeout=deadline)
        if not future.done():
            future.add_done_callback(_forget)
            raise SourceError(f"no answer within {deadline:g} s")
        return future.result()

    def close(self) -> None:
        """Let the thread end when it can."""
        self._worker.close()


def _forget(future: asyncio.Future[Result]) -> None:
    """Whoever waited has given up: what became of it is nobody's."""
    if not future.cancelled():
        future.exception()


def read_file(path: Path, limit: int = MAX_OUTPUT) -> str:
    """Return the text of a file of at most ``limit`` bytes; blocks.

    Raises:
        SourceError: it cannot be read, is longer, or is no UTF-8.

    """
    try:
        # Without blocking: a pipe that somebody put there has no end to wait for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            data = opened.read(limit + 1) or b""
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    if len(data) > limit:
        raise SourceError(f"{path} is longer than {limit} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8") from error


def run(command: Sequence[str], deadline: float, limit: int = MAX_OUTPUT) -> str:
    """Return what a program prints; blocks for at most ``deadline`` seconds. There is no shell.

    Raises:
        SourceError: it cannot be started, takes or prints too much, or says that it failed.

    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise SourceError(f"{command[0]}: {error.strerror or error}") from error
    with process:
        try:
            printed, errors = _collect(process, time.monotonic() + deadline, limit)
        except SourceError as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise SourceError(f"{command[0]}: {error}") from None
    said = " ".join(errors.decode(errors="replace").split())[:500]
    if process.returncode:
        raise SourceError(f"{command[0]} ended with {process.returncode}: {said or 'said nothing'}")
    # Slurm's tools say what is wrong and end with 0.
    if said and not printed.strip():
        raise SourceError(f"{command[0]}: {said}")
    return printed.decode(errors="replace")


def _collect(process: subprocess.Popen[bytes], until: float, limit: int) -> tuple[bytes, bytes]:
    out, err = process.stdout, process.stderr
    if out is None or err is None:
        raise SourceError("no pipes")
    texts = {out.fileno(): bytearray(), err.fileno(): bytearray()}
    with selectors.DefaultSelector() as selector:
        for fd in texts:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            left = until - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                raise SourceError("no whole answer in time")
            for key, _ in ready:
                data = os.read(key.fd, _CHUNK)
                if not data:
                    selector.unregister(key.fd)
                texts[key.fd] += data
            if len(texts[out.fileno()]) > limit:
                raise SourceError(f"prints more than {limit} bytes")
            del texts[err.fileno()][MAX_ERRORS:]
    try:
        process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise SourceError("does not end in time") from None
    return bytes(texts[out.fileno()]), bytes(texts[err.fileno()])
