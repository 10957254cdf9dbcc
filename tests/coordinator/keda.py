"""A client that behaves as KEDA's operator does, the HPA behind it, and a server on loopback for both.

Written from what KEDA 2 does (pkg/scalers/external_scaler.go and pkg/scaling in its sources), over stubs
of KEDA's own proto: one channel for all triggers of an address; GetMetricSpec first, whose names become
the HPA's with `s0-` before them; then GetMetrics by the name without that, the float where it is above
zero, and IsActive after it; an error of either is an error of the metric, at which the HPA changes
nothing. A push trigger holds StreamIsActive open and comes again when it ends, and tries
StreamMetricSpec until it hears that there is none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import grpc.aio
from prometheus_client import CollectorRegistry, generate_latest

from heteroscale.keda import externalscaler_pb2 as pb
from heteroscale.keda.externalscaler_pb2_grpc import ExternalScalerStub
from heteroscale.words import Role
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.memory.external import ExternalMemory
from heteroscale_coordinator.core.model import Decision, Service
from heteroscale_coordinator.edge.keda import KedaFace, KedaServer, Polls
from heteroscale_coordinator.edge.store.decisions import DecisionLog
from heteroscale_coordinator.edge.trust import Gatekeeper, ServerTls, listen
from tests.coordinator.face import PATIENCE
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import NOW, service
from tests.hpa import Hpa

RETRY = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50))


def dial(address: str) -> grpc.aio.Channel:
    """Return a channel as KEDA's connection pool makes one."""
    balancing = ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin":{}}]}')
    return grpc.aio.insecure_channel(address, options=[balancing, *RETRY])


@dataclass
class ScaledObject:
    """One ScaledObject with one trigger, and its scale target."""

    channel: grpc.aio.Channel
    metadata: dict[str, str]
    name: str = "chat"
    replicas: int = 1
    hpa: Hpa = field(default_factory=lambda: Hpa(tolerance=0.0))
    targets: dict[str, float] = field(default_factory=dict)
    """Of the HPA's metrics, by name."""
    ready: bool = False
    """KEDA's own condition: the last poll of every metric worked."""
    active: bool = False
    generation: str = ""

    @property
    def ref(self) -> pb.ScaledObjectRef:
        """What KEDA sends with every call: all of the trigger's metadata, the address too."""
        given = {"scalerAddress": "heteroscale:7072", **self.metadata}
        return pb.ScaledObjectRef(name=self.name, namespace="serving", scalerMetadata=given)

    async def reconcile(self) -> None:
        """Make the HPA; without metric specs there is none."""
        answer = await ExternalScalerStub(self.channel).GetMetricSpec(self.ref, timeout=PATIENCE)
        self.targets = {
            f"s0-{one.metricName}": one.targetSizeFloat or float(one.targetSize)
            for one in answer.metricSpecs
        }

    async def metric(self, name: str) -> float:
        """Return the value of one of the HPA's metrics, and learn whether the trigger is active."""
        stub = ExternalScalerStub(self.channel)
        request = pb.GetMetricsRequest(
            scaledObjectRef=self.ref, metricName=name.removeprefix("s0-")
        )
        call = stub.GetMetrics(request, timeout=PATIENCE)
        values = (await call).metricValues
        trailer = {str(key): value for key, value in await call.trailing_metadata()}
        self.generation = str(trailer.get("heteroscale-generation", ""))
        self.active = (await stub.IsActive(self.ref, timeout=PATIENCE)).result
        return sum(one.metricValueFloat or float(one.metricValue) for one in values)

    async def poll(self) -> None:
        """Let the HPA look once: the largest of what its metrics say; an error changes nothing."""
        proposed = []
        try:
            if not self.targets:
                await self.reconcile()
            for name, target in self.targets.items():
                value = await self.metric(name)
                proposed.append(self.hpa.desired(self.replicas, value, target))
        except grpc.aio.AioRpcError:
            self.ready = False
            return
        self.ready = True
        if self.active and proposed:
            self.replicas = max(proposed)

    async def told(self) -> str:
        """Return the status with which the metric is refused, in words."""
        try:
            await self.metric("")
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "OK"


P, D = Role.PREFILL, Role.DECODE
PREFILL = {"service": "chat", "role": "prefill"}
DECODE = {"service": "chat", "role": "decode"}


def asked(prefill: int, decode: int, generation: int = 1, **changes: Any) -> Service:
    """Return a service that others scale, with its counts."""
    plain = service()
    spec = {"actuation": {"by": "external"}} | changes
    counts = {P: prefill, D: decode} if prefill else {}
    external = ExternalMemory(counts, generation, NOW)
    return replace(
        plain,
        spec=type(plain.spec).model_validate(plain.spec.model_dump() | spec),
        memory=replace(plain.memory, external=external),
    )


class Rig:
    """A server on loopback, over a loop that tests drive."""

    def __init__(self, loop: TwinLoop, decisions: DecisionLog, tls: ServerTls) -> None:
        self.loop = loop
        self.registry = CollectorRegistry()
        self.polls = Polls(loop, self.registry)
        gatekeeper = Gatekeeper(mutual=tls.mutual)
        self.face = KedaFace(
            loop, decisions, gatekeeper, self.polls, look_every=0.01, max_streams=2
        )
        self.server = KedaServer(self.face)
        self.port = listen(self.server.grpc, "127.0.0.1:0", tls, insecure=False)
        self.channel = dial(f"127.0.0.1:{self.port}")

    def commit(self, one: Service, *decided: Decision) -> None:
        self.loop.commit(Changes({one.name: one}, decisions=list(decided)))

    def scaled(self, metadata: dict[str, str], **more: Any) -> ScaledObject:
        return ScaledObject(self.channel, metadata, **more)

    def series(self) -> str:
        return generate_latest(self.registry).decode()


async def first(call: Any) -> bool:
    async with asyncio.timeout(PATIENCE):
        answer = await call.read()
        assert isinstance(answer, pb.IsActiveResponse)
        return answer.result


async def ending(call: Any) -> tuple[grpc.StatusCode, str]:
    async with asyncio.timeout(PATIENCE):
        return await call.code(), await call.details()
