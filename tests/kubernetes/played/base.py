"""How a controller lives here: it reconciles whole tables whenever one that it reads has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from tests.kubernetes.server import deletes, writes
from tests.kubernetes.server.calls import CONTROLLER, Call, Shared
from tests.kubernetes.server.errors import Json, StatusError
from tests.kubernetes.server.store import Event, Table

_ROUNDS = 1000


class Controller(Protocol):
    """One controller. ``reconcile`` is called again until it changes nothing."""

    reads: frozenset[Table]

    def reconcile(self, hands: Hands) -> None: ...


class Hands:
    """What controllers do with: as clients of the server, on its thread, as their own user."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def all(self, table: Table, namespace: str = "") -> list[Json]:
        """Return objects, to look at: never change one."""
        return [
            obj for obj in self.shared.store.peek(table)
            if not namespace or obj["metadata"].get("namespace") == namespace
        ]  # fmt: skip

    def call(self, api_version: str, kind: str, namespace: str = "", name: str = "") -> Call:
        found = self.shared.kinds.of(api_version, kind)
        assert found, f"{api_version} {kind} is not served"
        return Call(found, namespace, name, user=CONTROLLER, agent="kube-controller-manager")

    def create(self, api_version: str, kind: str, obj: Json) -> Json:
        call = self.call(api_version, kind, obj["metadata"].get("namespace", ""))
        return writes.create(self.shared, call, {"apiVersion": api_version, "kind": kind, **obj})

    def change(self, obj: Json, make: Callable[[Json], Json], sub: str = "") -> None:
        """Change an object, or its status; one that is gone is left so."""
        meta = obj["metadata"]
        call = self.call(obj["apiVersion"], obj["kind"], meta.get("namespace", ""))
        try:
            writes.change(self.shared, call.on(meta["name"], sub), make)
        except StatusError as error:
            if error.code != 404:
                raise

    def status(self, obj: Json, **fields: object) -> None:
        """Set fields of a status; None removes one."""

        def make(live: Json) -> Json:
            status = {**(live.get("status") or {}), **fields}
            live["status"] = {key: value for key, value in status.items() if value is not None}
            return live

        self.change(obj, make, "status")

    def delete(self, obj: Json, options: Json | None = None) -> None:
        meta = obj["metadata"]
        call = self.call(obj["apiVersion"], obj["kind"], meta.get("namespace", ""), meta["name"])
        try:
            deletes.delete(self.shared, call, options or {})
        except StatusError as error:
            if error.code != 404:
                raise


class Play:
    """Runs controllers after each change, in the same turn of the loop as far as that goes."""

    def __init__(self, shared: Shared, controllers: Sequence[Controller]) -> None:
        self._hands, self._controllers = Hands(shared), controllers
        self._dirty: set[Table] = set(shared.store.tables())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._planned = False
        shared.store.listen(self._heard)

    def on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run from now on by ``loop``, and once at once."""
        self._loop = loop
        self.settle()

    def settle(self) -> None:
        """Reconcile until nothing changes any more."""
        self._planned = False
        for _ in range(_ROUNDS):
            dirty, self._dirty = self._dirty, set()
            if not dirty:
                return
            for controller in self._controllers:
                if controller.reads & dirty:
                    controller.reconcile(self._hands)
        raise AssertionError("the controllers do not come to rest")

    def _heard(self, event: Event) -> None:
        self._dirty.add(event.table)
        if self._loop and not self._planned:
            self._planned = True
            self._loop.call_soon(self.settle)
