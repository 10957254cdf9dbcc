"""The scheduler: gates, selectors, affinity, taints and room; and what it says when nothing fits."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from tests.kubernetes.played.base import Hands
from tests.kubernetes.played.pods import PODS
from tests.kubernetes.server import selectors
from tests.kubernetes.server.admission import ended
from tests.kubernetes.server.errors import Json
from tests.kubernetes.server.store import Table
from tests.kubernetes.server.subresources import bind, condition
from tests.kubernetes.server.validate.quantities import amount

NODES: Table = ("", "nodes")
_CORDON: Json = {"key": "node.kubernetes.io/unschedulable", "value": "", "effect": "NoSchedule"}


def taints(node: Json) -> list[Json]:
    """Return the taints that a node has, a cordon among them."""
    spec = node.get("spec") or {}
    own = list(spec.get("taints") or [])
    return [*own, _CORDON] if spec.get("unschedulable") else own


def tolerates(pod: Json, taint: Json) -> bool:
    for one in pod["spec"].get("tolerations") or []:
        if one.get("effect") and one["effect"] != taint["effect"]:
            continue
        if one.get("key") and one["key"] != taint["key"]:
            continue
        if one.get("operator") == "Exists" or one.get("value", "") == taint.get("value", ""):
            return True
    return False


def wants(pod: Json, node: Json) -> bool:
    """Tell whether a pod's node selector and its affinity mean a node."""
    labels = node["metadata"].get("labels") or {}
    chosen = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in chosen.items()):
        return False
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity")) or {}
    hard = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if hard is None:
        return True
    name = {"metadata.name": node["metadata"]["name"]}

    def term(one: Json) -> bool:
        by_label = [selectors.as_text(e) for e in one.get("matchExpressions") or []]
        by_name = [selectors.as_text(e) for e in one.get("matchFields") or []]
        if not by_label and not by_name:
            return False
        return selectors.labels(",".join(by_label))(labels) and selectors.labels(",".join(by_name))(
            name
        )

    return any(term(one) for one in hard["nodeSelectorTerms"])


def needs(pod: Json) -> dict[str, Decimal]:
    """Return what a pod requests of a node."""
    total = {"pods": Decimal(1)}
    for one in pod["spec"].get("containers") or []:
        for name, text in ((one.get("resources") or {}).get("requests") or {}).items():
            total[name] = total.get(name, Decimal(0)) + amount(text)
    return total


class Scheduler:
    """Puts each pod that waits on the node with most room left for GPUs; ties by name."""

    reads = frozenset({PODS, NODES})

    def reconcile(self, hands: Hands) -> None:
        pods = hands.all(PODS)
        used: dict[str, Counter[str]] = {}
        for pod in pods:
            if pod["spec"].get("nodeName") and not ended(pod):
                used.setdefault(pod["spec"]["nodeName"], Counter()).update(needs(pod))
        for pod in sorted(pods, key=lambda one: int(one["metadata"]["resourceVersion"])):
            spec = pod["spec"]
            waits = not spec.get("nodeName") and not spec.get("schedulingGates") and not ended(pod)
            ours = spec.get("schedulerName") == "default-scheduler"
            if waits and ours and not pod["metadata"].get("deletionTimestamp"):
                self._place(hands, pod, used)

    def _place(self, hands: Hands, pod: Json, used: dict[str, Counter[str]]) -> None:
        nodes = hands.all(NODES)
        asked = needs(pod)
        reasons: Counter[str] = Counter()
        fitting: list[tuple[Decimal, str]] = []
        for node in nodes:
            name = node["metadata"]["name"]
            said = _against(pod, node, asked, used.get(name, Counter()))
            if said:
                reasons.update(said)
            else:
                fitting.append((_left(node, used.get(name, Counter())), name))
        meta = pod["metadata"]
        call = hands.call("v1", "Pod", meta["namespace"], meta["name"])
        if not fitting:
            _unschedulable(hands, pod, len(nodes), reasons)
            return
        _, name = min((-left, name) for left, name in fitting)
        bind(hands.shared, call, {"target": {"name": name}})
        used.setdefault(name, Counter()).update(asked)


def _left(node: Json, used: Counter[str]) -> Decimal:
    room = (node.get("status") or {}).get("allocatable") or {}
    gpus = [name for name in room if name.endswith("/gpu")]
    return sum((amount(room[name]) - Decimal(used[name]) for name in gpus), Decimal(0))


def _against(pod: Json, node: Json, asked: dict[str, Decimal], used: Counter[str]) -> list[str]:
    """Return why a node is not for a pod, in the scheduler's words; none: it is."""
    hard = [
        one for one in taints(node)
        if one["effect"] in {"NoSchedule", "NoExecute"} and not tolerates(pod, one)
    ]  # fmt: skip
    if hard:
        if hard[0] is _CORDON:
            return ["node(s) were unschedulable"]
        return ["node(s) had untolerated taint(s)"]
    if not wants(pod, node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    room = (node.get("status") or {}).get("allocatable") or {}
    short = [
        name for name, number in asked.items()
        if Decimal(used[name]) + number > amount(room.get(name, "0"))
    ]  # fmt: skip
    return ["Too many pods" if name == "pods" else f"Insufficient {name}" for name in short]


def _unschedulable(hands: Hands, pod: Json, nodes: int, reasons: Counter[str]) -> None:
    if nodes:
        said = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
        message = f"0/{nodes} nodes are available: {said}."
    else:
        message = "no nodes available to schedule pods"

    def make(live: Json) -> Json:
        condition(
            hands.shared, live, "PodScheduled", "False", reason="Unschedulable", message=message
        )
        return live

    hands.change(pod, make, "status")


class Collector:
    """Pods on a node that is gone go too."""

    reads = frozenset({PODS, NODES})

    def reconcile(self, hands: Hands) -> None:
        there = {node["metadata"]["name"] for node in hands.all(NODES)}
        for pod in hands.all(PODS):
            place = pod["spec"].get("nodeName")
            if place and place not in there:
                hands.delete(pod, {"gracePeriodSeconds": 0})
