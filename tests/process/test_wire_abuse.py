"""Strangers on the coordinator's port: whatever they send, real agents are served as before."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from heteroscale.convert import duration, seconds, to_wire
from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale.words import GateState, InstanceState, Role, ScrapeQuality
from heteroscale_workbench.cluster.local import until
from heteroscale_workbench.cluster.processes import ProcessError
from tests.coordinator import face
from tests.coordinator.face import CONNECT, Client
from tests.coordinator.http2 import data_frame, raw_call
from tests.process.fleet import Fleet, fleet, hosts, layout

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]
CODE = grpc.StatusCode
OBSERVED = 5.0
"""Seconds in which nothing must be withdrawn: ten ticks, and twice the window of a scale-in."""
FIGURES = (
    *("generation_tokens", "prompt_tokens", "computed_prompt_tokens", "requests_finished"),
    *("requests_aborted", "running", "waiting", "transferring", "kv_usage"),
)
NOISE = b"".join(hashlib.sha256(bytes([i, j])).digest() for i in range(64) for j in range(32))
NAN, ENDLESS = float("nan"), float("inf")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    folder = tmp_path_factory.mktemp("wire")
    async with fleet(layout(folder, hosts=hosts("H20"))) as made:
        await made.serve()
        yield made


async def _goes_on(world: Fleet) -> None:
    """Check that the coordinator is ready and hears the real agent from now on."""
    clock = asyncio.get_running_loop().time
    began = clock()

    async def heard() -> bool:
        nodes = {node.agent_id: node for node in await world.operator.nodes()}
        real = nodes["agent-0"]
        return real.connected and seconds(real.silent) < clock() - began

    await world.until(heard, "a report of the real agent")
    assert await world.ready()


@contextlib.asynccontextmanager
async def _raw(world: Fleet) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.cluster.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def _stranger(world: Fleet) -> AsyncIterator[Client]:
    """Open a stream as an agent would, with messages of any size."""
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(world.cluster.address, options=options) as channel:
        client = Client(channel.stream_stream(CONNECT)())
        yield client
        client.call.cancel()


async def _pour(world: Fleet, data: bytes) -> None:
    """Send bytes and read until the coordinator has had enough, or has nothing to say."""
    async with _raw(world) as (reader, writer):
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                writer.write(data)
                await writer.drain()
                await reader.read()


@pytest.mark.parametrize(
    "data",
    [
        NOISE,
        bytes(64 * 1024),
        b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 65_536,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + NOISE,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512),
    ],
    ids=["noise", "zeros", "http1", "http1-post", "http2-then-noise", "tls-hello"],
)
async def test_bytes_that_are_no_grpc(world: Fleet, data: bytes) -> None:
    await asyncio.gather(*(_pour(world, data) for _ in range(16)))
    await _goes_on(world)


async def test_messages_above_the_limit_end_their_own_stream(world: Fleet) -> None:
    async with _stranger(world) as client:
        await client.send_bytes(bytes(5 * 1024 * 1024))
        code, _ = await client.status()
        assert code is CODE.RESOURCE_EXHAUSTED
    async with _stranger(world) as client:
        await client.send(hello=_hello())
        await client.read()
        engine = agent_pb2.EngineReading(instance_id="x" * 400_000)
        await client.send(report=agent_pb2.Report(engines=[engine]))
        code, text = await client.status()
        assert code is CODE.INVALID_ARGUMENT
        assert "a report of" in text
    await _goes_on(world)


@pytest.mark.parametrize(
    ("say", "words"),
    [
        (lambda c: c.send(report=agent_pb2.Report()), "the first message must be a hello"),
        (lambda c: c.send_bytes(b"\xff\xff\xff\xff garbage"), "bytes that are no ConnectRequest"),
        (lambda c: c.send(hello=agent_pb2.Hello()), "a hello needs an agent id"),
    ],
    ids=["report-first", "no-message", "empty-hello"],
)
async def test_a_stream_that_does_not_begin_with_a_hello(
    world: Fleet, say: Callable[[Client], Any], words: str
) -> None:
    async with _stranger(world) as client:
        await say(client)
        code, text = await client.status()
        assert code is CODE.INVALID_ARGUMENT
        assert words in text
    await _goes_on(world)


async def test_dripped_bytes_and_idle_connections_keep_nobody_waiting(world: Fleet) -> None:
    async with contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(_raw(world)) for _ in range(200)]
        for index, (_, writer) in enumerate(opened):
            if index % 2:  # half of them begin to speak
                writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[: 1 + index % 24])
        _, dripping = await stack.enter_async_context(_raw(world))
        dripping.write(raw_call(_hello("drip")))
        for _ in range(5):
            dripping.write(data_frame(1, b"\x00"))
            await dripping.drain()
            await _goes_on(world)
        # A newcomer is let in beside them.
        async with _stranger(world) as client:
            await client.send(hello=_hello("newcomer"))
            assert (await client.read()).welcome.cluster_id == "local"


async def test_readings_that_cannot_be_true_are_unknown(world: Fleet) -> None:
    """One agent lies about an idle engine: nothing is withdrawn before it tells the truth."""
    policy = {"windowIn": "2s", "hold": "0s", "windowOut": "1s", "cooldownIn": "1s"}
    await world.serve(decode=(1, 3), policy=policy)
    before = len(await world.acted())
    async with _stranger(world) as client:
        await client.send(hello=_hello("liar", instance="i-liar"))
        listening = asyncio.create_task(client.status())
        lies = itertools.cycle([NAN, -5.0, 1e300, ENDLESS, -ENDLESS])

        async def taken_in() -> bool:
            await _tell(client, next(lies))
            return len(await world.acted()) > before

        with pytest.raises(ProcessError):
            await until(taken_in, OBSERVED, "a decision on lies")
        (liar,) = [one for one in await world.instances() if one.id == "i-liar"]
        assert (liar.state, liar.running) == (InstanceState.IN_SERVICE, None)
        signals = (await world.operator.service("chat")).signals
        assert all(math.isfinite(one.value) for one in signals if one.HasField("value"))
        assert [one.coverage for one in signals if one.name == "decode_tps"] == [0.5]

        async def believed() -> bool:
            await _tell(client, 0.0)
            return len(await world.acted()) > before

        await world.until(believed, "a decision on the truth")
        assert (await world.acted())[0].action == "scale_in"
        assert not listening.done()
        listening.cancel()
    await _goes_on(world)


async def _tell(client: Client, value: float) -> None:
    """Send a report in which every figure of the engine is ``value``."""
    latency = agent_pb2.Latency(sum_seconds=value, count=value)
    reading = agent_pb2.EngineReading(
        instance_id="i-liar",
        quality=to_wire(ScrapeQuality.OK),  # type: ignore[arg-type]
        time_to_first_token=latency,
        time_between_tokens=latency,
    )
    for name in FIGURES:
        setattr(reading, name, value)
    await client.send(report=agent_pb2.Report(engines=[reading]))


def _hello(name: str = "stranger", *, instance: str = "") -> agent_pb2.Hello:
    hello = face.hello(name, cluster_id="local")
    if instance:
        hello.instances.append(
            types_pb2.InstanceStatus(
                instance_id=instance,
                service="chat",
                role=to_wire(Role.DECODE),  # type: ignore[arg-type]
                rank_count=1,
                generation=3,
                state=to_wire(InstanceState.IN_SERVICE),  # type: ignore[arg-type]
                gate_state=to_wire(GateState.OPEN),  # type: ignore[arg-type]
                endpoint="http://127.0.0.1:9",
                template="decode",
                gpu_indices=[0],
                startup_time=duration(1.0),
            )
        )
    return hello
