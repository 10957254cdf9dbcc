"""Disruption budgets: how many of the pods they mean may go now."""

from __future__ import annotations

import math
from typing import Any

from tests.kubernetes.played import pods as share
from tests.kubernetes.played.base import Hands
from tests.kubernetes.played.pods import PODS
from tests.kubernetes.server.errors import Json
from tests.kubernetes.server.selectors import selector
from tests.kubernetes.server.subresources import BUDGETS, scale_of


def _number(value: Any, of: int) -> int:
    if isinstance(value, str):
        return math.ceil(of * int(value.rstrip("%")) / 100)
    return int(value)


class Budgets:
    """Counts the healthy among the pods of each budget, and tells how many may be evicted."""

    reads = frozenset({BUDGETS, PODS})

    def reconcile(self, hands: Hands) -> None:
        for one in hands.all(BUDGETS):
            self._one(hands, one)

    def _one(self, hands: Hands, one: Json) -> None:
        space = one["metadata"]["namespace"]
        means = selector((one.get("spec") or {}).get("selector"))
        mine = [pod for pod in hands.all(PODS, space) if means(pod["metadata"].get("labels") or {})]
        mine = [pod for pod in mine if share.phase(pod) not in {"Succeeded", "Failed"}]
        evicted = (one.get("status") or {}).get("disruptedPods") or {}
        names = {pod["metadata"]["name"] for pod in mine if share.active(pod)}
        evicted = {name: when for name, when in evicted.items() if name in names}
        healthy = sum(
            bool(share.ready_since(pod))
            and share.active(pod)
            and pod["metadata"]["name"] not in evicted
            for pod in mine
        )
        expected, wanted = self._wanted(hands, one, mine)
        hands.status(
            one,
            observedGeneration=one["metadata"]["generation"],
            expectedPods=expected,
            currentHealthy=healthy,
            desiredHealthy=wanted,
            disruptionsAllowed=max(0, healthy - wanted),
            disruptedPods=evicted or None,
        )

    @staticmethod
    def _wanted(hands: Hands, one: Json, mine: list[Json]) -> tuple[int, int]:
        spec = one["spec"]
        least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
        if isinstance(least, int):
            return len(mine), least
        expected = _expected(hands, mine)
        if most is not None:
            return expected, max(0, expected - _number(most, expected))
        return expected, _number(least if least is not None else 1, expected)


def _expected(hands: Hands, mine: list[Json]) -> int:
    """Return how many pods those who control them wish for: a share of it is what may be missing."""
    seen: dict[str, int] = {}
    for pod in mine:
        by = share.controller_of(pod)
        if by is None:
            seen[pod["metadata"]["uid"]] = 1
            continue
        seen[by["uid"]] = _wish(hands, by, pod["metadata"]["namespace"])
    return sum(seen.values())


def _wish(hands: Hands, by: Json, space: str) -> int:
    kind = hands.shared.kinds.of(by["apiVersion"], by["kind"])
    found = kind and hands.shared.store.get(kind.table, (space, by["name"]))
    if not kind or not found or not kind.scale:
        return 0
    return int(scale_of(kind, found)["spec"].get("replicas", 0))
