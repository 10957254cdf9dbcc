"""A load balancer with an HTTP API of its own, as there are many."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class SmallBalancer:
    """Servers by address. ``fault`` answers instead when set, ``status`` is answered to changes."""

    servers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    fault: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    status: int | None = None
    url: str = ""
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        self.tokens.append(request.headers.get("X-Token", ""))
        if self.fault is not None:
            return await self.fault(request)
        name = request.path.removeprefix("/servers/")
        if request.method == "GET":
            return web.Response(status=200 if name in self.servers else 404)
        if self.status is not None:
            return web.Response(status=self.status)
        if request.method == "DELETE":
            return web.Response(status=204 if self.servers.pop(name, None) else 404)
        body = await request.json() if request.can_read_body else {"server": "?"}
        self.servers[body["server"]] = body
        return web.Response(status=201)
