"""The gRPC server around the two faces: limits, keepalive, health, reflection, an orderly end."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from heteroscale.channel import MAX_MESSAGE_BYTES
from heteroscale.v1 import agent_pb2, operator_pb2
from heteroscale.v1.operator_pb2_grpc import (
    OperatorServiceServicer,
    add_OperatorServiceServicer_to_server,
)
from heteroscale_coordinator.edge.ports import Loop
from heteroscale_coordinator.edge.service import AgentService
from heteroscale_coordinator.edge.trust import Gatekeeper, OperatorsOnly

AGENTS = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
OPERATORS = operator_pb2.DESCRIPTOR.services_by_name["OperatorService"].full_name
HEALTH_EVERY_S = 0.5

OPTIONS: list[tuple[str, int]] = [
    # Two coordinators that share a port would each hear half of the fleet.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 1_000),
    # A whole fleet may come at once: admission lets it in by turns, nobody is thrown back at random.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
    # A host that vanished without a word is noticed; clients ping every 10 s and may.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
]


class Server:
    """A grpc.aio server with both faces; it listens when ``trust.listen`` has said where."""

    def __init__(
        self,
        agents: AgentService,
        operators: OperatorServiceServicer,
        gatekeeper: Gatekeeper,
    ) -> None:
        self.grpc = grpc.aio.server(
            interceptors=[OperatorsOnly(gatekeeper)], options=OPTIONS, compression=None
        )
        self.grpc.add_generic_rpc_handlers((agents.handler(),))
        add_OperatorServiceServicer_to_server(operators, self.grpc)
        self._agents = agents
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        reflection.enable_server_reflection(
            (AGENTS, OPERATORS, health.SERVICE_NAME, reflection.SERVICE_NAME), self.grpc
        )

    async def tell_health(self, loop: Loop) -> None:
        """Keep the health service saying what the loop says, until cancelled.

        Agents are served as long as we live, for leases are renewed whatever the store does;
        operators only while wishes can be committed.
        """
        serving = health_pb2.HealthCheckResponse.SERVING
        ailing = health_pb2.HealthCheckResponse.NOT_SERVING
        await self._health.set(AGENTS, serving)
        told: int | None = None
        while True:
            now = ailing if loop.status().not_ready else serving
            if now != told:
                told = now
                await self._health.set("", now)
                await self._health.set(OPERATORS, now)
            await asyncio.sleep(HEALTH_EVERY_S)

    async def stop(self, grace: float) -> None:
        """Take no more calls, let those under way end within ``grace`` seconds, and stop."""
        await self._health.enter_graceful_shutdown()
        self._agents.dismiss("the coordinator is stopping")
        await self.grpc.stop(grace)
