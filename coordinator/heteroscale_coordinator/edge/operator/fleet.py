# ruff: noqa: N802 - the proto names the methods
"""The fleet: nodes, instances and deployment groups, and what is done to one of them by hand."""

from __future__ import annotations

import asyncio

import grpc

from heteroscale.convert import from_wire
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import Role
from heteroscale_coordinator.clock import mint
from heteroscale_coordinator.core import events
from heteroscale_coordinator.core.state import Agent
from heteroscale_coordinator.edge import node_wire, pages
from heteroscale_coordinator.edge import operator_wire as wire
from heteroscale_coordinator.edge.cluster_wire import cluster_messages
from heteroscale_coordinator.edge.guard import Context, guarded, words
from heteroscale_coordinator.edge.operator.desk import Desk
from heteroscale_coordinator.edge.room import Room

_AT_ONCE = 64
"""Nodes, or instances, written between two breaths of the loop."""


class Fleet(Desk):
    """Calls about nodes, instances and groups."""

    @guarded
    async def ListNodes(
        self,
        request: pb.ListNodesRequest,
        context: Context,
    ) -> pb.ListNodesResponse:
        """Return all nodes by agent id, or one, or a page of them; prices with the first page."""
        state, now = self.loop.state, self.loop.status().now
        if request.room_for:
            await self.service(request.room_for, context)
        wanted = sorted(
            agent_id
            for agent_id in state.agents
            if request.agent_id in ("", agent_id) and agent_id > request.page_token
        )
        answer = pb.ListNodesResponse()
        if request.page_size and len(wanted) > request.page_size:
            # A page ends with a name, not with a number: nodes come and go meanwhile.
            wanted = wanted[: request.page_size]
            answer.next_page_token = wanted[-1]
        room = Room(state, now, request.room_for) if request.with_room else None
        if room is not None and not request.page_token:
            answer.gpu_prices.update(room.prices())
            answer.gpu_vendors.update(room.vendors())
            answer.sub_clusters.extend(room.sub_clusters())
            answer.breakers.update(room.breakers())
            answer.class_changes.extend(map(wire.class_change_message, state.seen.changes))
        for place, agent_id in enumerate(wanted):
            if (agent := self.loop.state.agents.get(agent_id)) is None:
                continue
            message = self._node(agent, now, with_devices=request.with_devices)
            if room is not None:
                message.room.CopyFrom(room.of(agent))
            answer.nodes.append(message)
            if place % _AT_ONCE == _AT_ONCE - 1:
                # Thousands of nodes are read here; reports go on meanwhile.
                await asyncio.sleep(0)
        return answer

    @guarded
    async def DeleteNode(
        self, request: pb.DeleteNodeRequest, context: Context
    ) -> pb.DeleteNodeResponse:
        """Give up a silent node."""
        await self.wish(events.ForgetAgent(mint("req"), request.agent_id), context)
        return pb.DeleteNodeResponse()

    @guarded
    async def CordonNode(self, request: pb.CordonNodeRequest, context: Context) -> pb.Node:
        """Close a node, or some of its GPUs, to new instances."""
        gpus, reason = tuple(request.gpus), words(request.reason)
        wish = events.CordonNode(mint("req"), request.agent_id, gpus, reason)
        return await self._wish_for_node(wish, context)

    @guarded
    async def UncordonNode(self, request: pb.UncordonNodeRequest, context: Context) -> pb.Node:
        """Open a node, or some of its GPUs, again."""
        wish = events.UncordonNode(mint("req"), request.agent_id, tuple(request.gpus))
        return await self._wish_for_node(wish, context)

    async def _wish_for_node(
        self, wish: events.CordonNode | events.UncordonNode, context: Context
    ) -> pb.Node:
        await self.wish(wish, context)
        agent = self.loop.state.agents.get(wish.agent_id) or Agent(wish.agent_id)
        return self._node(agent, self.loop.status().now)

    def _node(self, agent: Agent, now: float, *, with_devices: bool = False) -> pb.Node:
        state = self.loop.state
        here, closed = state.of_agent(agent.agent_id), state.closed(agent.agent_id)
        return node_wire.node_message(agent, here, now, closed, with_devices=with_devices)

    @guarded
    async def ListInstances(
        self, request: pb.ListInstancesRequest, context: Context
    ) -> pb.ListInstancesResponse:
        """Return the instances of a service, or of all, or a page of them."""
        try:
            after = pages.place_in(request.page_token, request.service)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, words(str(error)))
        state, size = self.loop.state, min(request.page_size, pages.MOST)
        if request.service and not any(True for _ in state.of_service(request.service)):
            await self.service(request.service, context)
        # Without a size it is as it was before there were pages: all that follow.
        found, token = pages.page(state, request.service, size or len(state.instances), after)
        answer = pb.ListInstancesResponse(next_page_token=token)
        for place, instance in enumerate(found):
            answer.instances.append(self.instance_message(instance))
            if place % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        return answer

    @guarded
    async def ListGroups(
        self, request: pb.ListGroupsRequest, context: Context
    ) -> pb.ListGroupsResponse:
        """Return the deployment groups of a service, or of all."""
        found = await self.instances(request.service, context)
        return pb.ListGroupsResponse(groups=wire.group_messages(found, self.loop.state))

    @guarded
    async def ListClusters(
        self,
        request: pb.ListClustersRequest,  # noqa: ARG002 - as the proto has it
        context: Context,  # noqa: ARG002
    ) -> pb.ListClustersResponse:
        """Return the sub-clusters, in order of their names."""
        return pb.ListClustersResponse(clusters=cluster_messages(self.loop.state))

    @guarded
    async def DrainInstance(
        self, request: pb.DrainInstanceRequest, context: Context
    ) -> pb.Instance:
        """Empty and stop one instance."""
        reason = words(request.reason)
        wish = events.DrainInstance(mint("req"), request.instance_id, reason)
        return await self.wish_for_instance(wish, context)

    @guarded
    async def ReinstateInstance(
        self, request: pb.ReinstateInstanceRequest, context: Context
    ) -> pb.Instance:
        """Take one instance back into service."""
        wish = events.ReinstateInstance(mint("req"), request.instance_id)
        return await self.wish_for_instance(wish, context)

    @guarded
    async def SwitchInstanceRole(
        self, request: pb.SwitchInstanceRoleRequest, context: Context
    ) -> pb.Instance:
        """Have one running engine change between prefill and decode."""
        role = from_wire(Role, request.role)
        if role not in (Role.PREFILL, Role.DECODE):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "role must be prefill or decode")
        wish = events.SwitchInstanceRole(mint("req"), request.instance_id, role)
        return await self.wish_for_instance(wish, context)
