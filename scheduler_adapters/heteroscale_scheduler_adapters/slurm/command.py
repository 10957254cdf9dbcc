"""The way in through Slurm's commands: ``sinfo``, ``squeue``, ``sbatch``, ``scontrol``, ``scancel``."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from heteroscale_scheduler_adapters.port import RefusedError, SettingsError, UnavailableError
from heteroscale_scheduler_adapters.slurm import parse
from heteroscale_scheduler_adapters.slurm.hostlist import expand
from heteroscale_scheduler_adapters.slurm.records import (
    JobRecord,
    NodeRecord,
    Order,
    ReservationRecord,
)
from heteroscale_scheduler_adapters.slurm.way import MAX_ANSWER, SILENCE, gone, verdict

COMMANDS = ("sinfo", "squeue", "sbatch", "scontrol", "scancel")
_FIELD = re.compile(r"(\w+)=(.*?)(?=\s\w+=|\s*$)")
# What a job gets of our own environment: where Slurm is, and nothing that is secret.
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "SLURM_CONF", "LD_LIBRARY_PATH")
_CHUNK = 1 << 16
_WORDS = 500
_T = TypeVar("_T")


class CommandWay:
    """Slurm by its commands, as the user that this process runs as."""

    name = "commands"
    warns_script = True

    def __init__(
        self,
        *,
        deadline: float,
        environ: Mapping[str, str],
        path: str = "",
        config: Path | None = None,
    ) -> None:
        self.user = getpass.getuser()
        self._deadline = deadline
        self._groups = False
        """Whether ``sinfo`` was heard to tell groups of nodes alone."""
        self._environ = {key: environ[key] for key in _KEPT if key in environ}
        if config:
            self._environ["SLURM_CONF"] = str(config)
        if path:
            self._environ["PATH"] = path + os.pathsep + self._environ.get("PATH", os.defpath)

    async def open(self) -> None:
        """Look whether the commands are there, and whether the controller answers."""
        if missing := self._missing():
            raise SettingsError(
                f"command: no {', '.join(missing)} on PATH (install Slurm's client commands, "
                "or set command.path, or rest.url to go through slurmrestd)"
            )
        await self._read("scontrol", "ping")

    def there(self) -> bool:
        """Whether all commands are on this host."""
        return not self._missing()

    def _missing(self) -> list[str]:
        where = self._environ.get("PATH", os.defpath)
        return [name for name in COMMANDS if shutil.which(name, path=where) is None]

    async def close(self) -> None:
        """Nothing is held."""

    async def nodes(self) -> list[NodeRecord]:
        """Return what is told of every node, those that are hidden too.

        By ``sinfo`` before 23.02; by ``scontrol`` since, for ``sinfo`` tells groups of nodes by then.
        """
        if not self._groups:
            found = await self._told(parse.nodes_unless_groups, "sinfo", "--json", "--all")
            if found is not None:
                return found
            self._groups = True
        return await self._told(parse.nodes, "scontrol", "show", "nodes", "--json", "--all")

    async def jobs(self) -> list[JobRecord]:
        """Return what ``squeue`` tells of every job, those that ended too."""
        return await self._told(parse.jobs, "squeue", "--json", "--all", "--states=all")

    async def topology(self) -> str:
        """Return what ``scontrol`` prints."""
        return (await self._read("scontrol", "show", "topology")).decode(errors="replace")

    async def reservations(self) -> list[ReservationRecord]:
        """Return the reservations; ``scontrol`` tells them as text only before 23.02."""
        text = (await self._read("scontrol", "-o", "show", "reservation")).decode(errors="replace")
        return [_reservation(line) for line in text.splitlines() if "ReservationName=" in line]

    async def submit(self, order: Order) -> int:
        """Submit a held job; the script goes through a pipe."""
        said = await self._run("sbatch", *options(order), stdin=order.script.encode())
        first = said.decode(errors="replace").strip().partition(";")[0]
        if not first.isdecimal():
            raise UnavailableError(f"sbatch printed no number of a job: {first[:200]!r}")
        return int(first)

    async def release(self, jobs: Sequence[int]) -> None:
        """Release all of them with one command."""
        if jobs:
            await self._run("scontrol", "release", ",".join(map(str, jobs)))

    async def comment(self, job: int, text: str) -> None:
        """Write a comment anew."""
        await self._run("scontrol", "update", f"JobId={job}", f"Comment={text}")

    async def signal(self, job: int, *, batch: bool) -> None:
        """Send TERM."""
        whom = ["--batch"] if batch else []
        await self._unless_gone("scancel", "--signal=TERM", *whom, str(job))

    async def cancel(self, jobs: Sequence[int]) -> None:
        """Cancel all of them with one command."""
        if jobs:
            await self._unless_gone("scancel", *map(str, jobs))

    async def drain(self, node: str, reason: str) -> None:
        """Drain a node."""
        await self._run("scontrol", "update", f"NodeName={node}", "State=DRAIN", f"Reason={reason}")

    async def resume(self, node: str) -> None:
        """Resume a node."""
        await self._run("scontrol", "update", f"NodeName={node}", "State=RESUME")

    async def _unless_gone(self, *command: str) -> None:
        try:
            await self._run(*command)
        except RefusedError as error:
            # Of a job that has just ended scancel says nothing, and fails.
            if not gone(error) and not str(error).endswith(SILENCE):
                raise

    async def _told(self, read: Callable[[bytes], _T], *command: str) -> _T:
        """Return what a command tells as JSON; where that is nothing, it says why beside it."""
        try:
            out, err = await self._both(*command)
        except RefusedError as error:
            raise UnavailableError(str(error)) from None
        try:
            return read(out)
        except UnavailableError as error:
            said = " ".join(err.decode(errors="replace").split())[:_WORDS]
            raise UnavailableError(f"{error}; {said}" if said else str(error)) from None

    async def _read(self, *command: str) -> bytes:
        try:
            return await self._run(*command)
        except RefusedError as error:
            # A question that gets no answer: nothing is known, whatever the words.
            raise UnavailableError(str(error)) from None

    async def _run(self, *command: str, stdin: bytes = b"") -> bytes:
        """Return what a command prints. Raises RefusedError, UnavailableError."""
        return (await self._both(*command, stdin=stdin))[0]

    async def _both(self, *command: str, stdin: bytes = b"") -> tuple[bytes, bytes]:
        """Return what a command that ended well printed, and what it complained of."""
        doing = " ".join(command[:2])
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=self._environ,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise UnavailableError(f"{doing}: {error}") from error
        try:
            async with asyncio.timeout(self._deadline):
                out, err = await _talk(process, stdin)
        except TimeoutError:
            raise UnavailableError(f"{doing}: no answer within {self._deadline:g} s") from None
        except ValueError:
            raise UnavailableError(f"{doing}: an answer of more than {MAX_ANSWER} bytes") from None
        finally:
            await _end(process)
        if process.returncode:
            raise verdict(err.decode(errors="replace") or out.decode(errors="replace"), doing)
        return out, err


def options(order: Order) -> list[str]:
    """Return the options of ``sbatch`` for a job, held."""
    many = order.count > 1
    said = {
        "job-name": order.name,
        "comment": order.comment,
        "nodes": str(order.count),
        "ntasks": str(order.count),
        "ntasks-per-node": "1",
        "gres": order.gres,
        "nodelist": ",".join(order.nodes),
        "partition": order.partition,
        "account": order.account,
        "qos": order.qos,
        "reservation": order.reservation,
        "constraint": order.constraint,
        "switches": str(order.switches) if order.switches and many else "",
        "cpus-per-task": str(order.cpus) if order.cpus else "",
        "mem": f"{order.memory}M" if order.memory else "",
        "time": str(order.limit) if order.limit else "",
        "signal": f"{'B:' if order.warn_batch else ''}TERM@{order.warning}"
        if order.warning
        else "",
        "chdir": order.folder,
        "output": order.output,
    }
    words = [f"--{key}={value}" for key, value in said.items() if value]
    words += ["--exclusive"] if order.exclusive else []
    words += ["--requeue" if order.requeue else "--no-requeue", "--parsable", "--hold"]
    return words + [f"--{key}={value}" if value else f"--{key}" for key, value in order.more]


def _reservation(line: str) -> ReservationRecord:
    told = {key: value for key, value in _FIELD.findall(line) if value != "(null)"}
    return ReservationRecord(
        name=told.get("ReservationName", ""),
        nodes=expand(told.get("Nodes", "")),
        start=_moment(told.get("StartTime", "")),
        end=_moment(told.get("EndTime", "")),
        who=parse.who(told.get("Users", ""), told.get("Accounts", "")),
    )


def _moment(text: str) -> float:
    """Return a time that Slurm prints in the zone of this host; 0: none."""
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        return 0.0


async def _talk(process: asyncio.subprocess.Process, stdin: bytes) -> tuple[bytes, bytes]:
    async def write() -> None:
        assert process.stdin is not None  # noqa: S101 - it was opened as a pipe
        with suppress(ConnectionError):
            process.stdin.write(stdin)
            await process.stdin.drain()
        process.stdin.close()

    _, out, err, _ = await asyncio.gather(
        write(), _drink(process.stdout), _drink(process.stderr), process.wait()
    )
    return out, err


async def _drink(stream: asyncio.StreamReader | None) -> bytes:
    if stream is None:
        return b""
    found = bytearray()
    while chunk := await stream.read(_CHUNK):
        found += chunk
        if len(found) > MAX_ANSWER:
            raise ValueError
    return bytes(found)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Leave no client behind, also when we are given up in the middle."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())
