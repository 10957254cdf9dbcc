"""Real processes that can be killed, stopped and started again: the parts of a local cluster.

Each runs in a session of its own, so that a signal can be sent to its whole process group as a crash
of a host's service would, and writes its output to a log file.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

END_TIMEOUT = 30.0
TAIL_BYTES = 1 << 20
"""How far back a tail looks: an engine's log may be scrapes for thousands of lines."""


class ProcessError(RuntimeError):
    """A part of the cluster ended or never came up; the text ends with its last log lines."""


class Part:
    """One process: started, signalled, restarted, always with the same command."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self.environ = dict(environ or {})
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The running process's pid; 0 when none runs."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.pid != 0

    @property
    def status(self) -> int | None:
        """The exit status of the process that ended last; None while it runs."""
        return self._process.returncode if self._process else None

    async def start(self) -> None:
        """Start it; its log is appended to."""
        if self.running:
            return
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.environ},
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group."""
        if self.running:
            os.killpg(self.pid, number)

    async def kill(self) -> None:
        """Kill -9 its process group, as a crash, and wait for the end."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> None:
        """TERM, and KILL if it does not end."""
        if not self.running:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(END_TIMEOUT):
                await self.ended()
        except TimeoutError:
            await self.kill()

    async def ended(self) -> int | None:
        """Wait for its end and return the exit status."""
        return await self._process.wait() if self._process else None

    def tail(self, lines: int = 8, without: re.Pattern[str] | None = None) -> str:
        """Return the last lines of its log, those left out in which ``without`` is found."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            said = log.read().decode(errors="replace").splitlines()
        return "\n".join([line for line in said if not (without and without.search(line))][-lines:])

    def require(self) -> None:
        """Raise ProcessError when it has ended."""
        if not self.running:
            raise ProcessError(f"{self.name} ended with status {self.status}:\n{self.tail()}")
