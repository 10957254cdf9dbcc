"""Keeps a real router's workers as a controller of endpoints does: pods that are Ready and selected.

The router's own discovery takes pods in, and lets one go only when it is deleted: a label or a readiness
that is lost is nothing to it. So what an operator needs beside it is played here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import httpx

from heteroscale_workbench.router import Router
from tests.kubernetes.run.nodes import Json, Nodes

PACE = 0.1
BOOTSTRAP = 8998
"""Where prefills hand out KV; each has an address of its own."""


class Endpoints:
    """One router's. ``run`` it as a task."""

    def __init__(self, nodes: Nodes, router: Router, selector: Mapping[str, str]) -> None:
        self._nodes, self._router, self._selector = nodes, router, selector
        self._http = httpx.AsyncClient(base_url=router.url, trust_env=False, timeout=10.0)
        self._asked: set[str] = set()

    async def run(self) -> None:
        """Keep the router's workers, until cancelled."""
        while True:
            with contextlib.suppress(httpx.HTTPError):  # a router that is busy is asked again
                await self._round()
            await asyncio.sleep(PACE)

    async def _round(self) -> None:
        wanted = self.wanted()
        there = {one.url: one for one in await self._router.workers()}
        self._asked &= wanted.keys() - there.keys()
        for url in sorted(wanted.keys() - there.keys() - self._asked):
            role = wanted[url]
            more = {"bootstrap_port": BOOTSTRAP} if role == "prefill" else {}
            body = {"url": url, "worker_type": role, **more}
            (await self._http.post("/workers", json=body)).raise_for_status()
            self._asked.add(url)
        for url in sorted(there.keys() - wanted.keys()):
            await self._http.delete(f"/workers/{there[url].id}")

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    def wanted(self) -> dict[str, str]:
        """Return role by address of the pods that are to get traffic."""
        found = {}
        for pod in self._nodes.pods:
            labels = pod["metadata"].get("labels", {})
            engine = self._nodes.engines.get(pod["metadata"]["uid"])
            if (
                engine
                and not engine.rank
                and self._selector.items() <= labels.items()
                and ready(pod)
            ):
                found[engine.url] = engine.role
        return found


def ready(pod: Json) -> bool:
    """Return whether a pod is Ready, and stays."""
    said = {one["type"]: one["status"] for one in pod.get("status", {}).get("conditions", ())}
    return said.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp")
