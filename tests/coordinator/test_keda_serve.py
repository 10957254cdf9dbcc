"""The whole coordinator, an agent that tells of pods, and KEDA beside it: also across a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import httpx

from heteroscale.keda import externalscaler_pb2 as pb
from heteroscale.keda.externalscaler_pb2_grpc import ExternalScalerStub
from heteroscale.v1 import operator_pb2
from heteroscale.v1.operator_pb2_grpc import OperatorServiceStub
from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.config import CoordinatorSpec, KedaSettings
from heteroscale_coordinator.core.model import RankFact
from heteroscale_coordinator.core.rules import Rules
from tests.coordinator import up
from tests.coordinator.face import CONNECT, PATIENCE, Client, hello
from tests.coordinator.keda import ScaledObject, dial
from tests.coordinator.test_serve import free_port, serving, settings
from tests.coordinator.values import CHAT

EXTERNAL = CHAT + "  actuation: {by: external}\n"
PODS = [("p0", Role.PREFILL), *((f"d{number}", Role.DECODE) for number in range(3))]


def beside_keda(tmp_path: Path) -> CoordinatorSpec:
    keda = KedaSettings(listen=f"127.0.0.1:{free_port()}")
    rules = Rules(tick=0.2, report_interval=0.2, silent_after=60.0, cover_for=0.5)
    return settings(tmp_path).model_copy(update={"keda": keda, "rules": rules})


def pod(name: str, role: Role) -> RankFact:
    return RankFact(name, "chat", role, InstanceState.IN_SERVICE, 1, origin=f"pod serving/{name}")


async def until_ready(*scaled: ScaledObject) -> None:
    """Poll, as KEDA and the HPA go on doing, until each has its answer."""
    async with asyncio.timeout(PATIENCE):
        for one in scaled:
            while not one.ready:
                await one.poll()


async def test_keda_moves_what_is_found_by_the_joint_decision(tmp_path: Path) -> None:
    spec = beside_keda(tmp_path)
    async with dial(spec.keda.listen) as kedas:
        prefill = ScaledObject(kedas, {"service": "chat", "role": "prefill"}, replicas=1)
        decode = ScaledObject(kedas, {"service": "chat", "role": "decode"}, replicas=3)
        async with serving(spec) as channel:
            agent = Client(channel.stream_stream(CONNECT)())
            pods = [up.status(pod(name, role)) for name, role in PODS]
            await agent.send(hello=hello(instances=pods))
            await agent.read()
            await decode.poll()
            assert (decode.replicas, decode.ready) == (3, False)
            operators = OperatorServiceStub(channel)
            await operators.ApplyServices(
                operator_pb2.ApplyServicesRequest(document=EXTERNAL), timeout=PATIENCE
            )
            await until_ready(prefill, decode)
            assert (prefill.replicas, decode.replicas) == (1, 3)
            await operators.ScaleService(
                operator_pb2.ScaleServiceRequest(name="chat", prefill=3, decode=6),
                timeout=PATIENCE,
            )
            async with asyncio.timeout(PATIENCE):
                while (prefill.replicas, decode.replicas) != (3, 6):
                    await prefill.poll()
                    await decode.poll()
            assert prefill.generation == decode.generation
            stream = ExternalScalerStub(kedas).StreamIsActive(decode.ref)
            assert await stream.read() == pb.IsActiveResponse(result=True)
            async with httpx.AsyncClient(base_url=f"http://{spec.http.listen}") as client:
                told = (await client.get("/metrics")).text
            assert 'heteroscale_asked_instances{role="decode",service="chat"} 6.0' in told
            assert 'heteroscale_keda_poll_age_seconds{role="decode",service="chat"}' in told
            agent.call.cancel()
        assert await stream.code() is grpc.StatusCode.UNAVAILABLE
        before = decode.generation
        await decode.poll()
        assert (decode.replicas, decode.ready) == (6, False), "gone is not zero"
        async with serving(spec):
            await until_ready(prefill, decode)
            assert (prefill.replicas, decode.replicas) == (3, 6)
            assert decode.generation == before
            again = ExternalScalerStub(kedas).StreamIsActive(decode.ref)
            assert await again.read() == pb.IsActiveResponse(result=True)
            again.cancel()
