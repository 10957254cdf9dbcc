"""ReplicaSets and Deployments."""

from __future__ import annotations

import copy

from tests.kubernetes.played import pods as share
from tests.kubernetes.played.base import Hands
from tests.kubernetes.played.pods import HASH, PODS
from tests.kubernetes.server.errors import Json, StatusError
from tests.kubernetes.server.store import Table

SETS: Table = ("apps", "replicasets")
DEPLOYMENTS: Table = ("apps", "deployments")
REVISION = "deployment.kubernetes.io/revision"


class ReplicaSets:
    """As many pods as are wished for; what is too much goes by cost, readiness and age."""

    reads = frozenset({SETS, PODS})

    def reconcile(self, hands: Hands) -> None:
        for one in hands.all(SETS):
            if not one["metadata"].get("deletionTimestamp"):
                self._one(hands, one)

    def _one(self, hands: Hands, one: Json) -> None:
        share.release(hands, one)
        share.adopt(hands, one)
        mine = [pod for pod in share.owned(hands, PODS, one) if share.active(pod)]
        missing = one["spec"]["replicas"] - len(mine)
        conditions = None
        try:
            for _ in range(missing):
                name = {"generateName": f"{one['metadata']['name']}-"}
                made = share.from_template(one["spec"]["template"], one, name)
                mine.append(hands.create("v1", "Pod", made))
        except StatusError as error:
            conditions = [
                {
                    "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                    "message": error.message, "lastTransitionTime": hands.shared.stamp(),
                }
            ]  # fmt: skip
        for pod in share.first_to_go(mine)[: max(0, -missing)]:
            hands.delete(pod)
            mine.remove(pod)
        _tell(hands, one, mine, conditions)


def _tell(hands: Hands, one: Json, mine: list[Json], conditions: list[Json] | None) -> None:
    ready = sum(bool(share.ready_since(pod)) for pod in mine)
    was = (one.get("status") or {}).get("conditions")
    if was and conditions:
        conditions = (
            was  # as the real one: what it said first stands, whatever the next pod is called
        )
    hands.status(
        one,
        replicas=len(mine),
        fullyLabeledReplicas=len(mine) or None,
        readyReplicas=ready or None,
        availableReplicas=ready or None,
        observedGeneration=one["metadata"]["generation"],
        conditions=conditions,
    )


class Deployments:
    """One ReplicaSet per template; a new one takes over at once when it is ready, or in turns."""

    reads = frozenset({DEPLOYMENTS, SETS, PODS})

    def reconcile(self, hands: Hands) -> None:
        for one in hands.all(DEPLOYMENTS):
            if not one["metadata"].get("deletionTimestamp"):
                self._one(hands, one)

    def _one(self, hands: Hands, one: Json) -> None:
        sets = share.owned(hands, SETS, one)
        mark = share.template_hash(one["spec"]["template"])
        now = next((s for s in sets if s["metadata"]["labels"].get(HASH) == mark), None)
        if now is None:
            old = sum(s["spec"]["replicas"] for s in sets)
            now = self._fresh(
                hands, one, mark, len(sets) + 1, 0 if old else one["spec"]["replicas"]
            )
        if not one["spec"].get("paused"):
            self._roll(
                hands, one, now, [s for s in sets if s["metadata"]["uid"] != now["metadata"]["uid"]]
            )
        self._tell(hands, one, mark)

    @staticmethod
    def _fresh(hands: Hands, one: Json, mark: str, revision: int, replicas: int) -> Json:
        meta = one["metadata"]
        template = copy.deepcopy(one["spec"]["template"])
        labels = {**(template["metadata"].get("labels") or {}), HASH: mark}
        template["metadata"]["labels"] = labels
        chosen = copy.deepcopy(one["spec"]["selector"])
        chosen["matchLabels"] = {**(chosen.get("matchLabels") or {}), HASH: mark}
        made = {
            "metadata": {
                "name": f"{meta['name']}-{mark}",
                "namespace": meta["namespace"],
                "labels": labels,
                "annotations": {REVISION: str(revision)},
                "ownerReferences": [share.owner(one)],
            },
            "spec": {"replicas": replicas, "selector": chosen, "template": template},
        }
        return hands.create("apps/v1", "ReplicaSet", made)

    @staticmethod
    def _roll(hands: Hands, one: Json, now: Json, old: list[Json]) -> None:
        """Bring the new set up to its number, and the old ones down as the new get ready."""
        wanted = one["spec"]["replicas"]
        recreate = one["spec"]["strategy"]["type"] == "Recreate"
        left = sum(s["spec"]["replicas"] for s in old)
        still = sum((s.get("status") or {}).get("replicas", 0) for s in old)
        if not left and not (recreate and still):
            target = wanted
        elif recreate:
            target = 0
        else:
            target = min(wanted, max(now["spec"]["replicas"], wanted + max(1, wanted // 4) - left))
        _scale(hands, now, target)
        ready = (now.get("status") or {}).get("readyReplicas", 0)
        spare = left if recreate else left - max(0, wanted - ready)
        for each in old:
            less = min(each["spec"]["replicas"], max(0, spare))
            spare -= less
            _scale(hands, each, each["spec"]["replicas"] - less)

    @staticmethod
    def _tell(hands: Hands, one: Json, mark: str) -> None:
        sets = share.owned(hands, SETS, one)
        statuses = [s.get("status") or {} for s in sets]
        now = [s.get("status") or {} for s in sets if s["metadata"]["labels"].get(HASH) == mark]
        ready = sum(s.get("readyReplicas", 0) for s in statuses)
        failures = [c for s in statuses for c in s.get("conditions") or []]
        missing = max(0, one["spec"]["replicas"] - ready)
        fine = missing <= one["spec"]["replicas"] // 4
        was = {c["type"]: c for c in (one.get("status") or {}).get("conditions") or []}
        conditions = [
            _kept(was, "Available", "True" if fine else "False",
                  "MinimumReplicasAvailable" if fine else "MinimumReplicasUnavailable",
                  hands.shared.stamp()),
            *failures,
        ]  # fmt: skip
        hands.status(
            one,
            observedGeneration=one["metadata"]["generation"],
            replicas=sum(s.get("replicas", 0) for s in statuses) or None,
            updatedReplicas=sum(s.get("replicas", 0) for s in now) or None,
            readyReplicas=ready or None,
            availableReplicas=ready or None,
            unavailableReplicas=missing or None,
            conditions=conditions,
        )
        notes = one["metadata"].get("annotations") or {}
        revision = str(len(sets))
        if notes.get(REVISION) != revision:
            hands.change(one, lambda live: _noted(live, revision))


def _noted(live: Json, revision: str) -> Json:
    live["metadata"].setdefault("annotations", {})[REVISION] = revision
    return live


def _kept(was: dict[str, Json], kind: str, value: str, reason: str, stamp: str) -> Json:
    before = was.get(kind)
    if before and before["status"] == value:
        return before
    message = f"Deployment {'has' if value == 'True' else 'does not have'} minimum availability."
    return {
        "type": kind, "status": value, "reason": reason, "message": message,
        "lastTransitionTime": stamp, "lastUpdateTime": stamp,
    }  # fmt: skip


def _scale(hands: Hands, one: Json, replicas: int) -> None:
    if one["spec"]["replicas"] == replicas:
        return

    def make(live: Json) -> Json:
        live["spec"]["replicas"] = replicas
        return live

    hands.change(one, make)
