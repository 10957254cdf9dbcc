"""Two coordinators, each a process with a state of its own and the login of a pod, in one cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from heteroscale.documents import write_document
from heteroscale_workbench.cluster.processes import Part
from tests.kubernetes.deploy.kustomize import resolve
from tests.kubernetes.deploy.test_overlays import DEPLOY, SERVING
from tests.kubernetes.kube import LONG, Kube
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.server.http import Seen
from tests.kubernetes.server.serve import ApiServer
from tests.kubernetes.things import workload

Json = dict[str, Any]
SPACE = "heteroscale"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SPACE}/leases/heteroscale-coordinator"
CHAT: Json = {
    "apiVersion": "heteroscale.io/v1",
    "kind": "ScaledService",
    "metadata": {"name": "chat", "namespace": "serving"},
    "spec": {
        "roles": {
            "prefill": {"template": "prefill", "min": 1, "max": 2},
            "decode": {"template": "decode", "min": 2, "max": 4},
        },
        "ratio": "1:2",
    },
}


class Pod:
    """One coordinator, and what the server has heard of it."""

    def __init__(self, name: str, server: ApiServer, folder: Path) -> None:
        self.name, self._server = name, server
        self.account = f"heteroscale-coordinator-{name}"
        self.user = f"system:serviceaccount:{SPACE}:{self.account}"
        self._folder = folder / name
        self._folder.mkdir()
        config = self._folder / "coordinator.yaml"
        config.write_text(write_document(self._document()), "utf-8")
        command = [sys.executable, "-m", "heteroscale_coordinator", "run", "-c", str(config)]
        environ = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = Part(name, command, self._folder / "log", environ)

    def _document(self) -> Json:
        login = self._server.kubeconfig(self._folder / "login", self._server.token(self.user))
        options = {
            "kubeconfig": str(login),
            "namespace": "serving",
            "templates": [_template("prefill"), _template("decode")],
        }
        spec = {
            "listen": "127.0.0.1:0",
            "http": {"listen": ""},
            "dataDir": str(self._folder / "data"),
            "kubernetes": {
                "lease": f"{SPACE}/heteroscale-coordinator",
                "objects": True,
                "kubeconfig": str(login),
            },
            "adapters": [{"name": "here", "kind": "kubernetes", "options": options}],
        }
        return {"apiVersion": "heteroscale/v1", "kind": "Coordinator", "spec": spec}

    def asked(self) -> list[Seen]:
        """Return what it has asked, oldest first."""
        return [one for one in self._server.seen() if one.user == self.user]

    def changed(self) -> list[Seen]:
        """Return what it has changed but for the lease."""
        return [one for one in self.asked() if one.method != "GET" and "/leases" not in one.path]

    def holds(self, kube: Kube) -> bool:
        """Return whether the lease is its."""
        return f"_{self.process.pid}_" in _holder(kube)


def _template(role: str) -> Json:
    made = workload("Deployment", role, gpus=1)
    del made["metadata"], made["spec"]["replicas"]
    return {"name": role, "role": role, "gpus": 1, "object": made}


def _holder(kube: Kube) -> str:
    answer = kube.http.get(LEASE)
    return str(answer.json()["spec"].get("holderIdentity", "")) if answer.is_success else ""


class Pair:
    """See the module."""

    def __init__(self, kube: Kube, server: ApiServer, folder: Path) -> None:
        self.kube, self.kubelet = kube, Kubelet(kube)
        for one in [SERVING, *resolve(DEPLOY / "overlays" / "drive")]:
            if one["kind"].endswith("Binding"):
                one["subjects"] = [
                    {
                        "kind": "ServiceAccount",
                        "name": f"heteroscale-coordinator-{name}",
                        "namespace": SPACE,
                    }
                    for name in ("a", "b")
                ]
            if one["kind"] != "Deployment":
                kube.create(one)
        kube.namespace = "serving"
        labels = {"nvidia.com/gpu.product": "NVIDIA-H20"}
        self.kubelet.join("n1", gpus=8, labels=labels)
        self.a, self.b = Pod("a", server, folder), Pod("b", server, folder)

    async def until(self, fact: Callable[[], object], what: str) -> None:
        """Wait for a fact, with the cluster's kubelets at work."""
        try:
            async with asyncio.timeout(LONG):
                while True:
                    await asyncio.to_thread(self.kubelet.tick)
                    if await asyncio.to_thread(fact):
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            tails = "\n".join(f"--- {p.name}\n{p.process.tail(20)}" for p in (self.a, self.b))
            raise AssertionError(f"never came: {what}\n{self.status()}\n{tails}") from None

    def pods(self) -> set[str]:
        """Return the uids of the engines' pods that live."""
        return {
            pod["metadata"]["uid"]
            for pod in self.kube.list("v1", "pods")
            if not pod["metadata"].get("deletionTimestamp")
        }

    def status(self) -> Json:
        """Return what the service's object says."""
        found = self.kube.find("heteroscale.io/v1", "scaledservices", "chat") or {}
        return dict(found.get("status") or {})

    def cut_short(self) -> None:
        """Spare a test the time that a dead holder's lease has left: the story is the same."""
        lease = self.kube.ask("GET", LEASE)
        lease["spec"]["leaseDurationSeconds"] = 1
        self.kube.ask("PUT", LEASE, json=lease)

    def serves(self) -> bool:
        """Return whether all that is wanted is told to be in service."""
        said = self.status()
        return (said.get("prefill"), said.get("decode")) == ("1/1", "2/2")


@contextlib.asynccontextmanager
async def leading(kube: Kube, server: ApiServer, folder: Path) -> AsyncIterator[Pair]:
    """Give a pair of which ``a`` leads a service that is up, and ``b`` follows."""
    pair = Pair(kube, server, folder)
    try:
        await pair.a.process.start()
        await pair.until(lambda: pair.a.holds(kube), "a leads")
        await pair.b.process.start()
        kube.create(CHAT)
        await pair.until(pair.serves, "the service is up")
        await pair.until(lambda: len(pair.b.asked()) >= 2, "b follows")
        yield pair
    finally:
        await pair.a.process.stop()
        await pair.b.process.stop()
