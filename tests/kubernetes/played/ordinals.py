"""StatefulSets, and the groups of LeaderWorkerSets that are made of them."""

from __future__ import annotations

import copy

from tests.kubernetes.played import pods as share
from tests.kubernetes.played.base import Hands
from tests.kubernetes.played.pods import PODS
from tests.kubernetes.server.errors import Json, StatusError
from tests.kubernetes.server.store import Table

STATEFUL: Table = ("apps", "statefulsets")
LWS_GROUP = "leaderworkerset.x-k8s.io"
LWS_MARK = "leaderworkerset.sigs.k8s.io"
"""Of its labels and annotations; the group of its kind is another."""
LEADERS: Table = (LWS_GROUP, "leaderworkersets")


class StatefulSets:
    """Pods with numbers: made from the lowest up, removed from the highest down."""

    reads = frozenset({STATEFUL, PODS})

    def reconcile(self, hands: Hands) -> None:
        for one in hands.all(STATEFUL):
            if not one["metadata"].get("deletionTimestamp"):
                self._one(hands, one)

    def _one(self, hands: Hands, one: Json) -> None:
        spec, name = one["spec"], one["metadata"]["name"]
        start = (spec.get("ordinals") or {}).get("start", 0)
        wanted = [f"{name}-{i}" for i in range(start, start + spec["replicas"])]
        have = {pod["metadata"]["name"]: pod for pod in share.owned(hands, PODS, one)}
        parallel = spec["podManagementPolicy"] == "Parallel"
        for pod in have.values():
            if share.phase(pod) in {"Failed", "Succeeded"}:
                hands.delete(pod)
        for each in wanted:
            if each not in have:
                self._make(hands, one, each)
            if not parallel and (each not in have or not share.ready_since(have[each])):
                break
        extra = sorted(set(have) - set(wanted), key=_ordinal, reverse=True)
        for each in extra:
            if not have[each]["metadata"].get("deletionTimestamp"):
                hands.delete(have[each])
            if not parallel:
                break
        self._tell(hands, one)

    @staticmethod
    def _make(hands: Hands, one: Json, name: str) -> None:
        mark = share.template_hash(one["spec"]["template"])
        labels = {
            "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": str(_ordinal(name)),
            "controller-revision-hash": f"{one['metadata']['name']}-{mark}",
        }
        made = share.from_template(one["spec"]["template"], one, {"name": name}, labels)
        made["spec"].setdefault("hostname", name)
        if one["spec"].get("serviceName"):
            made["spec"].setdefault("subdomain", one["spec"]["serviceName"])
        try:
            hands.create("v1", "Pod", made)
        except StatusError as error:
            # A quota, or a name that another pod has: tried again when pods change.
            if error.code not in {403, 409}:
                raise

    @staticmethod
    def _tell(hands: Hands, one: Json) -> None:
        mine = share.owned(hands, PODS, one)
        ready = sum(bool(share.ready_since(pod)) for pod in mine)
        mark = f"{one['metadata']['name']}-{share.template_hash(one['spec']['template'])}"
        hands.status(
            one,
            observedGeneration=one["metadata"]["generation"],
            replicas=len(mine),
            readyReplicas=ready or None,
            availableReplicas=ready,
            currentReplicas=len(mine) or None,
            updatedReplicas=len(mine) or None,
            currentRevision=mark,
            updateRevision=mark,
            collisionCount=0,
        )


def _ordinal(name: str) -> int:
    return int(name.rsplit("-", 1)[1])


