"""The kubelet as tests play it: it writes the status of pods, on our server and on any other.

No process runs behind such a pod, unless a test starts one and tells its address.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.kubernetes import things
from tests.kubernetes.kube import Kube, Refused

Json = dict[str, Any]


def stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def gates_open(pod: Json) -> bool:
    """Return whether all readiness gates of a pod have their condition: else it is not Ready."""
    gates = {one["conditionType"] for one in pod["spec"].get("readinessGates") or ()}
    told = (pod.get("status") or {}).get("conditions") or ()
    return gates <= {one["type"] for one in told if one["status"] == "True"}


def conditions(ready: bool, gates: bool = True) -> list[Json]:
    """Return the conditions of a pod that runs: whether its containers are ready, and its gates open."""
    said = "True" if ready else "False"
    whole = "True" if ready and gates else "False"
    when = stamp()
    return [
        {"type": kind, "status": value, "lastTransitionTime": when}
        for kind, value in (
            ("PodReadyToStartContainers", "True"),
            ("Initialized", "True"),
            ("Ready", whole),
            ("ContainersReady", said),
            ("PodScheduled", "True"),
        )
    ]


class Kubelet:
    """All kubelets of the nodes that a test has made."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.nodes: set[str] = set()

    def join(self, name: str, **more: Any) -> str:
        """Register a node (``things.node``), and return its name with the test's suffix."""
        full = self.kube.name(name)
        self.register(things.node(full, **more))
        return full

    def register(self, made: Json) -> None:
        """Register a node as it is given."""
        full = made["metadata"]["name"]
        self.kube.create(made)
        # The real server gives a new node a taint until its controller has seen it ready.
        self.kube.patch(
            "v1", "nodes", full, {"status": made["status"]}, sub="status", kind="strategic"
        )
        self.nodes.add(full)
        self._beat(full)

    def beat(self) -> None:
        """Renew the leases of all nodes: a real node controller taints a node that is silent for 50 s."""
        for name in self.nodes:
            self._beat(name)

    def _beat(self, name: str) -> None:
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now},
        }
        self.kube.ask(
            "PATCH", f"{path}/{name}", json=lease, params={"fieldManager": "kubelet", "force": "true"},
            headers={"Content-Type": "application/apply-patch+yaml"},
        )  # fmt: skip
        self.kube.note(f"{path}/{name}")

    def pods(self) -> list[Json]:
        """Return the pods of the test's namespace that are on its nodes."""
        found = self.kube.list("v1", "pods")
        return [pod for pod in found if pod["spec"].get("nodeName") in self.nodes]

    # ---- what a kubelet writes -------------------------------------------------------------------

    def status(self, name: str, **status: Any) -> Json:
        """Write fields of a pod's status; conditions are merged by their type."""
        return self.kube.patch(
            "v1", "pods", name, {"status": status}, sub="status", kind="strategic"
        )

    def run(self, name: str, *, ready: bool = True, ip: str = "127.0.0.1") -> Json:
        """Have a pod's containers run, ready or not; it is Ready if its readiness gates say so too."""
        pod = self.kube.get("v1", "pods", name)
        running = {"running": {"startedAt": stamp()}}
        containers = [
            {
                "name": one["name"], "ready": ready, "started": True, "restartCount": 0,
                "image": one["image"], "imageID": "", "state": running,
            }
            for one in pod["spec"]["containers"]
        ]  # fmt: skip
        return self.status(
            name, phase="Running", podIP=ip, podIPs=[{"ip": ip}], hostIP="127.0.0.1",
            startTime=stamp(), conditions=conditions(ready, gates_open(pod)),
            containerStatuses=containers,
        )  # fmt: skip

    def gate(self, name: str, condition: str, *, open: bool) -> Json:  # noqa: A002
        """Set the condition of a readiness gate, as its controller does."""
        value = "True" if open else "False"
        self.status(name, conditions=[{"type": condition, "status": value}])
        return self.follow(name)

    def follow(self, name: str) -> Json:
        """Let a pod that runs be Ready as its containers and its readiness gates say now."""
        pod = self.kube.get("v1", "pods", name)
        told = {one["type"]: one["status"] for one in pod["status"].get("conditions") or ()}
        whole = told.get("ContainersReady") == "True" and gates_open(pod)
        if "Ready" not in told or told["Ready"] == ("True" if whole else "False"):
            return pod
        return self.status(
            name,
            conditions=[
                {
                    "type": "Ready",
                    "status": "True" if whole else "False",
                    "lastTransitionTime": stamp(),
                }
            ],
        )

    def fail(self, name: str, *, code: int = 1, reason: str = "Error", message: str = "") -> Json:
        """Have a pod end by itself, for good."""
        pod = self.kube.get("v1", "pods", name)
        ended = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
        containers = [
            {
                "name": one["name"], "ready": False, "restartCount": 0, "image": one["image"],
                "imageID": "", "state": ended,
            }
            for one in pod["spec"]["containers"]
        ]  # fmt: skip
        return self.status(
            name, phase="Succeeded" if code == 0 else "Failed", conditions=conditions(ready=False),
            containerStatuses=containers,
        )  # fmt: skip

    def finish(self, name: str) -> None:
        """Have a pod that was told to end be gone, as a kubelet says it when its containers are."""
        try:
            self.kube.delete("v1", "pods", name, gracePeriodSeconds=0)
        except Refused as error:
            if error.code != 404:
                raise

    def tick(self) -> None:
        """Do what is due: pods on its nodes run, follow their gates, or are gone if told to end."""
        for pod in self.pods():
            name = pod["metadata"]["name"]
            if pod["metadata"].get("deletionTimestamp"):
                self.finish(name)
            elif (pod.get("status") or {}).get("phase") == "Pending":
                self.run(name)
            else:
                self.follow(name)
