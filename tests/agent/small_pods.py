"""The pods of a small Kubernetes API server: HTTPS, a bearer token, merge patches, uid conflicts.

Answers are as a real API server gives them (kind, Status with reason and code); it has pods alone.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web

from heteroscale_agent.config.places import KubernetesAccess
from heteroscale_agent.hands.gates.labels import KEY

NAMESPACE = "llm"
TOKEN = "t0ken"


class SmallPods:
    """One pod, `vllm-0`, in the namespace `llm`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.patches: list[dict[str, Any]] = []
        self.fault: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.swap_before_patch = False
        worn = {"app": "vllm", KEY: "true", "llm-d.ai/role": "decode"}
        self._pods = {"vllm-0": _pod("vllm-0", worn)}
        self._runner: web.AppRunner | None = None
        self.access = KubernetesAccess()

    def labels(self, name: str) -> dict[str, str]:
        worn: dict[str, str] = self._pods[name]["metadata"]["labels"]
        return worn

    async def start(self) -> None:
        app = web.Application()
        path = "/api/v1/namespaces/{namespace}/pods/{name}"
        app.router.add_get(path, self._get)
        app.router.add_patch(path, self._patch)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self._folder / "ca.crt"))
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        (self._folder / "token").write_text(TOKEN + "\n")
        self.access = KubernetesAccess(
            api_server=f"https://127.0.0.1:{port}",
            token_file=self._folder / "token",
            ca_file=self._folder / "ca.crt",
        )

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _get(self, request: web.Request) -> web.StreamResponse:
        return await self._found(request) or web.json_response(self._pods[_name(request)])

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        refused = await self._found(request)
        if refused is not None:
            return refused
        if request.content_type != "application/merge-patch+json":
            return _status(415, "UnsupportedMediaType", request.content_type)
        name = _name(request)
        if self.swap_before_patch:
            self._pods[name] = _pod(name, self.labels(name))
        body = await request.json()
        if body["metadata"]["uid"] != self._pods[name]["metadata"]["uid"]:
            return _status(409, "Conflict", "the UID in the precondition is another one")
        self.patches.append(body["metadata"]["labels"])
        for key, value in body["metadata"]["labels"].items():
            if value is None:
                self.labels(name).pop(key, None)
            else:
                self.labels(name)[key] = value
        return web.json_response(self._pods[name])

    async def _found(self, request: web.Request) -> web.StreamResponse | None:
        if self.fault is not None:
            return await self.fault(request)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _status(401, "Unauthorized", "Unauthorized")
        if request.match_info["namespace"] != NAMESPACE or _name(request) not in self._pods:
            return _status(404, "NotFound", f"pods {_name(request)} not found")
        return None


def _name(request: web.Request) -> str:
    return request.match_info["name"]


def _pod(name: str, labels: dict[str, str]) -> dict[str, Any]:
    meta = {"name": name, "namespace": NAMESPACE, "uid": str(uuid.uuid4()), "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}, "status": {}}


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason}
    return web.json_response({**body, "message": message, "code": code}, status=code)
