"""Takes the workers of lost nodes out of routers, because the agent that owned their gates is gone.

List and delete only. It is asked again each tick while the instance is lost, so one try is enough;
a failure is said once, until it is over. What a router has confirmed is not asked of it again: an agent
that is cut off from us alone still owns its gate, and would only add its worker anew each time.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import structlog
from pydantic_core import from_json

from heteroscale_coordinator.core.events import RemoveFromRouters

log = structlog.get_logger("heteroscale.routers")

MAX_ANSWER_BYTES = 1024 * 1024
DEADLINE_S = 5.0
PARALLEL = 8
FORGET_S = 60.0
"""Not asked for so long: the instance came back, and may be lost anew."""


class RouterError(RuntimeError):
    """The router did not do it; the text says what it did instead."""


class Routers:
    """A client of sglang-routers: ``GET /workers``, ``DELETE /workers/{id}``."""

    def __init__(self, client: httpx.AsyncClient | None = None) -> None:
        self._client = client or httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S)
        self._places = asyncio.Semaphore(PARALLEL)
        self._busy: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._failing: dict[tuple[str, str], str] = {}
        self._confirmed: dict[tuple[str, str], float] = {}
        """Removals that a router confirmed, and when they were last asked for."""

    def remove(self, effect: RemoveFromRouters) -> None:
        """Begin to take an endpoint out of its routers; what is under way is not begun twice."""
        now = asyncio.get_running_loop().time()
        for router in effect.routers:
            key = (router, effect.endpoint)
            if now - self._confirmed.get(key, -FORGET_S) < FORGET_S:
                self._confirmed[key] = now
            elif key not in self._busy:
                task = asyncio.get_running_loop().create_task(self._try(*key))
                self._busy[key] = task
                task.add_done_callback(partial(self._done, key))

    def _done(self, key: tuple[str, str], _task: asyncio.Task[None]) -> None:
        self._busy.pop(key, None)

    async def settle(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._busy.values())

    async def aclose(self) -> None:
        """Give up what is under way, and close the connections."""
        for task in tuple(self._busy.values()):
            task.cancel()
        await asyncio.gather(*self._busy.values(), return_exceptions=True)
        await self._client.aclose()

    async def _try(self, router: str, endpoint: str) -> None:
        key = (router, endpoint)
        try:
            async with self._places, asyncio.timeout(DEADLINE_S):
                removed = await self._remove(router.rstrip("/"), endpoint.rstrip("/"))
        except (httpx.HTTPError, httpx.InvalidURL, RouterError, TimeoutError, ValueError) as error:
            why = str(error) or type(error).__name__
            if key not in self._failing:
                log.warning("worker not removed", router=router, endpoint=endpoint, error=why)
            self._failing[key] = why
            return
        self._failing.pop(key, None)
        now = asyncio.get_running_loop().time()
        old = [known for known, at in self._confirmed.items() if now - at > FORGET_S]
        for known in old:
            del self._confirmed[known]
        self._confirmed[key] = now
        if removed:
            log.info("worker of a lost node removed", router=router, endpoint=endpoint)

    async def _remove(self, router: str, endpoint: str) -> int:
        """Delete every worker of ``endpoint``; return how many there were."""
        found = _workers_of(await self._ask("GET", f"{router}/workers"), endpoint)
        for worker_id in found:
            await self._ask("DELETE", f"{router}/workers/{quote(worker_id, safe='')}")
        return len(found)

    async def _ask(self, method: str, url: str) -> Any:
        async with self._client.stream(method, url) as response:
            if not response.is_success:
                raise RouterError(f"{method} {url}: HTTP {response.status_code}")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise RouterError(f"{method} {url}: answer above {MAX_ANSWER_BYTES} bytes")
        if method != "GET":
            return None
        return from_json(bytes(body))  # other than json's, its depth is bounded


def _workers_of(listing: Any, endpoint: str) -> list[str]:
    """Return the ids of an endpoint's workers; data-parallel ranks are listed as ``url@rank``."""
    workers = listing.get("workers") if isinstance(listing, dict) else None
    if not isinstance(workers, list):
        raise RouterError("GET /workers: not a list of workers")
    found = []
    for worker in workers:
        if not isinstance(worker, dict):
            continue
        url, worker_id = str(worker.get("url", "")), worker.get("id")
        same = url.rstrip("/") == endpoint or url.startswith(f"{endpoint}@")
        if same and isinstance(worker_id, str) and worker_id:
            found.append(worker_id)
    return found
