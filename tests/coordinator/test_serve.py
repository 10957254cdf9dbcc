"""The whole coordinator in this process: all faces up, an orderly end, a second life."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from heteroscale.channel import ChannelError
from heteroscale.v1 import agent_pb2, operator_pb2
from heteroscale.v1.operator_pb2_grpc import OperatorServiceStub
from heteroscale_coordinator.__main__ import serve
from heteroscale_coordinator.config import CoordinatorSpec, HttpSettings
from heteroscale_coordinator.edge.store import StoreLockedError
from tests.coordinator.face import CONNECT, PATIENCE, Client, hello
from tests.coordinator.values import CHAT

SERVING = health_pb2.HealthCheckResponse.SERVING


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def settings(tmp_path: Path) -> CoordinatorSpec:
    return CoordinatorSpec(
        listen=f"127.0.0.1:{free_port()}",
        data_dir=tmp_path / "data",
        http=HttpSettings(listen=f"127.0.0.1:{free_port()}"),
    )


@asynccontextmanager
async def serving(
    spec: CoordinatorSpec, stop: asyncio.Event | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve until the block ends, or ``stop`` is set."""
    stop = stop or asyncio.Event()
    task = asyncio.create_task(serve(spec, stop))
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)]
    async with grpc.aio.insecure_channel(spec.listen, options=options) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        async with asyncio.timeout(PATIENCE):
            answer = await health.Check(request, wait_for_ready=True)
        assert answer.status == SERVING
        yield channel
        stop.set()
        async with asyncio.timeout(PATIENCE):
            await task


async def test_all_faces_are_served_and_the_end_is_orderly(tmp_path: Path) -> None:
    spec = settings(tmp_path)
    stop = asyncio.Event()
    async with serving(spec, stop) as channel:
        agent = Client(channel.stream_stream(CONNECT)())
        await agent.send(hello=hello())
        assert (await agent.read()).welcome.epoch == 1
        operators = OperatorServiceStub(channel)
        request = operator_pb2.ApplyServicesRequest(document=CHAT)
        applied = await operators.ApplyServices(request, timeout=PATIENCE)
        assert [(one.name, one.change) for one in applied.results] == [("chat", "created")]
        async with httpx.AsyncClient(base_url=f"http://{spec.http.listen}") as client:
            assert (await client.get("/readyz")).text == "ready\n"
            assert "heteroscale_epoch 1.0" in (await client.get("/metrics")).text
        assert await reflected(channel) >= {
            "heteroscale.v1.AgentService",
            "heteroscale.v1.OperatorService",
            "grpc.health.v1.Health",
        }
        stop.set()
        code, text = await agent.status()
        assert code is grpc.StatusCode.UNAVAILABLE
        assert text == "the coordinator is stopping"
    async with serving(spec) as channel:
        agent = Client(channel.stream_stream(CONNECT)())
        await agent.send(hello=hello(highest_epoch=1))
        assert (await agent.read()).welcome.epoch == 2
        services = await OperatorServiceStub(channel).ListServices(
            operator_pb2.ListServicesRequest(), timeout=PATIENCE
        )
        assert [service.name for service in services.services] == ["chat"]
        agent.call.cancel()


async def reflected(channel: grpc.aio.Channel) -> set[str]:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for answer in stub.ServerReflectionInfo(iter([request]), timeout=PATIENCE):
        return {service.name for service in answer.list_services_response.service}
    return set()


async def test_a_report_of_the_real_turn_is_folded(tmp_path: Path) -> None:
    spec = settings(tmp_path)
    async with serving(spec) as channel:
        agent = Client(channel.stream_stream(CONNECT)())
        await agent.send(hello=hello())
        await agent.read()
        await agent.send(report=agent_pb2.Report())
        stub = OperatorServiceStub(channel)
        async with asyncio.timeout(PATIENCE):
            nodes: list[operator_pb2.Node] = []
            while not nodes:
                listed = await stub.ListNodes(operator_pb2.ListNodesRequest())
                nodes = [node for node in listed.nodes if node.connected]
        assert [node.agent_id for node in nodes] == ["a1"]
        agent.call.cancel()


async def test_two_coordinators_do_not_share_a_data_directory(tmp_path: Path) -> None:
    spec = settings(tmp_path)
    async with serving(spec):
        other = spec.model_copy(update={"listen": f"127.0.0.1:{free_port()}"})
        with pytest.raises(StoreLockedError, match="in use by another coordinator"):
            await serve(other, asyncio.Event())


async def test_two_coordinators_do_not_share_a_port(tmp_path: Path) -> None:
    spec = settings(tmp_path)
    async with serving(spec):
        other = spec.model_copy(update={"data_dir": tmp_path / "other"})
        with pytest.raises(ChannelError, match="cannot listen on"):
            await serve(other, asyncio.Event())
