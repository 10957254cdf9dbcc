"""Pods whose number one object sets: among them one leaves first, whatever is wished."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from heteroscale_scheduler_adapters.kubernetes.leaving import kept, turn
from heteroscale_scheduler_adapters.kubernetes.resources import Object
from heteroscale_scheduler_adapters.port import Turn


class Siblings:
    """By object, as `marks.OWNER` names it, its pods as they are told."""

    def __init__(self) -> None:
        self._of: defaultdict[str, dict[str, Object]] = defaultdict(dict)
        self._kept: dict[str, Mapping[str, str]] = {}
        """Of the objects that were asked for since their pods last changed."""

    def put(self, owner: str, key: str, thing: Object) -> list[str]:
        """Take in a pod, and return the keys of all that the object has now."""
        self._kept.pop(owner, None)
        self._of[owner][key] = thing
        return list(self._of[owner])

    def drop(self, owner: str, key: str) -> list[str]:
        """Take out a pod, and return the keys of those that are left."""
        self._kept.pop(owner, None)
        self._of[owner].pop(key, None)
        return list(self._of[owner]) or list(self._of.pop(owner))

    def kept(self, owner: str, instance: str) -> str:
        """Return why the object would end another first, in words; empty: it would not."""
        if owner not in self._kept:
            words = owner.split()
            self._kept[owner] = kept(words[1] if len(words) > 1 else "", self._of[owner].values())
        return self._kept[owner].get(instance, "")

    def turn(self, owner: str, key: str) -> Turn | None:
        """Return when the object ends a pod; None: it may at any time."""
        pod = self._of[owner].get(key) if owner in self._of else None
        return turn(owner, pod) if pod is not None else None
