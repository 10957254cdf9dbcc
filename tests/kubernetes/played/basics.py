"""The least a cluster does: accounts of namespaces, definitions accepted, quotas, rubbish taken out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.kubernetes.played.base import Hands
from tests.kubernetes.server.admission import NAMESPACES, QUOTAS, usage
from tests.kubernetes.server.errors import Json
from tests.kubernetes.server.kinds import CRDS
from tests.kubernetes.server.store import Table
from tests.kubernetes.server.validate.quantities import plain

ACCOUNTS: Table = ("", "serviceaccounts")
PODS: Table = ("", "pods")


class Accounts:
    """Every namespace has an account ``default``; without it no pod is let in."""

    reads = frozenset({NAMESPACES, ACCOUNTS})

    def reconcile(self, hands: Hands) -> None:
        have = {
            obj["metadata"]["namespace"]
            for obj in hands.all(ACCOUNTS)
            if obj["metadata"]["name"] == "default"
        }
        for space in hands.all(NAMESPACES):
            name = space["metadata"]["name"]
            if name not in have and not space["metadata"].get("deletionTimestamp"):
                meta = {"name": "default", "namespace": name}
                hands.create("v1", "ServiceAccount", {"metadata": meta})


class Definitions:
    """A CustomResourceDefinition is served once its names are accepted; with it go its objects."""

    reads = frozenset({CRDS})

    def reconcile(self, hands: Hands) -> None:
        for crd in hands.all(CRDS):
            if (crd.get("status") or {}).get("conditions"):
                continue
            stamp = hands.shared.stamp()
            names = {k: v for k, v in crd["spec"]["names"].items() if v}
            stored = [one["name"] for one in crd["spec"]["versions"] if one.get("storage")]
            conditions = [
                _condition("NamesAccepted", "NoConflicts", "no conflicts found", stamp),
                _condition(
                    "Established", "InitialNamesAccepted", "the initial names have been accepted", stamp
                ),
            ]  # fmt: skip
            hands.status(crd, conditions=conditions, acceptedNames=names, storedVersions=stored)
        served = {(crd["spec"]["group"], crd["spec"]["names"]["plural"]) for crd in hands.all(CRDS)}
        own = {kind.table for kind in hands.shared.kinds.all() if not kind.custom}
        for table in set(hands.shared.store.tables()) - served - own:
            for obj in hands.all(table):
                meta = obj["metadata"]
                hands.shared.store.drop(table, (meta.get("namespace", ""), meta["name"]))


def _condition(kind: str, reason: str, message: str, stamp: str) -> Json:
    return {
        "type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": stamp
    }  # fmt: skip


class Quotas:
    """A quota tells what it allows and what is used of it."""

    reads = frozenset({QUOTAS, PODS})

    def reconcile(self, hands: Hands) -> None:
        for quota in hands.all(QUOTAS):
            used = usage(hands.shared, quota["metadata"]["namespace"])
            hard: dict[str, Any] = (quota.get("spec") or {}).get("hard") or {}
            told = {name: plain(used.get(name, Decimal(0))) for name in hard}
            if (quota.get("status") or {}) != {"hard": hard, "used": told}:
                hands.status(quota, hard=hard, used=told)


class Namespaces:
    """A namespace that is deleted takes all that is in it along, and then goes."""

    reads = frozenset({NAMESPACES, PODS})

    def reconcile(self, hands: Hands) -> None:
        for space in hands.all(NAMESPACES):
            if not space["metadata"].get("deletionTimestamp"):
                continue
            name = space["metadata"]["name"]
            left = [
                obj
                for table in hands.shared.store.tables()
                for obj in hands.all(table, name)
            ]  # fmt: skip
            for obj in left:
                if not obj["metadata"].get("deletionTimestamp"):
                    hands.delete(obj)
            still = any(hands.all(table, name) for table in hands.shared.store.tables())
            if not still:
                hands.shared.store.drop(NAMESPACES, ("", name))


class Rubbish:
    """What belongs to an owner that is gone is deleted; what waits for its dependents is let go."""

    reads = frozenset(
        {PODS, ("apps", "replicasets"), ("apps", "deployments"), ("apps", "statefulsets")}
    )

    def reconcile(self, hands: Hands) -> None:
        everything = [obj for table in hands.shared.store.tables() for obj in hands.all(table)]
        alive = {obj["metadata"]["uid"] for obj in everything}
        for obj in everything:
            self._finalizers(hands, obj, everything)
            owners = obj["metadata"].get("ownerReferences") or []
            gone = owners and not any(one["uid"] in alive for one in owners)
            if gone and not obj["metadata"].get("deletionTimestamp"):
                hands.delete(obj, {"propagationPolicy": "Background"})

    @staticmethod
    def _finalizers(hands: Hands, obj: Json, everything: list[Json]) -> None:
        meta = obj["metadata"]
        names = meta.get("finalizers") or []
        if not meta.get("deletionTimestamp") or not {"orphan", "foregroundDeletion"} & set(names):
            return
        children = [
            one for one in everything
            if any(o["uid"] == meta["uid"] for o in one["metadata"].get("ownerReferences") or [])
        ]  # fmt: skip
        if "orphan" in names:
            for child in children:
                hands.change(child, lambda live: _without_owner(live, meta["uid"]))
        elif children:
            for child in children:
                if not child["metadata"].get("deletionTimestamp"):
                    hands.delete(child, {"propagationPolicy": "Foreground"})
            return
        hands.change(obj, _let_go)


def _without_owner(live: Json, uid: str) -> Json:
    owners = [one for one in live["metadata"]["ownerReferences"] if one["uid"] != uid]
    live["metadata"]["ownerReferences"] = owners
    return live


def _let_go(live: Json) -> Json:
    kept = [
        one for one in live["metadata"]["finalizers"] if one not in {"orphan", "foregroundDeletion"}
    ]
    live["metadata"]["finalizers"] = kept
    return live
