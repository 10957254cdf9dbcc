"""An operator who watches: the state, then changes, and an end that is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
import pytest

from heteroscale.convert import to_wire
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import InstanceState
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.edge.feed import Subscription
from heteroscale_coordinator.edge.store.decisions import DecisionLog
from tests.coordinator.refusals import refused
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import NOW, decision, instance, service

if TYPE_CHECKING:
    from heteroscale.v1.operator_pb2_grpc import OperatorServiceAsyncStub


S = grpc.StatusCode


class Watcher:
    def __init__(self, stub: OperatorServiceAsyncStub, name: str = "") -> None:
        self.call = stub.Watch(pb.WatchRequest(service=name))

    async def next(self) -> tuple[str, Any]:
        async with asyncio.timeout(10):
            response = cast("pb.WatchResponse", await self.call.read())
        kind = response.WhichOneof("event")
        assert kind is not None
        return kind, getattr(response, kind)

    async def until_synced(self) -> list[tuple[str, Any]]:
        seen = []
        while (item := await self.next())[0] != "synced":
            seen.append(item)
        return seen


async def test_a_watch_begins_with_the_state_and_goes_on_with_changes(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, decisions: DecisionLog
) -> None:
    loop.populate()
    decisions.record([decision("d-1")])
    watcher = Watcher(stub)
    kinds = [kind for kind, _ in await watcher.until_synced()]
    assert kinds == ["service", "instance", "instance", "instance", "node", "node", "decision"]
    moved = replace(instance("i-1"), state=InstanceState.WITHDRAWN)
    loop.commit(Changes(instances={"i-1": moved}, decisions=[decision("d-2", at=NOW + 5)]))
    kind, shown = await watcher.next()
    assert (kind, shown.state) == ("instance", to_wire(InstanceState.WITHDRAWN))
    kind, shown = await watcher.next()
    assert (kind, shown.decision_id, shown.repeat_count) == ("decision", "d-1", 2)
    kind, shown = await watcher.next()
    assert (kind, shown.roles[1].withdrawn) == ("service", 1)
    watcher.call.cancel()


async def test_a_watcher_is_told_what_is_gone(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    watcher = Watcher(stub, "chat")
    await watcher.until_synced()
    loop.commit(Changes({"chat": None}, {"i-1": None}))
    kind, shown = await watcher.next()
    assert (kind, shown.instance_id) == ("instance", "i-1")
    assert shown.state == to_wire(InstanceState.TERMINATED)
    kind, shown = await watcher.next()
    assert (kind, shown.name, shown.condition) == ("service", "chat", "deleted")
    watcher.call.cancel()


async def test_a_watch_of_one_service_hears_of_no_other(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    loop.commit(Changes({"other": service("other")}, {"o-1": instance("o-1", of="other")}))
    watcher = Watcher(stub, "chat")
    seen = await watcher.until_synced()
    assert {item.name for kind, item in seen if kind == "service"} == {"chat"}
    assert {item.service for kind, item in seen if kind == "instance"} == {"chat"}
    loop.commit(Changes({"other": service("other", paused="x")}))
    loop.commit(Changes({"chat": service(paused="y")}))
    _, shown = await watcher.next()
    assert shown.name == "chat"
    watcher.call.cancel()


async def test_a_watcher_that_does_not_read_is_dropped_and_told(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.populate()
    slow, quick = Watcher(stub), Watcher(stub, "chat")
    await slow.until_synced()
    await quick.until_synced()
    dropped = asyncio.Event()
    forget = loop.feed.drop

    def drop(subscription: Subscription) -> bool:
        dropped.set()
        return forget(subscription)

    monkeypatch.setattr(loop.feed, "drop", drop)
    for n in range(400):
        loop.commit(Changes({"other": replace(service("other"), document=f"{n:060000}")}))
    loop.commit(Changes({"chat": service(paused="still heard")}))
    assert (await quick.next())[1].paused

    await dropped.wait()

    async def read_on() -> None:
        async with asyncio.timeout(20):
            while True:
                await slow.call.read()

    code, details = await refused(read_on())
    assert code is S.RESOURCE_EXHAUSTED
    assert "too slowly" in details
    quick.call.cancel()


async def test_when_the_loop_stops_watchers_are_told_to_come_again(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    watcher = Watcher(stub)
    await watcher.until_synced()
    loop.feed.close()
    code, details = await refused(watcher.next())
    assert code is S.UNAVAILABLE
    assert "stopping" in details
