"""An operator's client for the cluster's own use: a few calls of OperatorService, typed."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import grpc.aio

from heteroscale.channel import TlsFiles, open_channel
from heteroscale.convert import to_wire
from heteroscale.v1 import operator_pb2, operator_pb2_grpc
from heteroscale.words import Role

DEADLINE = 5.0
WRITE_DEADLINE = 30.0
"""A change is answered after its commit, and a machine full of engines is in no hurry."""


class Operator:
    """Asks a coordinator. Use as an async context."""

    def __init__(self, address: str, tls: TlsFiles | None = None) -> None:
        self._channel = open_channel(address, tls or TlsFiles())
        self._stub = operator_pb2_grpc.OperatorServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def apply(self, document: str) -> None:
        """Apply a YAML text."""
        request = operator_pb2.ApplyServicesRequest(document=document, file_name="cluster")
        await self._stub.ApplyServices(request, timeout=WRITE_DEADLINE)

    async def service(self, name: str) -> operator_pb2.Service:
        """Return one service."""
        request = operator_pb2.GetServiceRequest(name=name)
        return await self._stub.GetService(request, timeout=DEADLINE)

    async def services(self) -> list[operator_pb2.Service]:
        """Return every service."""
        request = operator_pb2.ListServicesRequest()
        return list((await self._stub.ListServices(request, timeout=DEADLINE)).services)

    async def instances(self, service: str = "") -> list[operator_pb2.Instance]:
        """Return the instances, of one service or of all."""
        request = operator_pb2.ListInstancesRequest(service=service)
        return list((await self._stub.ListInstances(request, timeout=DEADLINE)).instances)

    async def nodes(self) -> list[operator_pb2.Node]:
        """Return the nodes."""
        request = operator_pb2.ListNodesRequest()
        return list((await self._stub.ListNodes(request, timeout=DEADLINE)).nodes)

    async def decisions(self, service: str, most: int = 200) -> list[operator_pb2.Decision]:
        """Return a service's decisions, newest first."""
        request = operator_pb2.ListDecisionsRequest(service=service, page_size=most)
        return list((await self._stub.ListDecisions(request, timeout=DEADLINE)).decisions)

    async def scale(self, name: str, prefill: int, decode: int) -> None:
        """Set counts by hand."""
        request = operator_pb2.ScaleServiceRequest(name=name, prefill=prefill, decode=decode)
        await self._stub.ScaleService(request, timeout=WRITE_DEADLINE)

    async def drain(self, instance_id: str) -> None:
        """Drain one instance."""
        request = operator_pb2.DrainInstanceRequest(instance_id=instance_id)
        await self._stub.DrainInstance(request, timeout=WRITE_DEADLINE)

    async def reinstate(self, instance_id: str) -> None:
        """Take one instance back."""
        request = operator_pb2.ReinstateInstanceRequest(instance_id=instance_id)
        await self._stub.ReinstateInstance(request, timeout=WRITE_DEADLINE)

    async def switch_role(self, instance_id: str, role: Role) -> None:
        """Have one instance change between prefill and decode."""
        told = to_wire(role)
        request = operator_pb2.SwitchInstanceRoleRequest(instance_id=instance_id, role=told)  # type: ignore[arg-type]
        await self._stub.SwitchInstanceRole(request, timeout=WRITE_DEADLINE)

    async def pause(self, name: str) -> None:
        """Pause a service."""
        await self._stub.PauseService(
            operator_pb2.PauseServiceRequest(name=name, reason="test"), timeout=WRITE_DEADLINE
        )

    async def resume(self, name: str) -> None:
        """Resume a service."""
        await self._stub.ResumeService(
            operator_pb2.ResumeServiceRequest(name=name), timeout=WRITE_DEADLINE
        )


Error = grpc.aio.AioRpcError
"""What a refused or unreachable call raises."""
