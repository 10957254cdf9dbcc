"""The operator's face over a loop that does nothing, for all tests of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest

from heteroscale.v1.operator_pb2_grpc import (
    OperatorServiceStub,
    add_OperatorServiceServicer_to_server,
)
from heteroscale_coordinator.edge.operator import OperatorFace
from heteroscale_coordinator.edge.store.decisions import DecisionLog
from heteroscale_coordinator.edge.trust import ServerTls
from tests.coordinator.keda import Rig
from tests.coordinator.twin import TwinLoop

if TYPE_CHECKING:
    from heteroscale.v1.operator_pb2_grpc import OperatorServiceAsyncStub


@pytest.fixture
def loop() -> TwinLoop:
    return TwinLoop()


@pytest.fixture
def decisions() -> DecisionLog:
    return DecisionLog(None)


@pytest.fixture
async def stub(loop: TwinLoop, decisions: DecisionLog) -> AsyncIterator[OperatorServiceAsyncStub]:
    server = grpc.aio.server()
    face = OperatorFace(loop, decisions, write_timeout=0.3)
    add_OperatorServiceServicer_to_server(face, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield OperatorServiceStub(channel)
    await server.stop(None)


@pytest.fixture
async def rig(loop: TwinLoop, decisions: DecisionLog) -> AsyncIterator[Rig]:
    made = Rig(loop, decisions, ServerTls())
    await made.server.start()
    yield made
    await made.channel.close()
    await made.server.stop(0)
