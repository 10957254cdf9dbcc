"""A small sglang-router over real HTTP, as slow and as unkind as a test wants it.

Additions and removals are queued and take effect when the test calls `work`, as the real one does
them in the background; what the real one answers was copied from sglang-router 0.3.2.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

BODY = web.RequestKey("body", dict[str, Any])


@dataclass
class SmallRouter:
    """Routers' lists by worker id. ``fault`` answers instead when set."""

    workers: dict[str, dict[str, Any]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    prompt: bool = True
    fault: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def listed(self) -> list[str]:
        return sorted(worker["url"] for worker in self.workers.values())

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/workers", self._guard(self._list))
        app.router.add_post("/workers", self._guard(self._add))
        app.router.add_get("/workers/{id}", self._guard(self._get))
        app.router.add_delete("/workers/{id}", self._guard(self._delete))
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def put(self, url: str, worker_type: str = "decode", **more: Any) -> None:
        """List a worker as if somebody else had added it."""
        worker_id = self.ids.setdefault(url, str(uuid.uuid4()))
        self.workers[worker_id] = {
            "id": worker_id,
            "url": url,
            "worker_type": worker_type,
            "is_healthy": True,
            **more,
        }

    def work(self) -> None:
        """Carry out what is queued."""
        for worker_id, (kind, body) in self.jobs.items():
            if kind == "RemoveWorker":
                self.workers.pop(worker_id, None)
            elif worker_id not in self.workers:
                self.put(**body)
        self.jobs.clear()

    def _guard(
        self, handler: Callable[[web.Request], web.Response]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.requests.append(f"{request.method} {request.path}")
            if self.fault is not None:
                return await self.fault(request)
            if request.can_read_body:
                request[BODY] = await request.json()
            response = handler(request)
            if self.prompt:
                self.work()
            return response

        return handle

    def _list(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"workers": list(self.workers.values()), "total": len(self.workers), "stats": {}}
        )

    def _add(self, request: web.Request) -> web.Response:
        body = request[BODY]
        worker_id = self.ids.setdefault(body["url"], str(uuid.uuid4()))
        self.jobs[worker_id] = ("AddWorker", body)
        answer = {"status": "accepted", "worker_id": worker_id, "url": body["url"]}
        return web.json_response(answer, status=202)

    def _get(self, request: web.Request) -> web.Response:
        worker_id = request.match_info["id"]
        job = self.jobs.get(worker_id)
        if worker_id not in self.workers and job is None:
            return web.json_response({"code": "WORKER_NOT_FOUND"}, status=404)
        answer = dict(self.workers.get(worker_id, {"id": worker_id, "worker_type": "unknown"}))
        if job is not None:
            answer["job_status"] = {"job_type": job[0], "status": "processing"}
        return web.json_response(answer)

    def _delete(self, request: web.Request) -> web.Response:
        worker_id = request.match_info["id"]
        if worker_id not in self.workers:
            return web.json_response({"code": "WORKER_NOT_FOUND"}, status=404)
        self.jobs[worker_id] = ("RemoveWorker", {})
        return web.json_response({"status": "accepted", "worker_id": worker_id}, status=202)


async def hangs(request: web.Request) -> web.StreamResponse:
    """Answer nothing, until the client goes away."""
    await asyncio.Event().wait()
    raise AssertionError


async def drips(request: web.Request) -> web.StreamResponse:
    """Answer a byte now and then, for ever."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


async def floods(request: web.Request) -> web.StreamResponse:
    """Answer more than anybody takes, and no end of it.

    Written past aiohttp's flow control: a writer that waits there while its client goes away leaves
    an exception behind that nobody takes, now and then.
    """
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    block = b"x" * 1_000_000
    for _ in range(12):
        if request.transport is not None:
            request.transport.write(b"%x\r\n%b\r\n" % (len(block), block))
    await asyncio.Event().wait()
    raise AssertionError


def says(text: str, status: int = 200) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Answer ``text``."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status)

    return answer
