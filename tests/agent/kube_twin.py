"""A small API server over TLS that checks the token: nodes and pods, as far as an agent asks for them.

Paths, parameters and error objects are the real API's (v1). What an agent may not ask is refused.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web

TOKEN = "eyJhbGciOi.a-token.of-a-service-account"


def pod(
    name: str, *, namespace: str = "serving", node: str = "node-1", **more: Any
) -> dict[str, Any]:
    """Return a pod that runs and is Ready, with one container."""
    labels, command = more.get("labels", {}), more.get("command", [])
    ready = "True" if more.get("ready", True) else "False"
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": more.get("uid", f"00000000-0000-4000-8000-{zlib.crc32(name.encode()):012d}"),
        "labels": labels,
        "annotations": more.get("annotations", {}),
    }
    if more.get("leaving"):
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    container: dict[str, Any] = {"name": "engine", "image": "engine:1"}
    if command:
        container["command"] = command
    if "container_port" in more:
        container["ports"] = [{"containerPort": more["container_port"]}]
    status = {
        "phase": more.get("phase", "Running"),
        "podIP": more.get("ip", "127.0.0.1"),
        "conditions": [{"type": "Ready", "status": ready}],
        "startTime": "2026-01-01T00:00:00Z",
    }
    return {
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": [container]},
        "status": status,
    }


class KubeTwin:
    """What the cluster holds; a test changes it at any time."""

    def __init__(self, folder: Path) -> None:
        self.nodes: dict[str, dict[str, str]] = {"node-1": {}}
        """Labels by node."""
        self.pods: list[dict[str, Any]] = []
        self.token = TOKEN
        self.requests: list[web.Request] = []
        self.failing: web.Response | None = None
        self.hangs = False
        self.url = ""
        self.token_file, self.ca_file = folder / "token", folder / "ca.crt"
        self.token_file.write_text(TOKEN + "\n")
        self._authority = trustme.CA()
        self._authority.cert_pem.write_to_path(str(self.ca_file))

    @property
    def access(self) -> dict[str, str]:
        """The configuration of an agent that asks it."""
        return {
            "apiServer": self.url,
            "tokenFile": str(self.token_file),
            "caFile": str(self.ca_file),
            "nodeName": "node-1",
        }

    def tls(self) -> ssl.SSLContext:
        """Return the server's own certificate, of the authority in the file."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("127.0.0.1").configure_cert(context)
        return context

    async def handle(self, request: web.Request) -> web.Response:
        """Answer as the API server does."""
        self.requests.append(request)
        if self.hangs:
            await asyncio.Event().wait()
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return failure(401, "Unauthorized")
        if self.failing is not None:
            return failure(self.failing.status, self.failing.reason)
        match request.path.split("/")[1:]:
            case ["api", "v1", "nodes", name]:
                return self._node(name)
            case ["api", "v1", "pods"]:
                return self._list(request, self.pods)
            case ["api", "v1", "namespaces", name, "pods"]:
                return self._list(request, [p for p in self.pods if _of(p, name)])
        return failure(404, "the server could not find the requested resource")

    def _node(self, name: str) -> web.Response:
        if name not in self.nodes:
            return failure(404, f'nodes "{name}" not found')
        metadata = {"name": name, "labels": self.nodes[name]}
        kind = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        return web.json_response({**kind, "metadata": metadata})

    def _list(self, request: web.Request, pods: list[dict[str, Any]]) -> web.Response:
        field, _, node = request.query.get("fieldSelector", "").partition("=")
        if field != "spec.nodeName":
            return failure(403, "pods is forbidden: an agent lists the pods of its node only")
        wanted = [part.split("=") for part in request.query.get("labelSelector", "").split(",")]
        found = [
            one
            for one in pods
            if one["spec"]["nodeName"] == node
            and all(one["metadata"]["labels"].get(pair[0]) == pair[1] for pair in wanted if pair[0])
        ]
        start, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        metadata = {"resourceVersion": "1"}
        if start + limit < len(found):
            metadata["continue"] = str(start + limit)
        page = found[start : start + limit]
        return web.json_response({"kind": "PodList", "metadata": metadata, "items": page})


def _of(one: dict[str, Any], namespace: str) -> bool:
    return bool(one["metadata"]["namespace"] == namespace)


def failure(code: int, message: str) -> web.Response:
    """Return a Status object, as the API server says that something is wrong."""
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    return web.json_response({**status, "message": message, "code": code}, status=code)


@asynccontextmanager
async def kube_twin(folder: Path, *, secure: bool = True) -> AsyncIterator[KubeTwin]:
    """Run the twin on a free port."""
    twin = KubeTwin(folder)
    application = web.Application()
    application.router.add_get("/{rest:.*}", twin.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=twin.tls() if secure else None)
    await site.start()
    port = runner.addresses[0][1]
    twin.url = f"http{'s' if secure else ''}://127.0.0.1:{port}"
    try:
        yield twin
    finally:
        await runner.cleanup()
