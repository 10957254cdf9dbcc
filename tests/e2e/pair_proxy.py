"""A proxy for vLLM's prefill/decode pairs: prefill first, then decode with what prefill handed over.

vLLM's NixlConnector is driven by its proxy: the prefill's answer carries ``kv_transfer_params``, by
which the decode fetches the KV. Routers that do this on bare metal do not ship as a package that can
be had here, so this is a small one of ours. Who is in service it reads from the agents' `file` gate,
anew for each request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web

from heteroscale_workbench.router import free_port

PATIENCE = 420.0
"""Seconds an engine may take for one answer."""
END_TIMEOUT = 1.0
"""Seconds that requests still under way at the end are waited for."""
HANDOVER: Mapping[str, Any] = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
"""What a prefill is told so that it keeps the KV for a decode."""


class PairProxy:
    """Serves on loopback; use as an async context."""

    def __init__(self, gate: Path) -> None:
        self.gate = gate
        self.url = ""
        self._turn = count()
        # A kept-alive connection that the engine closes at the wrong moment would lose a request.
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        wait = aiohttp.ClientTimeout(total=PATIENCE)
        self._http = aiohttp.ClientSession(connector=connector, timeout=wait)
        app = web.Application()
        app.router.add_post("/v1/completions", self._completions)
        # What nobody waits for ends with its client, or at the latest with the proxy.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=END_TIMEOUT)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        port = free_port()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._http.close()

    def members(self, role: str) -> list[str]:
        """Return the endpoints of a role that the gate lets traffic to."""
        try:
            entries = json.loads(self.gate.read_text("utf-8"))["endpoints"]
        except FileNotFoundError:
            return []
        return [entry["endpoint"] for entry in entries if entry["role"] == role]

    async def prefill(
        self, endpoint: str, body: Mapping[str, Any], request_id: str
    ) -> dict[str, Any]:
        """Let a prefill compute a prompt and hold its KV; return what the decode needs to fetch it."""
        short = {**body, "stream": False, "max_tokens": 1, "kv_transfer_params": HANDOVER}
        short.pop("stream_options", None)
        return dict((await self._post(endpoint, short, request_id))["kv_transfer_params"])

    async def text(self, endpoint: str, body: Mapping[str, Any], request_id: str) -> str:
        """Return the whole text of an engine's answer."""
        answer = await self._post(endpoint, body, request_id)
        return str(answer["choices"][0]["text"])

    def _next(self, role: str) -> str:
        found = self.members(role)
        if not found:
            raise web.HTTPServiceUnavailable(text=f"no {role} in service")
        return found[next(self._turn) % len(found)]

    async def _post(
        self, endpoint: str, body: Mapping[str, Any], request_id: str
    ) -> dict[str, Any]:
        async with self._http.post(
            f"{endpoint}/v1/completions", json=body, headers={"X-Request-Id": request_id}
        ) as answer:
            if not answer.ok:
                raise web.HTTPBadGateway(text=f"{endpoint}: {answer.status} {await answer.text()}")
            return dict(await answer.json())

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body, request_id = await request.json(), request.headers["X-Request-Id"]
        handed = await self.prefill(self._next("prefill"), body, request_id)
        # Chosen only now: who was in service before the prefill may have left meanwhile.
        decode = self._next("decode")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        async with self._http.post(
            f"{decode}/v1/completions",
            json={**body, "kv_transfer_params": handed},
            headers={"X-Request-Id": request_id},
        ) as answer:
            response.set_status(answer.status)
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
        await response.write_eof()
        return response
