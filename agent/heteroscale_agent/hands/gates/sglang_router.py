"""The gate of sglang-router (SMG): workers added and removed over its HTTP API, verified by listing.

The router answers 202 and works later. Two things follow, both seen on the real one (0.3.2):

- A worker that is not listed may still be about to be: an addition is retried in the background,
  and a removal that comes before it fails. So "not listed" counts as out only when no addition of
  ours is pending, which `GET /workers/{id}` tells.
- A worker that is listed may be about to leave. So "listed" counts as in only when no removal of
  ours is pending.

Every router is looked at on its own; one that does not answer is unknown, and is tried again later
and later, up to `MAX_BACKOFF`, unless somebody waits for a change.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from heteroscale.words import Role
from heteroscale_agent.exchange import ExchangeError, split
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.hands.http import (
    Client,
    HttpError,
    client,
    exchange,
    parse_object,
    refused,
    succeeded,
)

DEADLINE = 3.0
"""Seconds for one request to a router."""
MAX_BACKOFF = 5.0
"""Seconds; a restarted router heals within this and one pass."""
BLIND_PATIENCE = 30.0
"""Seconds that an addition is taken for pending when the router never told its id."""
MAX_ROUTERS = 16

WORKER_TYPES = {
    Role.PREFILL: "prefill",
    Role.ATTENTION: "prefill",
    Role.DECODE: "decode",
    Role.AGGREGATED: "regular",
}
PREFILLS = (Role.PREFILL, Role.ATTENTION)
_DP_RANK = re.compile(r"@\d+$")


@dataclass(slots=True)
class _Job:
    """What we asked of a router for one worker and have not seen settled."""

    worker_id: str
    asked_at: float


@dataclass(slots=True)
class _Contact:
    failures: int = 0
    next_try_at: float = 0.0
    error: str = ""


class _AdditionRefusedError(HttpError):
    """The router answers, but takes no such worker: it is known to be out."""


class SglangRouterGate:
    """Keeps workers in or out of every router listed in their gate."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        http: Client | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self._clock = clock
        self._http = http if http is not None else client()
        self._deadline = deadline
        self._jobs: dict[tuple[str, str], _Job] = {}
        self._contacts: dict[str, _Contact] = {}
        self._wishes: dict[str, bool] = {}

    def complaint(self, member: Member) -> str:
        """Return what is wrong with the routers or the role, or nothing."""
        routers = member.gate.routers
        if member.role not in WORKER_TYPES:
            return f"sglang-router has no workers of role {member.role}"
        if not routers or len(routers) > MAX_ROUTERS:
            return f"gate sglang-router needs 1 to {MAX_ROUTERS} routers, not {len(routers)}"
        for router in routers:
            try:
                split(router)
            except ExchangeError as error:
                return f"router {error}"
        return ""

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        """Look at every router at once, correct each, return what each was seen to say."""
        urgent = self._wishes.get(member.instance_id) != wanted_in
        self._wishes[member.instance_id] = wanted_in
        routers = list(dict.fromkeys(router.rstrip("/") for router in member.gate.routers))
        seen = await asyncio.gather(
            *(self._one(router, member, wanted_in=wanted_in, urgent=urgent) for router in routers)
        )
        places = dict(zip(routers, seen, strict=True))
        silent = [f"{r}: {self._contacts[r].error}" for r in routers if self._contacts[r].error]
        if not wanted_in and all(place is False for place in seen):
            self._wishes.pop(member.instance_id, None)
        return View(places, "; ".join(silent)[:400])

    async def close(self) -> None:
        """Do nothing: no connection is kept, and workers stay where they are."""

    async def _one(
        self, router: str, member: Member, *, wanted_in: bool, urgent: bool
    ) -> bool | None:
        contact = self._contacts.setdefault(router, _Contact())
        if not urgent and self._clock() < contact.next_try_at:
            return None
        try:
            seen = await self._compare(router, member, wanted_in=wanted_in)
        except _AdditionRefusedError as error:
            contact.failures, contact.next_try_at, contact.error = 0, 0.0, str(error)[:120]
            return False
        except HttpError as error:
            contact.failures += 1
            contact.next_try_at = self._clock() + min(MAX_BACKOFF, 0.25 * 2**contact.failures)
            contact.error = str(error)[:120]
            return None
        contact.failures, contact.next_try_at, contact.error = 0, 0.0, ""
        return seen

    async def _compare(self, router: str, member: Member, *, wanted_in: bool) -> bool | None:
        # Order matters: what settles between the two questions is then seen in the list.
        settled = await self._settled(router, member)
        mine = [w for w in await self._list(router) if _same(w.get("url"), member.endpoint)]
        fitting = [w for w in mine if _fits(w, member)]
        for worker in mine if not wanted_in else [w for w in mine if w not in fitting]:
            await self._remove(router, member, str(worker.get("id", "")))
        if not wanted_in:
            return True if mine else (False if settled else None)
        if fitting:
            return True if settled and len(fitting) == len(mine) else None
        if settled and not mine:
            await self._add(router, member)
        return False

    async def _settled(self, router: str, member: Member) -> bool:
        """Return whether nothing that we asked of this router for this worker is still pending."""
        key = (router, member.endpoint)
        job = self._jobs.get(key)
        if job is None:
            return True
        if job.worker_id:
            url = f"{router}/workers/{quote(job.worker_id, safe='')}"
            status, data = await self._ask("GET", url)
            if status == HTTPStatus.OK:
                told = parse_object(data).get("job_status")
                state = told.get("status") if isinstance(told, dict) else None
                if state in ("pending", "processing"):
                    return False
            elif status != HTTPStatus.NOT_FOUND:
                raise HttpError(f"HTTP {status} for a worker")
        elif self._clock() - job.asked_at < BLIND_PATIENCE:
            return False
        self._jobs.pop(key, None)
        return True

    async def _list(self, router: str) -> list[dict[str, Any]]:
        status, data = await self._ask("GET", f"{router}/workers")
        if status != HTTPStatus.OK:
            raise HttpError(f"HTTP {status} for /workers")
        workers = parse_object(data).get("workers")
        if not isinstance(workers, list) or not all(isinstance(w, dict) for w in workers):
            raise HttpError("/workers holds no list of workers")
        return workers

    async def _add(self, router: str, member: Member) -> None:
        body: dict[str, object] = {
            "url": member.endpoint,
            "worker_type": WORKER_TYPES[member.role],
        }
        if member.role in PREFILLS and member.bootstrap_port is not None:
            body["bootstrap_port"] = member.bootstrap_port
        if model := member.gate.options.get("model_id"):
            body["model_id"] = model
        # Noted before it is sent: an answer that never comes may mean an addition all the same.
        job = _Job("", self._clock())
        self._jobs[router, member.endpoint] = job
        status, data = await self._ask("POST", f"{router}/workers", body)
        if not succeeded(status):
            self._jobs.pop((router, member.endpoint), None)
            kind = _AdditionRefusedError if refused(status) else HttpError
            raise kind(f"HTTP {status} to an addition: {_excerpt(data)}")
        job.worker_id = str(parse_object(data).get("worker_id", ""))

    async def _remove(self, router: str, member: Member, worker_id: str) -> None:
        if not worker_id:
            raise HttpError("/workers holds a worker without an id")
        url = f"{router}/workers/{quote(worker_id, safe='')}"
        status, data = await self._ask("DELETE", url)
        if succeeded(status):
            self._jobs[router, member.endpoint] = _Job(worker_id, self._clock())
        elif status != HTTPStatus.NOT_FOUND:
            raise HttpError(f"HTTP {status} to a removal: {_excerpt(data)}")

    async def _ask(self, method: str, url: str, body: object = None) -> tuple[int, bytes]:
        return await exchange(self._http, method, url, deadline=self._deadline, body=body)


def _same(url: object, endpoint: str) -> bool:
    """Return whether a listed URL is this endpoint; data-parallel ranks are listed as URL@N."""
    return isinstance(url, str) and _DP_RANK.sub("", url).rstrip("/") == endpoint.rstrip("/")


def _fits(worker: dict[str, Any], member: Member) -> bool:
    """Return whether a listed worker is this one, not an older one that had its port."""
    if worker.get("worker_type") != WORKER_TYPES[member.role]:
        return False
    port = worker.get("bootstrap_port")
    return member.role not in PREFILLS or port is None or port == member.bootstrap_port


def _excerpt(data: bytes) -> str:
    return data[:120].decode("utf-8", errors="replace")
