"""The faces before the real loop, step and SQLite store: what is applied is durable and shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio
import httpx
from prometheus_client.parser import text_string_to_metric_families

from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1.operator_pb2_grpc import (
    OperatorServiceStub,
    add_OperatorServiceServicer_to_server,
)
from heteroscale_coordinator.clock import SteadyClock
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import renewals, step
from heteroscale_coordinator.edge.http import HttpFace
from heteroscale_coordinator.edge.metrics import Metrics
from heteroscale_coordinator.edge.operator import OperatorFace
from heteroscale_coordinator.edge.recorder import record_decisions
from heteroscale_coordinator.edge.store.decisions import DecisionLog
from heteroscale_coordinator.edge.store.sqlite import open_sqlite
from heteroscale_coordinator.loop import Loop
from tests.coordinator.values import CHAT

if TYPE_CHECKING:
    from heteroscale.v1.operator_pb2_grpc import OperatorServiceAsyncStub


@asynccontextmanager
async def coordinator(data: Path) -> AsyncIterator[tuple[OperatorServiceAsyncStub, int]]:
    store, decisions, metrics = open_sqlite(data), DecisionLog(data / "decisions.db"), Metrics()
    found = store.load()
    state = State(
        rules=Rules(tick=0.05),
        services=dict(found.services),
        instances=dict(found.instances),
        commands=dict(found.commands),
    )
    loop = Loop(
        store=store,
        snapshot=found,
        state=state,
        step=step,
        renewals=renewals,
        clock=SteadyClock(found.last_now),
        observer=metrics,
    )
    metrics.watch(loop, decisions)
    await loop.start()
    recorder = asyncio.create_task(record_decisions(loop, decisions))
    running = asyncio.create_task(loop.run())
    server, http = grpc.aio.server(), HttpFace(loop, metrics)
    add_OperatorServiceServicer_to_server(OperatorFace(loop, decisions), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield OperatorServiceStub(channel), await http.start("127.0.0.1", 0)
    loop.stop()
    await running
    loop.close()
    await asyncio.gather(recorder, server.stop(None), http.close())
    decisions.close()
    store.close()


async def first_decision(stub: OperatorServiceAsyncStub) -> pb.Decision:
    call = stub.Watch(pb.WatchRequest(service="chat"))
    async with asyncio.timeout(20):
        async for response in call:
            if response.WhichOneof("event") == "decision":
                call.cancel()
                return response.decision
    raise AssertionError


async def test_what_is_applied_survives_a_restart_and_is_decided_on(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as (stub, _):
        applied = await stub.ApplyServices(pb.ApplyServicesRequest(document=CHAT))
        assert applied.results[0].change == "created"
        await stub.PauseService(pb.PauseServiceRequest(name="chat", reason="by hand"))
    async with coordinator(tmp_path) as (stub, http):
        again = await stub.ApplyServices(pb.ApplyServicesRequest(document=CHAT))
        assert again.results[0].change == "unchanged"
        assert (await stub.GetService(pb.GetServiceRequest(name="chat"))).paused
        decision = await first_decision(stub)
        assert decision.reason
        assert decision.advisory
        answer = await stub.ExplainService(pb.ExplainServiceRequest(name="chat"))
        assert "paused (by hand)" in "\n".join(answer.lines)
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            ready = await client.get(f"http://127.0.0.1:{http}/readyz")
            metrics = await client.get(f"http://127.0.0.1:{http}/metrics")
        assert ready.text == "ready\n"
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(metrics.text)
            for sample in family.samples
        }
        assert samples["heteroscale_epoch"] == 2
        assert samples["heteroscale_store_commit_seconds_count"] > 0
        assert samples["heteroscale_turn_seconds_count"] > 0
