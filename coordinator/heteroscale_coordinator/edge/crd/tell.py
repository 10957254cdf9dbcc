"""Events on the objects: what ``kubectl describe`` shows of decisions. Few, whatever happens.

The same said again within ten minutes counts up the event that is there, at most once a minute; and each
object has a bucket, so that no service floods its namespace. What is left out is in ``heteroscale
decisions``, where nothing is.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import structlog

from heteroscale_coordinator.core.model import Action, Decision
from heteroscale_coordinator.edge.cluster_api import Address, ApiError, ClusterApi
from heteroscale_coordinator.edge.crd import words
from heteroscale_coordinator.edge.crd.objects import Told
from heteroscale_coordinator.edge.crd.status import timestamp

log = structlog.get_logger("heteroscale.objects")

SAME_S, COUNT_UP_S = 600.0, 60.0
BURST, EACH_S = 10, 60.0
"""Of each object so many events at once, then one in so many seconds."""
REMEMBERED = 2_000
MOST_TEXT = 1_000
"""Bytes: so a server counts."""
_NUMBERS = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True)
class _Said:
    name: str
    first: float
    last: float
    count: int
    unwritten: int = 0


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


@dataclass(frozen=True, slots=True)
class Writing:
    """One event to be created (``count`` 1), or to be counted up."""

    name: str
    reason: str
    message: str
    warning: bool
    first: float
    last: float
    count: int


class Announcer:
    """Decides what is said (pure), and says it."""

    def __init__(self, api: ClusterApi, reporter: str) -> None:
        self._api, self._reporter = api, reporter
        self._said: OrderedDict[tuple[str, str, str], _Said] = OrderedDict()
        self._buckets: dict[str, _Bucket] = {}
        self.left_out = 0

    async def decided(self, told: Told, decision: Decision) -> None:
        """Say a decision, if it is one that does something."""
        if decision.action is Action.HOLD:
            return
        reason = "".join(part.capitalize() for part in decision.action.value.split("_"))
        step = ", ".join(f"{role.value} {n:+d}" for role, n in decision.delta.items() if n)
        would = "advisory, nothing is done: " if decision.advisory else ""
        text = f"{would}{step + ': ' if step else ''}{decision.reason}"
        await self.say(told, reason, text, decision.last_at or decision.at)

    async def say(
        self, told: Told, reason: str, message: str, now: float, *, warning: bool = False
    ) -> None:
        """Write one event, unless it was said lately or too much was; errors are only logged."""
        writing = self.plan(told.uid, told.name, reason, message, now, warning=warning)
        if writing is None:
            return
        try:
            await self._write(told, writing)
        except (ApiError, TimeoutError) as error:
            log.warning("event not written", of=str(told.key), reason=reason, why=str(error))

    def plan(
        self, uid: str, name: str, reason: str, message: str, now: float, *, warning: bool = False
    ) -> Writing | None:
        """Return what is to be written; None: nothing."""
        message = " ".join(message.split()).encode()[:MOST_TEXT].decode(errors="ignore")
        key = (uid, reason, _NUMBERS.sub("#", message))
        said = self._said.get(key)
        if said is not None and now - said.last < SAME_S:
            if now - said.last < COUNT_UP_S or not self._take(uid, now):
                self._said[key] = replace(said, unwritten=said.unwritten + 1)
                return None
            said = replace(said, last=now, count=said.count + said.unwritten + 1, unwritten=0)
        elif not self._take(uid, now):
            self.left_out += 1
            return None
        else:
            mark = hashlib.sha256(f"{key}{now}".encode()).hexdigest()[:16]
            said = _Said(f"{name}.{mark}", now, now, 1)
        self._said[key] = said
        self._said.move_to_end(key)
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        return Writing(said.name, reason, message, warning, said.first, said.last, said.count)

    def forget(self, uids: set[str]) -> None:
        """Keep nothing of objects but these."""
        for uid in self._buckets.keys() - uids:
            del self._buckets[uid]

    def _take(self, uid: str, now: float) -> bool:
        bucket = self._buckets.setdefault(uid, _Bucket(BURST, now))
        bucket.left = min(BURST, bucket.left + (now - bucket.at) / EACH_S)
        bucket.at = now
        if bucket.left < 1:
            return False
        bucket.left -= 1
        return True

    async def _write(self, told: Told, writing: Writing) -> None:
        place = Address("v1", "Event", "events", told.key.namespace, writing.name)
        if writing.count > 1:
            change = {
                "count": writing.count,
                "lastTimestamp": timestamp(writing.last),
                "message": writing.message,
            }
            await self._api.patch(place, change)
            return
        await self._api.create(place, event(told, writing, self._reporter))


def event(told: Told, writing: Writing, reporter: str) -> dict[str, Any]:
    """Return a core/v1 Event."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": told.key.namespace, "name": writing.name},
        "involvedObject": {
            "apiVersion": words.API_VERSION,
            "kind": words.KIND,
            "namespace": told.key.namespace,
            "name": told.name,
            "uid": told.uid,
            "resourceVersion": told.revision,
        },
        "type": "Warning" if writing.warning else "Normal",
        "reason": writing.reason,
        "message": writing.message,
        "source": {"component": "heteroscale-coordinator"},
        "reportingComponent": f"{words.GROUP}/coordinator",
        "reportingInstance": reporter[:128],
        "firstTimestamp": timestamp(writing.first),
        "lastTimestamp": timestamp(writing.last),
        "count": writing.count,
    }
