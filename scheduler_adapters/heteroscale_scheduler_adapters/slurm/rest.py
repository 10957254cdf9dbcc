"""The way in through slurmrestd: over TCP with a token, or over a Unix socket as its own user.

Two dialects are spoken: v0.0.38 (Slurm 22.05), and that of the data parsers (v0.0.40 and later). Which
one it is, slurmrestd is asked by its ``ping``, newest first.
"""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from heteroscale_scheduler_adapters.port import (
    RefusedError,
    SettingsError,
    UnavailableError,
)
from heteroscale_scheduler_adapters.slurm import dialect, parse
from heteroscale_scheduler_adapters.slurm.command import CommandWay
from heteroscale_scheduler_adapters.slurm.records import (
    JobRecord,
    NodeRecord,
    Order,
    ReservationRecord,
)
from heteroscale_scheduler_adapters.slurm.way import MAX_ANSWER, gone, verdict

VERSIONS = ("v0.0.44", "v0.0.43", "v0.0.42", "v0.0.41", "v0.0.40", "v0.0.38")
_UNAUTHORIZED = (401, 403)
_NOT_FOUND = 404
_NEW = 40


class RestWay:
    """Slurm by slurmrestd."""

    name = "slurmrestd"

    def __init__(
        self,
        url: str,
        *,
        deadline: float,
        user: str = "",
        token_file: Path | None = None,
        version: str = "",
        beside: CommandWay | None = None,
    ) -> None:
        """``beside``: the commands, for what slurmrestd cannot do, where they are there."""
        self.user = user or getpass.getuser()
        self._token_file = token_file
        self._version = version
        self._deadline = deadline
        self._beside = beside
        base, transport = url, None
        if url.startswith("unix:"):
            path = url.removeprefix("unix:").removeprefix("//")
            transport = httpx.AsyncHTTPTransport(uds=path)
            base = "http://localhost"
        # Each call gets its own deadline; a proxy of the environment is never meant here.
        self._client = httpx.AsyncClient(
            base_url=base, transport=transport, timeout=deadline, trust_env=False
        )

    @property
    def new(self) -> bool:
        """Whether it speaks the dialect of the data parsers."""
        return int(self._version.rpartition(".")[2]) >= _NEW

    @property
    def warns_script(self) -> bool:
        """v0.0.38 warns steps only."""
        return self.new

    async def open(self) -> None:
        """Find out which versions are spoken, and whether the controller answers."""
        for version in (self._version,) if self._version else VERSIONS:
            status, body = await self._send("GET", f"/slurm/{version}/ping")
            if status == _NOT_FOUND:
                continue
            self._judge(status, body, "ping")
            if down := _down(body):
                raise UnavailableError(f"slurmrestd answers, but no slurmctld does: {down}")
            self._version = version
            return
        raise SettingsError(
            f"rest.url: slurmrestd speaks none of {', '.join(VERSIONS)}; start it with "
            "-s openapi/v0.0.38 (22.05), or a version of these"
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def nodes(self) -> list[NodeRecord]:
        """Return all nodes."""
        return parse.nodes(await self._ask("nodes"))

    async def jobs(self) -> list[JobRecord]:
        """Return all jobs."""
        return parse.jobs(await self._ask("jobs"))

    async def topology(self) -> str:
        """Ask ``scontrol``, where there is one: slurmrestd does not tell it."""
        if self._beside is None:
            return ""
        with suppress(UnavailableError):
            return await self._beside.topology()
        return ""

    async def reservations(self) -> list[ReservationRecord]:
        """Return all reservations."""
        return parse.reservations(await self._ask("reservations"))

    async def submit(self, order: Order) -> int:
        """Submit a held job."""
        if order.switches:
            raise RefusedError("slurmrestd takes no --switches: use `pin: nodes`, or the commands")
        body = dialect.new_job(order) if self.new else dialect.old_job(order)
        status, text = await self._send("POST", self._path("job/submit"), body)
        # A held job is told as an error (2042) beside its number: the number is what counts.
        if job := dialect.submitted(text):
            return job
        self._judge(status, text, "submit")
        raise UnavailableError("submit: slurmrestd told no number of a job")

    async def release(self, jobs: Sequence[int]) -> None:
        """Release them one by one."""
        for job in jobs:
            await self._do("POST", f"job/{job}", {"hold": False})

    async def comment(self, job: int, text: str) -> None:
        """Write a comment anew."""
        await self._do("POST", f"job/{job}", {"comment": text})

    async def signal(self, job: int, *, batch: bool) -> None:
        """Send TERM; 22.05 knows no difference between the script and its steps."""
        flags = "&flags=BATCH_JOB" if batch and self.new else ""
        await self._unless_gone(f"job/{job}?signal=TERM{flags}")

    async def cancel(self, jobs: Sequence[int]) -> None:
        """Cancel them one by one."""
        for job in jobs:
            await self._unless_gone(f"job/{job}")

    async def drain(self, node: str, reason: str) -> None:
        """Drain a node."""
        if self.new:
            body = {"state": ["DRAIN"], "reason": reason}
            return await self._do("POST", f"node/{quote(node)}", body)
        return await self._commands().drain(node, reason)

    async def resume(self, node: str) -> None:
        """Resume a node."""
        if self.new:
            return await self._do("POST", f"node/{quote(node)}", {"state": ["RESUME"]})
        return await self._commands().resume(node)

    def _commands(self) -> CommandWay:
        if self._beside is None:
            raise RefusedError(f"slurmrestd changes no nodes in {self._version}: use the commands")
        return self._beside

    async def _unless_gone(self, what: str) -> None:
        try:
            await self._do("DELETE", what)
        except RefusedError as error:
            if not gone(error):
                raise

    def _path(self, what: str) -> str:
        return f"/slurm/{self._version}/{what}"

    async def _ask(self, what: str) -> bytes:
        status, body = await self._send("GET", self._path(what))
        try:
            self._judge(status, body, what)
        except RefusedError as error:
            raise UnavailableError(str(error)) from None
        return body

    async def _do(self, method: str, what: str, body: Any = None) -> None:
        status, text = await self._send(method, self._path(what), body)
        self._judge(status, text, f"{method} {what.partition('?')[0]}")

    def _judge(self, status: int, body: bytes, doing: str) -> None:
        """Raise what a status and the errors in a body mean."""
        if status in _UNAUTHORIZED:
            raise UnavailableError(f"{doing}: slurmrestd refuses {self.user}: is the token good?")
        try:
            said = parse.errors(json.loads(body))
        except (ValueError, RecursionError):
            said = body[:200].decode(errors="replace")
            if httpx.codes.is_success(status):
                raise UnavailableError(f"{doing}: no JSON: {said!r}") from None
        if self._token_file is not None and "config is unable to load" in said:
            # So says 22.05 of a token that slurmctld does not take, and of a slurmctld that is gone.
            said = f"{said} (is the token good, and slurmctld up?)"
        if said or not httpx.codes.is_success(status):
            raise verdict(said or f"status {status}", doing)

    async def _send(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        if self._client.is_closed:
            raise UnavailableError("the adapter is closed")
        request = self._client.build_request(method, path, json=body, headers=self._headers())
        found = bytearray()
        try:
            async with asyncio.timeout(self._deadline):
                response = await self._client.send(request, stream=True)
                try:
                    async for chunk in response.aiter_bytes():
                        found += chunk
                        if len(found) > MAX_ANSWER:
                            raise UnavailableError(f"{path}: more than {MAX_ANSWER} bytes")
                finally:
                    await response.aclose()
        except TimeoutError:
            raise UnavailableError(f"slurmrestd: {method} {path}: no answer in time") from None
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise UnavailableError(f"slurmrestd: {method} {path}: {why}") from error
        return response.status_code, bytes(found)

    def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            token = self._token_file.read_text().strip()
        except OSError as error:
            raise UnavailableError(f"rest.tokenFile: {error}") from error
        # `scontrol token` prints SLURM_JWT=…, and people keep it so.
        token = token.removeprefix("SLURM_JWT=")
        return {"X-SLURM-USER-NAME": self.user, "X-SLURM-USER-TOKEN": token}


def _down(body: bytes) -> str:
    """Return which controllers do not answer, if none does."""
    try:
        pings = json.loads(body).get("pings") or []
    except (ValueError, RecursionError, AttributeError):
        return ""
    told = [one for one in pings if isinstance(one, dict)]
    if any("UP" in (one.get("ping"), one.get("pinged")) for one in told) or not told:
        return ""
    return ", ".join(str(one.get("hostname")) for one in told)
