"""vLLM production-stack's router as its dynamic config sees it: a file read now and then.

It reads when the test says so (the real one every ten seconds) and tells at `/health` what it took
over, with its own field names; a file that it cannot take over changes nothing. From its source:
`dynamic_config.py`, `service_discovery.py` (lists of one length, none empty), `main_router.py`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web


class SmallStack:
    """One router. ``discovered`` is where its requests go, ``told`` what it says it took over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.told: dict[str, Any] | None = {
            "service_discovery": "static",
            "routing_logic": "roundrobin",
            "static_backends": "http://10.0.0.1:8000",
            "static_models": "tiny",
        }
        self.discovered: list[str] = ["http://10.0.0.1:8000"]
        self.fault: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/health", self._health)
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

    def read(self) -> None:
        """Read the file, and take it over."""
        self.begin()
        self.told = json.loads(self._path.read_text())

    def begin(self) -> None:
        """Read the file and send requests by it, but do not tell yet."""
        config = json.loads(self._path.read_text())
        assert config["service_discovery"] == "static"
        backends = [b for b in config["static_backends"].split(",") if b.startswith("http")]
        for name in ("static_models", "static_model_labels"):
            if name in config:
                assert len(config[name].split(",")) == len(backends), name
        self.discovered = backends

    async def _health(self, request: web.Request) -> web.StreamResponse:
        if self.fault is not None:
            return await self.fault(request)
        body: dict[str, Any] = {"status": "healthy"}
        if self.told is not None:
            body["dynamic_config"] = {"static_model_types": None, "callbacks": None, **self.told}
        return web.json_response(body)
