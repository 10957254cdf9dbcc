"""A cluster in which the acting half is tried: real HTTP, with controllers that a test moves by hand.

Whenever the adapter waits, each controller takes one turn, so nothing depends on how fast anything is.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.acting import Hands
from heteroscale_scheduler_adapters.kubernetes.client import Client
from heteroscale_scheduler_adapters.kubernetes.connect import configuration
from heteroscale_scheduler_adapters.kubernetes.settings import read_settings
from tests.kubernetes.kube import Kube, Refused

Json = dict[str, Any]
APPS = {"Deployment": "deployments", "StatefulSet": "statefulsets"}
GONE = {"gracePeriodSeconds": 0}


class Stage:
    """What plays the controllers, the scheduler and the kubelet, a turn at a time."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.now = 1_000_000.0
        self.idle = False
        """The controllers do nothing."""
        self._count = itertools.count()

    async def pause(self, seconds: float) -> None:
        """Let time pass, and everybody take a turn."""
        self.now += seconds
        self.turn()
        await asyncio.sleep(0)

    def turn(self) -> None:
        """Let each controller take a turn, and the pods that may start be ready."""
        if self.idle:
            return
        for kind, plural in APPS.items():
            for thing in self.kube.list("apps/v1", plural):
                self._control(kind, thing)
        for pod in self.pods():
            if not pod["spec"].get("schedulingGates") and pod["status"].get("phase") == "Pending":
                self._start(pod)

    def pods(self, **labels: str) -> list[Json]:
        """Return the pods with these of our labels."""
        wanted = {names.PREFIX + key: value for key, value in labels.items()}
        return [
            pod
            for pod in self.kube.list("v1", "pods")
            if wanted.items() <= pod["metadata"].get("labels", {}).items()
        ]

    def instances(self) -> list[str]:
        """Return the instances that are there, one for each pod."""
        return sorted(pod["metadata"]["labels"].get(names.INSTANCE, "") for pod in self.pods())

    def waiting(self) -> list[str]:
        """Return the names of the pods that still have a scheduling gate."""
        return [p["metadata"]["name"] for p in self.pods() if p["spec"].get("schedulingGates")]

    def only(self, plural: str = "deployments") -> Json:
        """Return the one object of a kind."""
        (found,) = self.kube.list("apps/v1", plural)
        return found

    def scale(self, name: str, replicas: int, who: str) -> None:
        """Set an object's number as somebody else does."""
        self.kube.patch(
            "apps/v1", "deployments", name, {"spec": {"replicas": replicas}}, sub="scale",
            fieldManager=who,
        )  # fmt: skip

    def _control(self, kind: str, thing: Json) -> None:
        name, wanted = thing["metadata"]["name"], thing["spec"].get("replicas", 1)
        chosen = thing["spec"]["selector"]["matchLabels"].items()
        there = [p for p in self.pods() if chosen <= p["metadata"].get("labels", {}).items()]
        failure = ""
        for _ in range(wanted - len(there)):
            failure = self._create(kind, thing, there) or failure
        for pod in sorted(there, key=self._rank(kind))[: max(0, len(there) - wanted)]:
            self.kube.delete("v1", "pods", pod["metadata"]["name"], **GONE)
        status: Json = {
            "replicas": min(wanted, len(there)) if not failure else len(there),
            "observedGeneration": thing["metadata"]["generation"],
            "conditions": [],
        }
        if failure:
            said = {"type": "ReplicaFailure", "status": "True", "message": failure}
            status["conditions"] = [said]
        self.kube.patch("apps/v1", APPS[kind], name, {"status": status}, sub="status")

    def _create(self, kind: str, thing: Json, there: list[Json]) -> str:
        pod = copy.deepcopy(thing["spec"]["template"])
        end: object = next(self._count)
        if kind == "StatefulSet":
            taken = {one["metadata"]["name"] for one in there}
            stem = thing["metadata"]["name"]
            end = next(n for n in itertools.count() if f"{stem}-{n}" not in taken)
        pod |= {"apiVersion": "v1", "kind": "Pod"}
        pod["metadata"]["name"] = f"{thing['metadata']['name']}-{end}"
        try:
            there.append(self.kube.create(pod))
        except Refused as error:
            return error.message
        return ""

    def _rank(self, kind: str) -> Any:
        def by_ordinal(pod: Json) -> int:
            return -int(pod["metadata"]["name"].rpartition("-")[2])

        def by_rank(pod: Json) -> tuple[bool, bool, int]:
            conditions = pod["status"].get("conditions", [])
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            cost = pod["metadata"].get("annotations", {}).get(names.DELETION_COST, "0")
            return bool(pod["spec"].get("nodeName")), ready, int(cost)

        return by_ordinal if kind == "StatefulSet" else by_rank

    def _start(self, pod: Json) -> None:
        name = pod["metadata"]["name"]
        affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
        target = {"apiVersion": "v1", "kind": "Node", "name": _node(affinity) or "anywhere"}
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": target,
        }
        if not pod["spec"].get("nodeName"):
            self.kube.ask("POST", self.kube.place("v1", "pods", name, "binding"), json=binding)
        ready = {"type": "Ready", "status": "True"}
        status = {"status": {"phase": "Running", "conditions": [ready]}}
        self.kube.patch("v1", "pods", name, status, kind="strategic", sub="status")


def _node(affinity: Json) -> str:
    fields = [
        one
        for term in [
            *affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get(
                "nodeSelectorTerms", []
            ),
            *(
                liked["preference"]
                for liked in affinity.get("preferredDuringSchedulingIgnoredDuringExecution", [])
            ),
        ]
        for one in term.get("matchFields", [])
    ]
    return str(fields[0]["values"][0]) if fields else ""


@asynccontextmanager
async def acting(stage: Stage, *templates: Json, **options: Any) -> AsyncIterator[Hands]:
    """Give an acting half with these templates; each call is another process of it."""
    said: Mapping[str, Any] = {
        "kubeconfig": str(stage.kube.config),
        "namespace": stage.kube.namespace,
        "templates": list(templates),
        "requests": {"perSecond": 10_000, "burst": 10_000},
        "topology": {"s1": ["rack"]},
        **options,
    }
    settings = read_settings("east", said)
    client = Client(await configuration(settings), settings.requests)
    try:
        yield Hands(
            "east",
            client,
            templates={one.name: one for one in settings.templates},
            rule=settings.gate,
            namespace=settings.namespace,
            levels={str(level): keys for level, keys in settings.levels().items()},
            clock=lambda: stage.now,
            pause=stage.pause,
        )
    finally:
        await client.close()