class LeaderWorkerSets:
    """Groups: their leaders are one StatefulSet, the workers of each group another."""

    reads = frozenset({LEADERS, STATEFUL, PODS})

    def reconcile(self, hands: Hands) -> None:
        for one in hands.all(LEADERS):
            if not one["metadata"].get("deletionTimestamp"):
                self._one(hands, one)

    def _one(self, hands: Hands, one: Json) -> None:
        spec, name = one["spec"], one["metadata"]["name"]
        parts = spec["leaderWorkerTemplate"]
        size, replicas = parts.get("size", 1), spec.get("replicas", 1)
        leader = copy.deepcopy(parts.get("leaderTemplate") or parts["workerTemplate"])
        labels = {f"{LWS_MARK}/name": name, f"{LWS_MARK}/worker-index": "0"}
        _stateful(hands, one, name, replicas, template=leader, labels=labels, size=size)
        for pod in hands.all(PODS, one["metadata"]["namespace"]):
            marks = pod["metadata"].get("labels") or {}
            if (
                marks.get(f"{LWS_MARK}/name") != name
                or marks.get(f"{LWS_MARK}/worker-index") != "0"
            ):
                continue
            self._group(hands, one, pod, size)
        self._tell(hands, one, size)

    @staticmethod
    def _group(hands: Hands, one: Json, leader: Json, size: int) -> None:
        """Number a group after its leader, and give it its workers, which go with their leader."""
        meta = leader["metadata"]
        group = meta["name"].rsplit("-", 1)[1]
        key = f"{LWS_MARK}/group-index"
        if meta["labels"].get(key) != group:
            _mark(hands, leader, {key: group})
        if size > 1 and share.active(leader):
            labels = {f"{LWS_MARK}/name": one["metadata"]["name"], key: group}
            template = copy.deepcopy(one["spec"]["leaderWorkerTemplate"]["workerTemplate"])
            _stateful(
                hands,
                leader,
                meta["name"],
                size - 1,
                template=template,
                labels=labels,
                size=size,
                start=1,
            )
        for pod in hands.all(PODS, meta["namespace"]):
            marks = pod["metadata"].get("labels") or {}
            mine = (
                marks.get(key) == group and marks.get(f"{LWS_MARK}/name") == one["metadata"]["name"]
            )
            index = pod["metadata"]["name"].rsplit("-", 1)[1]
            if mine and f"{LWS_MARK}/worker-index" not in marks:
                _mark(hands, pod, {f"{LWS_MARK}/worker-index": index})

    @staticmethod
    def _tell(hands: Hands, one: Json, size: int) -> None:
        name = one["metadata"]["name"]
        groups: dict[str, list[Json]] = {}
        for pod in hands.all(PODS, one["metadata"]["namespace"]):
            marks = pod["metadata"].get("labels") or {}
            if marks.get(f"{LWS_MARK}/name") == name:
                groups.setdefault(marks.get(f"{LWS_MARK}/group-index", ""), []).append(pod)
        ready = sum(
            len(pods) >= size and all(share.ready_since(pod) for pod in pods)
            for pods in groups.values()
        )
        hands.status(
            one,
            replicas=len(groups),
            readyReplicas=ready,
            updatedReplicas=len(groups),
            hpaPodSelector=f"{LWS_MARK}/name={name},{LWS_MARK}/worker-index=0",
        )


def _mark(hands: Hands, pod: Json, labels: Json) -> None:
    def make(live: Json) -> Json:
        live["metadata"].setdefault("labels", {}).update(labels)
        return live

    hands.change(pod, make)


def _stateful(
    hands: Hands,
    by: Json,
    name: str,
    replicas: int,
    *,
    template: Json,
    labels: Json,
    size: int,
    start: int = 0,
) -> None:
    """Have a StatefulSet of this name, with this many pods."""
    space = by["metadata"]["namespace"]
    found = hands.shared.store.get(STATEFUL, (space, name))
    if found is not None:
        if found["spec"]["replicas"] != replicas:
            hands.change(found, lambda live: _sized(live, replicas))
        return
    meta = template.setdefault("metadata", {})
    meta["labels"] = {**(meta.get("labels") or {}), **labels}
    meta["annotations"] = {**(meta.get("annotations") or {}), f"{LWS_MARK}/size": str(size)}
    made = {
        "metadata": {"name": name, "namespace": space, "ownerReferences": [share.owner(by)]},
        "spec": {
            "replicas": replicas,
            "podManagementPolicy": "Parallel",
            "serviceName": name,
            "ordinals": {"start": start},
            "selector": {"matchLabels": labels},
            "template": template,
        },
    }
    hands.create("apps/v1", "StatefulSet", made)


def _sized(live: Json, replicas: int) -> Json:
    live["spec"]["replicas"] = replicas
    return live
