"""Watch: what a stream tells, from which revision on, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.kubernetes.server.calls import Call, Shared, truth
from tests.kubernetes.server.errors import Json, StatusError, bad_request
from tests.kubernetes.server.reads import matcher, revision
from tests.kubernetes.server.store import Event
from tests.kubernetes.server.versions import shown

INITIAL_END = "k8s.io/initial-events-end"


@dataclass(frozen=True)
class Told:
    """One line of a stream."""

    type: str
    object: Json

    def json(self) -> Json:
        return {"type": self.type, "object": self.object}


class Watch:
    """One stream: asked for the past once, then given each change."""

    def __init__(self, shared: Shared, call: Call) -> None:
        self._shared, self._call = shared, call
        self._means = matcher(call)
        self.bookmarks = truth(call.query, "allowWatchBookmarks")
        self._listed = truth(call.query, "sendInitialEvents")
        if self._listed and call.query.get("resourceVersionMatch") != "NotOlderThan":
            raise bad_request(
                "sendInitialEvents is forbidden for watch unless resourceVersionMatch is NotOlderThan"
            )
        self._from = revision(call)
        timeout = call.query.get("timeoutSeconds", "")
        self.timeout = float(timeout) if timeout else None
        self.seen = self._from

    def past(self) -> Iterator[Told]:
        """Yield what is told at once; an ERROR ends the stream."""
        store, table = self._shared.store, self._call.kind.table
        if self._from and not self._listed:
            try:
                events = store.since(table, self._from)
            except StatusError as error:
                yield Told("ERROR", error.body())
                return
            for event in events:
                yield from self.change(event)
        else:
            for obj in store.at(table, store.revision):
                if self._means(obj):
                    yield Told("ADDED", self._shown(obj))
            self.seen = store.revision
            if self._listed and self.bookmarks:
                yield self.bookmark(end=True)

    def change(self, event: Event) -> Iterator[Told]:
        """Yield what one change is here: what enters the selectors is new, what leaves is gone."""
        if event.table != self._call.kind.table:
            return
        was = event.before is not None and self._means(event.before)
        now = event.after is not None and self._means(event.after)
        self.seen = event.revision
        if now and event.after is not None:
            yield Told("MODIFIED" if was else "ADDED", self._shown(event.after))
        elif was and event.before is not None:
            meta = {**event.before["metadata"], "resourceVersion": str(event.revision)}
            yield Told("DELETED", self._shown({**event.before, "metadata": meta}))

    def bookmark(self, *, end: bool = False) -> Told:
        """Return a line that tells only how far the stream has come."""
        self.seen = self._shared.store.revision
        meta: Json = {"resourceVersion": str(self.seen), "creationTimestamp": None}
        if end:
            meta["annotations"] = {INITIAL_END: "true"}
        obj: Json = {
            "kind": self._call.kind.kind,
            "apiVersion": self._call.kind.api_version,
            "metadata": meta,
        }
        if self._call.kind.kind == "Pod":
            obj |= {"spec": {"containers": None}, "status": {}}
        return Told("BOOKMARK", obj)

    def _shown(self, obj: Json) -> Json:
        return shown(self._call.kind, obj)
