"""An API server in memory, behind the port: objects, versions, watches, and faults on demand."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from heteroscale_coordinator.edge.cluster_api import (
    Address,
    ApiError,
    ChangedError,
    ExpiredError,
    NotThereError,
    Object,
)


def merged(thing: Any, change: Any) -> Any:
    """Return ``thing`` with a merge patch (RFC 7396) laid over it."""
    if not isinstance(change, Mapping):
        return change
    result = dict(thing) if isinstance(thing, Mapping) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


@dataclass
class Cluster:
    """Behind ``ClusterApi``. ``fault`` is asked before each call, and may raise."""

    objects: dict[Address, Object] = field(default_factory=dict)
    calls: list[tuple[str, Address]] = field(default_factory=list)
    fault: Callable[[str, Address], None] = lambda _verb, _at: None
    log: list[tuple[int, str, Object]] = field(default_factory=list)
    oldest: int = 0
    _versions: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _ended: int = 0

    def put(self, at: Address, thing: Mapping[str, Any]) -> Object:
        """Write it as a user would, with uid, generation and version."""
        before = self.objects.get(at)
        made = deepcopy(dict(thing))
        meta = {"name": at.name, "namespace": at.namespace, **made.get("metadata", {})}
        old = (before or {}).get("metadata", {})
        changed = before is not None and before.get("spec") != made.get("spec")
        meta["uid"] = old.get("uid") or f"uid-{at.namespace}-{at.name}-{len(self.log)}"
        meta["generation"] = old.get("generation", 1) + (1 if changed else 0)
        meta.setdefault("creationTimestamp", old.get("creationTimestamp", "2026-01-01T00:00:00Z"))
        made["metadata"] = meta
        return self._keep(at, made, "MODIFIED" if before else "ADDED")

    def delete(self, at: Address) -> None:
        """Delete it as a user would: what has finalizers stays until they are gone."""
        thing = self.objects[at]
        if thing["metadata"].get("finalizers"):
            meta = {**thing["metadata"], "deletionTimestamp": "2026-01-02T00:00:00Z"}
            self._keep(at, {**thing, "metadata": meta}, "MODIFIED")
        else:
            self._keep(at, thing, "DELETED")

    def forget_history(self) -> None:
        """Let watches from older revisions end with 410."""
        self.oldest = len(self.log) + 1

    async def end_watches(self) -> None:
        """Break all connections of watches."""
        self._ended += 1
        async with self._news:
            self._news.notify_all()

    async def settle(self) -> None:
        """Wake those who watch."""
        async with self._news:
            self._news.notify_all()

    def _keep(self, at: Address, thing: Object, what: str) -> Object:
        version = next(self._versions)
        thing = {**thing, "metadata": {**thing["metadata"], "resourceVersion": str(version)}}
        gone = what == "DELETED" or (
            thing["metadata"].get("deletionTimestamp") and not thing["metadata"].get("finalizers")
        )
        if gone:
            self.objects.pop(at, None)
        else:
            self.objects[at] = thing
        self.log.append((version, "DELETED" if gone else what, deepcopy(thing)))
        return deepcopy(thing)

    # ---- the port ----------------------------------------------------------------------------------

    def _called(self, verb: str, at: Address) -> Address:
        self.calls.append((verb, at))
        self.fault(verb, at)
        return replace(at, subresource="")

    async def get(self, at: Address) -> Object:
        at = self._called("get", at)
        if at not in self.objects:
            raise NotThereError(f"{at.plural} {at.name} is not there")
        return deepcopy(self.objects[at])

    async def list(self, at: Address) -> tuple[list[Object], str]:
        at = self._called("list", at)
        found = [
            deepcopy(thing)
            for where, thing in self.objects.items()
            if where.plural == at.plural and at.namespace in ("", where.namespace)
        ]
        return found, str(len(self.log))

    async def watch(self, at: Address, revision: str) -> AsyncIterator[tuple[str, Object]]:
        at = self._called("watch", at)
        seen, born = int(revision), self._ended
        if seen + 1 < self.oldest:
            raise ExpiredError("410: too old")
        while True:
            for version, what, thing in list(self.log):
                of_it = thing.get("kind") == at.kind
                if version > seen and of_it:
                    seen = version
                    yield what, deepcopy(thing)
            async with self._news:
                if self._ended != born:
                    raise ApiError("the connection broke")
                if not any(version > seen for version, _, _ in self.log):
                    await self._news.wait()
                else:
                    seen = max(version for version, _, _ in self.log)

    async def create(self, at: Address, thing: Mapping[str, Any]) -> Object:
        at = self._called("create", at)
        if at in self.objects:
            raise ChangedError(f"{at.name} is there")
        return self.put(at, thing)

    async def replace(self, at: Address, thing: Mapping[str, Any]) -> Object:
        at = self._called("replace", at)
        self._same(at, thing)
        return self._keep(at, deepcopy(dict(thing)), "MODIFIED")

    async def patch(self, at: Address, change: Mapping[str, Any]) -> Object:
        status = at.subresource == "status"
        at = self._called("patch", at)
        before = self._same(at, change)
        after = merged(before, change)
        after = {**before, "status": after.get("status")} if status else after
        after["metadata"] = {**after["metadata"], "generation": before["metadata"]["generation"]}
        return self._keep(at, after, "MODIFIED")

    def _same(self, at: Address, thing: Mapping[str, Any]) -> Object:
        if at not in self.objects:
            raise NotThereError(f"{at.name} is not there")
        told = (thing.get("metadata") or {}).get("resourceVersion")
        if told is not None and told != self.objects[at]["metadata"]["resourceVersion"]:
            raise ChangedError(f"{at.name} is not as it was read")
        return self.objects[at]
