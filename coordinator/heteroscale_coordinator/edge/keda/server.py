"""The port for KEDA: one of its own, so that who reads counts reaches nothing that starts engines."""

from __future__ import annotations

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from heteroscale.keda import externalscaler_pb2
from heteroscale.keda.externalscaler_pb2_grpc import add_ExternalScalerServicer_to_server
from heteroscale_coordinator.edge.keda.face import KedaFace

SCALER = externalscaler_pb2.DESCRIPTOR.services_by_name["ExternalScaler"].full_name

MAX_REQUEST_BYTES = 64 * 1024
"""A ScaledObject's metadata; whoever sends more means no good."""
OPTIONS: list[tuple[str, int]] = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.server.max_pending_requests", 2_000),
    ("grpc.server.max_pending_requests_hard_limit", 4_000),
    # A KEDA that vanished without a word leaves no stream behind.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
]


class KedaServer:
    """A grpc.aio server with the one API; it listens when ``trust.listen`` has said where."""

    def __init__(self, face: KedaFace) -> None:
        self.grpc = grpc.aio.server(options=OPTIONS, compression=None)
        self._face = face
        self._health = health.aio.HealthServicer()
        add_ExternalScalerServicer_to_server(face, self.grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        reflection.enable_server_reflection(
            (SCALER, health.SERVICE_NAME, reflection.SERVICE_NAME), self.grpc
        )

    async def start(self) -> None:
        """Serve."""
        await self._health.set(SCALER, health_pb2.HealthCheckResponse.SERVING)
        await self.grpc.start()

    async def stop(self, grace: float) -> None:
        """Take no more calls, end the streams, let calls under way end within ``grace`` seconds."""
        await self._health.enter_graceful_shutdown()
        self._face.stop()
        await self.grpc.stop(grace)
