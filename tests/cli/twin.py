"""An in-memory OperatorService: real documents, real state changes, and faults one can set.

It serves from a thread with a loop of its own, so that tests call the command line as a person does.
"""

# ruff: noqa: N802  (gRPC names the methods)

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio

from heteroscale.documents import DocumentError
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1 import types_pb2 as types
from heteroscale.v1.operator_pb2_grpc import (
    OperatorServiceServicer,
    add_OperatorServiceServicer_to_server,
)
from heteroscale_coordinator.edge.apply import parse_services

_R = TypeVar("_R")
Context = Any


class OperatorTwin(OperatorServiceServicer):
    """Holds services, instances, nodes, groups and decisions; each answer is what they say now."""

    def __init__(self) -> None:
        self.services: dict[str, pb.Service] = {}
        self.instances: dict[str, pb.Instance] = {}
        self.nodes: list[pb.Node] = []
        self.sub_clusters: list[pb.SubCluster] = []
        self.groups: list[pb.Group] = []
        self.clusters: list[pb.Cluster] = []
        self.decisions: list[pb.Decision] = []
        self.largest_page = 1000
        self.prices: dict[str, float] = {}
        self.breakers: dict[str, str] = {}
        self.class_changes: list[pb.ClassChange] = []
        self.goes_round = False
        """Instances come as the same page again and again."""
        self.missing: set[str] = set()
        """Services whose instances are asked for in vain: they are not known."""
        self.explanations: dict[str, pb.ExplainServiceResponse] = {}
        self.requests: list[Any] = []
        """Every request that came, in order."""
        self.stalled = False
        """Answer nothing, so that deadlines pass."""
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        self.story: list[pb.WatchResponse] = []
        """What a watch is told after its first state; then the stream ends, unless kept open."""
        self.keep_open = False
        self.gone_when_drained = False

    async def _enter(self, request: Any, context: Context) -> None:
        self.requests.append(request)
        if self.stalled:
            await asyncio.Event().wait()
        if self.refusal is not None:
            await context.abort(*self.refusal)

    async def _service(self, name: str, context: Context) -> pb.Service:
        if name not in self.services:
            await _missing(context, f"service {name!r} not found: see `heteroscale get services`")
        return self.services[name]

    async def ApplyServices(
        self, request: pb.ApplyServicesRequest, context: Context
    ) -> pb.ApplyServicesResponse:
        await self._enter(request, context)
        try:
            names = [one.name for one in parse_services(request.document, request.file_name)]
        except DocumentError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise
        answer = pb.ApplyServicesResponse()
        for name in names:
            change = "configured" if name in self.services else "created"
            answer.results.add(name=name, change=change)
            if not request.validate_only:
                self.services[name] = pb.Service(name=name, document=request.document)
        return answer

    async def GetService(self, request: pb.GetServiceRequest, context: Context) -> pb.Service:
        await self._enter(request, context)
        return await self._service(request.name, context)

    async def ListServices(
        self, request: pb.ListServicesRequest, context: Context
    ) -> pb.ListServicesResponse:
        await self._enter(request, context)
        return pb.ListServicesResponse(services=self.services.values())

    async def DeleteService(
        self, request: pb.DeleteServiceRequest, context: Context
    ) -> pb.DeleteServiceResponse:
        await self._enter(request, context)
        await self._service(request.name, context)
        del self.services[request.name]
        return pb.DeleteServiceResponse()

    async def DeleteNode(
        self, request: pb.DeleteNodeRequest, context: Context
    ) -> pb.DeleteNodeResponse:
        await self._enter(request, context)
        return pb.DeleteNodeResponse()

    async def CordonNode(self, request: pb.CordonNodeRequest, context: Context) -> pb.Node:
        await self._enter(request, context)
        node = await self._node(request.agent_id, context)
        node.cordoned, node.cordon = not request.gpus, f"cordoned: {request.reason}"
        node.cordoned_gpus.extend(request.gpus)
        return node

    async def UncordonNode(self, request: pb.UncordonNodeRequest, context: Context) -> pb.Node:
        await self._enter(request, context)
        node = await self._node(request.agent_id, context)
        node.cordoned = False
        left = [gpu for gpu in node.cordoned_gpus if request.gpus and gpu not in request.gpus]
        del node.cordoned_gpus[:]
        node.cordoned_gpus.extend(left)
        node.cordon = f"GPU {left[0]} cordoned" if left else ""
        return node

    async def _node(self, agent_id: str, context: Context) -> pb.Node:
        found = next((n for n in self.nodes if n.agent_id == agent_id), None)
        return found or await _missing(context, f"node {agent_id!r} not found")

    async def ListNodes(self, request: pb.ListNodesRequest, context: Context) -> Any:
        await self._enter(request, context)
        mine = [n for n in self.nodes if request.agent_id in ("", n.agent_id)]
        mine = [n for n in mine if n.agent_id > request.page_token]
        page = min(request.page_size or len(mine), self.largest_page)
        answer = pb.ListNodesResponse(nodes=mine[:page], sub_clusters=self.sub_clusters)
        answer.next_page_token = mine[page - 1].agent_id if page < len(mine) else ""
        if request.with_room and not request.page_token:
            answer.gpu_prices.update(self.prices)
            answer.breakers.update(self.breakers if request.room_for else {})
            answer.class_changes.extend(self.class_changes)
        for node in answer.nodes:
            if not request.with_devices:
                del node.gpus[:], node.nics[:]
            if not request.with_room:
                node.ClearField("room")
        return answer

    async def ListInstances(self, request: pb.ListInstancesRequest, context: Context) -> Any:
        await self._enter(request, context)
        every = self.instances.values()
        if request.service in self.missing:
            await _missing(context, f"service {request.service!r} not found")
        mine = [i for i in every if request.service in ("", i.service)]
        begin = 0 if self.goes_round else int(request.page_token or 0)
        end = begin + min(request.page_size or len(mine), self.largest_page)
        token = str(end) if end < len(mine) else ""
        return pb.ListInstancesResponse(instances=mine[begin:end], next_page_token=token)

    async def ListGroups(self, request: pb.ListGroupsRequest, context: Context) -> Any:
        await self._enter(request, context)
        mine = [g for g in self.groups if request.service in ("", g.service)]
        return pb.ListGroupsResponse(groups=mine)

    async def ListClusters(self, request: pb.ListClustersRequest, context: Context) -> Any:
        await self._enter(request, context)
        return pb.ListClustersResponse(clusters=self.clusters)

    async def ListDecisions(self, request: pb.ListDecisionsRequest, context: Context) -> Any:
        await self._enter(request, context)
        mine = [d for d in self.decisions if request.service in ("", d.service)]
        begin = int(request.page_token or 0)
        end = begin + min(request.page_size or 20, self.largest_page)
        token = str(end) if end < len(mine) else ""
        return pb.ListDecisionsResponse(decisions=mine[begin:end], next_page_token=token)

    async def ExplainService(
        self, request: pb.ExplainServiceRequest, context: Context
    ) -> pb.ExplainServiceResponse:
        await self._enter(request, context)
        service = await self._service(request.name, context)
        return self.explanations.get(request.name) or pb.ExplainServiceResponse(service=service)

    async def PauseService(self, request: pb.PauseServiceRequest, context: Context) -> pb.Service:
        await self._enter(request, context)
        service = await self._service(request.name, context)
        service.paused = True
        return service

    async def ResumeService(self, request: pb.ResumeServiceRequest, context: Context) -> pb.Service:
        await self._enter(request, context)
        service = await self._service(request.name, context)
        service.paused = False
        return service

    async def ScaleService(self, request: pb.ScaleServiceRequest, context: Context) -> pb.Service:
        await self._enter(request, context)
        service = await self._service(request.name, context)
        for role in service.roles:
            field_name = types.Role.Name(role.role).removeprefix("ROLE_").lower()
            if request.HasField(field_name):  # type: ignore[arg-type]
                role.wanted = getattr(request, field_name)
        return service

    async def DrainInstance(
        self, request: pb.DrainInstanceRequest, context: Context
    ) -> pb.Instance:
        await self._enter(request, context)
        instance = await self._instance(request.instance_id, context)
        instance.state = types.INSTANCE_STATE_DRAINING
        if self.gone_when_drained:
            del self.instances[instance.instance_id]
        return instance

    async def ReinstateInstance(
        self, request: pb.ReinstateInstanceRequest, context: Context
    ) -> pb.Instance:
        await self._enter(request, context)
        instance = await self._instance(request.instance_id, context)
        if instance.state == types.INSTANCE_STATE_FAILED:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, "it has failed: nothing is left"
            )
        instance.state = types.INSTANCE_STATE_IN_SERVICE
        return instance

    async def SwitchInstanceRole(
        self, request: pb.SwitchInstanceRoleRequest, context: Context
    ) -> pb.Instance:
        await self._enter(request, context)
        return await self._instance(request.instance_id, context)

    async def _instance(self, instance_id: str, context: Context) -> pb.Instance:
        if instance_id not in self.instances:
            await _missing(context, f"instance {instance_id!r} not found")
        return self.instances[instance_id]

    async def Watch(
        self, request: pb.WatchRequest, context: Context
    ) -> AsyncIterator[pb.WatchResponse]:
        await self._enter(request, context)
        for response in (*self._snapshot(request.service), *self.story):
            yield response
        if self.keep_open:
            await asyncio.Event().wait()

    def _snapshot(self, service: str) -> Iterator[pb.WatchResponse]:
        for item in self.services.values():
            if service in ("", item.name):
                yield pb.WatchResponse(service=item)
        for instance in self.instances.values():
            if service in ("", instance.service):
                yield pb.WatchResponse(instance=instance)
        for node in self.nodes:
            yield pb.WatchResponse(node=node)
        yield pb.WatchResponse(synced=True)


async def _missing(context: Context, text: str) -> NoReturn:
    await context.abort(grpc.StatusCode.NOT_FOUND, text)
    raise AssertionError("abort raises")


@dataclass
class Served:
    """A twin that listens; ``address`` is its ``host:port``."""

    twin: OperatorTwin
    credentials: grpc.ServerCredentials | None = None
    port: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the port of before when there was one."""
        self.port = self._on_loop(self._start)

    def stop(self) -> None:
        """Hang up on everybody and stop listening."""
        self._on_loop(self._stop)

    async def _start(self) -> int:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_OperatorServiceServicer_to_server(self.twin, self._server)
        if self.credentials is None:
            port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        else:
            port = self._server.add_secure_port(f"127.0.0.1:{self.port}", self.credentials)
        await self._server.start()
        return port

    async def _stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
        self._server = None

    def _on_loop(self, work: Callable[[], Coroutine[Any, Any, _R]]) -> _R:
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(timeout=20)

    @contextmanager
    def running(self) -> Iterator[Served]:
        """Listen until the block ends."""
        thread = threading.Thread(target=self._loop.run_forever, name="operator-twin")
        thread.start()
        try:
            self.start()
            yield self
            self.stop()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(timeout=20)
            self._loop.close()
