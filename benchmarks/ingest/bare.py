"""The other side of every ratio: a grpc.aio server that reads every field and acks every message.

It does what any server in this language must, and nothing more: no order kept, no state, no limits.
Same options of the channel as the coordinator's. ``python -m benchmarks.ingest.bare`` prints one
line of JSON with its two ports.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from prometheus_client import CollectorRegistry, Counter, start_http_server

from heteroscale.v1 import agent_pb2
from heteroscale_coordinator.edge.server import OPTIONS

SERVICE = "heteroscale.v1.AgentService"
_Values = tuple[Any, ...]


class BareService:
    """Welcomes everybody, counts reports, keeps nothing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reports = Counter("bench_reports", "Reports read out.", registry=registry)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler to add to a server."""
        method: grpc.RpcMethodHandler[agent_pb2.ConnectRequest, agent_pb2.ConnectResponse] = (
            grpc.stream_stream_rpc_method_handler(
                self._connect,
                request_deserializer=agent_pb2.ConnectRequest.FromString,
                response_serializer=agent_pb2.ConnectResponse.SerializeToString,
            )
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"Connect": method})

    async def _connect(
        self,
        _requests: AsyncIterator[agent_pb2.ConnectRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        read, write, count = context.read, context.write, self._reports.inc
        hello = await read()
        await write(agent_pb2.ConnectResponse(welcome=agent_pb2.Welcome(epoch=1)))
        await write(agent_pb2.ConnectResponse(ack=agent_pb2.Ack(sequence=hello.sequence)))
        del hello
        while (message := await read()) is not grpc.aio.EOF:
            if message.WhichOneof("body") == "report":
                read_out(message.report)
                count()
            await write(agent_pb2.ConnectResponse(ack=agent_pb2.Ack(sequence=message.sequence)))


_GPU_COLUMNS = tuple(field.name for field in agent_pb2.GpuReadings.DESCRIPTOR.fields)
_NIC_COLUMNS = tuple(field.name for field in agent_pb2.NicReadings.DESCRIPTOR.fields)


def read_out(report: agent_pb2.Report) -> _Values:
    """Return every value of a report as Python's own."""
    gpus, nics, host = report.gpus, report.nics, report.host
    return (
        report.sampled_ago.seconds + report.sampled_ago.nanos * 1e-9,
        report.interval.seconds + report.interval.nanos * 1e-9,
        *(list(getattr(gpus, name)) for name in _GPU_COLUMNS),
        *(list(getattr(nics, name)) for name in _NIC_COLUMNS),
        host.cpu_percent,
        host.memory_used_bytes,
        host.load_1m,
        [_engine(engine) for engine in report.engines],
    )


def _engine(engine: agent_pb2.EngineReading) -> _Values:
    first, between = engine.time_to_first_token, engine.time_between_tokens
    return (
        engine.instance_id,
        engine.quality,
        engine.age.seconds + engine.age.nanos * 1e-9,
        engine.generation_tokens,
        engine.prompt_tokens,
        engine.computed_prompt_tokens,
        engine.requests_finished,
        engine.requests_aborted,
        engine.running,
        engine.waiting,
        engine.transferring,
        engine.kv_usage,
        first.sum_seconds,
        first.count,
        list(first.bucket_deltas),
        between.sum_seconds,
        between.count,
        list(between.bucket_deltas),
    )


async def serve() -> None:
    """Serve until SIGTERM."""
    registry = CollectorRegistry()
    server = grpc.aio.server(options=OPTIONS, compression=None)
    server.add_generic_rpc_handlers((BareService(registry).handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    http, _ = start_http_server(0, "127.0.0.1", registry)
    print(json.dumps({"port": port, "http_port": http.server_port}), flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    http.shutdown()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(serve())
