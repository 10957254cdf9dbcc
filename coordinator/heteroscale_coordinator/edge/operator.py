# ruff: noqa: N802 - the proto names the methods
"""The face for operators: ``OperatorService`` on grpc.aio.

Reads are answered from the committed state at once; wishes go through the loop and are answered
when they are committed. Who may call is checked before, by the interceptor of ``trust``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from typing import NoReturn

import grpc
import grpc.aio
import structlog

from heteroscale.convert import from_wire, unix_seconds
from heteroscale.documents import DocumentError
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1.operator_pb2_grpc import OperatorServiceServicer
from heteroscale.words import Role
from heteroscale_coordinator.clock import mint
from heteroscale_coordinator.core import events
from heteroscale_coordinator.core.model import Instance, Service
from heteroscale_coordinator.edge import node_wire
from heteroscale_coordinator.edge import operator_wire as wire
from heteroscale_coordinator.edge.apply import Parsed, parse_services
from heteroscale_coordinator.edge.explain import explain, explain_past, moment
from heteroscale_coordinator.edge.feed import FeedLaggedError
from heteroscale_coordinator.edge.guard import Context, guarded, shortened, words
from heteroscale_coordinator.edge.ports import Decisions, Loop, Subscription
from heteroscale_coordinator.edge.watch import NODES_EVERY_S, WRITE_TIMEOUT_S, Watch

MAX_WATCHES = 100
_AHEAD_S = 60.0
"""A caller's clock may be ahead by so much."""
_ROUNDED_S = 1e-5
"""The wire tells times to the microsecond: one that was read off a list finds its decision again."""
_AT_ONCE = 64
"""Nodes written between two breaths of the loop."""
_ROLES = {"prefill": Role.PREFILL, "decode": Role.DECODE, "aggregated": Role.AGGREGATED}

log = structlog.get_logger("heteroscale.operator")


class OperatorFace(OperatorServiceServicer):
    """Answers operators. One instance serves them all, on the loop's own event loop."""

    def __init__(
        self, loop: Loop, decisions: Decisions, *, write_timeout: float = WRITE_TIMEOUT_S
    ) -> None:
        self._loop = loop
        self._write_timeout = write_timeout
        self._decisions = decisions
        self._watches = 0

    # ---- services ----------------------------------------------------------------------------

    @guarded
    async def ApplyServices(
        self, request: pb.ApplyServicesRequest, context: Context
    ) -> pb.ApplyServicesResponse:
        """Take all services of the text, or none."""
        file_name = words(request.file_name) or "<input>"
        try:
            # YAML of the largest size takes seconds; the loop must not wait for it.
            parsed = await asyncio.to_thread(parse_services, request.document, file_name)
        except DocumentError as error:
            lines = [str(violation) for violation in error.violations]
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, shortened(lines))
        changes = {one.name: self._change(one) for one in parsed}
        going = [one.name for one in parsed if self._deleting(one.name)]
        if going:
            gone = f"{', '.join(going)} is being deleted: wait until it is gone, nothing was taken"
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, gone)
        if not request.validate_only:
            await self._apply([one for one in parsed if changes[one.name] != "unchanged"], context)
        answer = pb.ApplyServicesResponse()
        for name, change in changes.items():
            answer.results.add(name=name, change=change)
        return answer

    def _change(self, parsed: Parsed) -> str:
        present = self._loop.state.services.get(parsed.name)
        if present is None:
            return "created"
        # A quarantined service gets a new chance by being applied again.
        same = present.spec == parsed.spec and not present.quarantine
        return "unchanged" if same else "configured"

    def _deleting(self, name: str) -> bool:
        service = self._loop.state.services.get(name)
        return service is not None and service.deleting

    async def _apply(self, parsed: list[Parsed], context: Context) -> None:
        """Submit all at once: they are one turn's, and one commit's, unless the store fails."""
        wishes = [
            events.ApplyService(mint("req"), one.name, one.spec, one.document) for one in parsed
        ]
        answers = await asyncio.gather(
            *(self._loop.submit(wish) for wish in wishes), return_exceptions=True
        )
        wrong = {
            one.name: str(answer) if isinstance(answer, BaseException) else answer.error
            for one, answer in zip(parsed, answers, strict=True)
            if isinstance(answer, BaseException) or answer.error
        }
        taken = [one.name for one in parsed if one.name not in wrong]
        log.info("applied", services=taken, refused=wrong)
        if wrong:
            told = [f"{name}: not taken: {why}" for name, why in wrong.items()]
            told += [f"{name}: taken" for name in taken]
            code = grpc.StatusCode.ABORTED if taken else grpc.StatusCode.UNAVAILABLE
            await context.abort(code, shortened(told))

    @guarded
    async def GetService(self, request: pb.GetServiceRequest, context: Context) -> pb.Service:
        """Return one service."""
        return self._message(await self._service(request.name, context))

    @guarded
    async def ListServices(
        self,
        request: pb.ListServicesRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.ListServicesResponse:
        """Return all services by name."""
        services = sorted(self._loop.state.services.values(), key=lambda service: service.name)
        return pb.ListServicesResponse(services=map(self._message, services))

    @guarded
    async def DeleteService(
        self, request: pb.DeleteServiceRequest, context: Context
    ) -> pb.DeleteServiceResponse:
        """Forget a service."""
        await self._wish(events.DeleteService(mint("req"), request.name, request.drain), context)
        return pb.DeleteServiceResponse()

    @guarded
    async def DeleteNode(
        self, request: pb.DeleteNodeRequest, context: Context
    ) -> pb.DeleteNodeResponse:
        """Give up a silent node."""
        await self._wish(events.ForgetAgent(mint("req"), request.agent_id), context)
        return pb.DeleteNodeResponse()

    @guarded
    async def PauseService(self, request: pb.PauseServiceRequest, context: Context) -> pb.Service:
        """Let a service decide but not act."""
        reason = words(request.reason)
        return await self._wish_for_service(
            events.PauseService(mint("req"), request.name, reason), request.name, context
        )

    @guarded
    async def ResumeService(self, request: pb.ResumeServiceRequest, context: Context) -> pb.Service:
        """Let a service act again."""
        return await self._wish_for_service(
            events.ResumeService(mint("req"), request.name), request.name, context
        )

    @guarded
    async def ScaleService(self, request: pb.ScaleServiceRequest, context: Context) -> pb.Service:
        """Set counts by hand."""
        counts = {
            role: int(getattr(request, field))
            for field, role in _ROLES.items()
            if request.HasField(field)  # type: ignore[arg-type]
        }
        if not counts:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "name a count: prefill, decode or aggregated"
            )
        return await self._wish_for_service(
            events.ScaleService(mint("req"), request.name, counts), request.name, context
        )

    # ---- instances, nodes, groups -------------------------------------------------------------

    @guarded
    async def ListNodes(
        self,
        request: pb.ListNodesRequest,
        context: Context,  # noqa: ARG002
    ) -> pb.ListNodesResponse:
        """Return all nodes by agent id, or one."""
        state, now = self._loop.state, self._loop.status().now
        agents = sorted(state.agents.values(), key=lambda agent: agent.agent_id)
        answer = pb.ListNodesResponse()
        for place, agent in enumerate(agents):
            if request.agent_id not in ("", agent.agent_id):
                continue
            here = state.of_agent(agent.agent_id)
            node = node_wire.node_message(agent, here, now, with_devices=request.with_devices)
            answer.nodes.append(node)
            if place % _AT_ONCE == _AT_ONCE - 1:
                # Thousands of nodes are read here; reports go on meanwhile.
                await asyncio.sleep(0)
        return answer

    @guarded
    async def ListInstances(
        self, request: pb.ListInstancesRequest, context: Context
    ) -> pb.ListInstancesResponse:
        """Return the instances of a service, or of all."""
        found = await self._instances(request.service, context)
        return pb.ListInstancesResponse(instances=map(self._instance_message, found))

    @guarded
    async def ListGroups(
        self, request: pb.ListGroupsRequest, context: Context
    ) -> pb.ListGroupsResponse:
        """Return the deployment groups of a service, or of all."""
        found = await self._instances(request.service, context)
        return pb.ListGroupsResponse(groups=wire.group_messages(found, self._loop.state))

    @guarded
    async def DrainInstance(
        self, request: pb.DrainInstanceRequest, context: Context
    ) -> pb.Instance:
        """Empty and stop one instance."""
        reason = words(request.reason)
        wish = events.DrainInstance(mint("req"), request.instance_id, reason)
        return await self._wish_for_instance(wish, context)

    @guarded
    async def ReinstateInstance(
        self, request: pb.ReinstateInstanceRequest, context: Context
    ) -> pb.Instance:
        """Take one instance back into service."""
        wish = events.ReinstateInstance(mint("req"), request.instance_id)
        return await self._wish_for_instance(wish, context)

    @guarded
    async def SwitchInstanceRole(
        self, request: pb.SwitchInstanceRoleRequest, context: Context
    ) -> pb.Instance:
        """Have one running engine change between prefill and decode."""
        role = from_wire(Role, request.role)
        if role not in (Role.PREFILL, Role.DECODE):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "role must be prefill or decode")
        wish = events.SwitchInstanceRole(mint("req"), request.instance_id, role)
        return await self._wish_for_instance(wish, context)

    # ---- decisions ----------------------------------------------------------------------------

    @guarded
    async def ListDecisions(
        self, request: pb.ListDecisionsRequest, context: Context
    ) -> pb.ListDecisionsResponse:
        """Return decisions, newest first; those of a deleted service too."""
        try:
            query = wire.decision_query(request)
            page = await asyncio.to_thread(self._decisions.select, query)
        except ValueError as error:  # PageError is one
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, words(str(error)))
        if not page.decisions and request.service:
            await self._known(request.service, context)
        answer = pb.ListDecisionsResponse(next_page_token=page.next_after)
        full = request.with_arithmetic
        answer.decisions.extend(wire.decision_message(d, arithmetic=full) for d in page.decisions)
        return answer

    async def _known(self, name: str, context: Context) -> None:
        """End the call when neither a service nor the record has this name."""
        if await asyncio.to_thread(self._decisions.oldest, name) is None:
            await self._service(name, context)

    @guarded
    async def ExplainService(
        self, request: pb.ExplainServiceRequest, context: Context
    ) -> pb.ExplainServiceResponse:
        """Say why a service is as it is, and what would change it; or why it was so at a time."""
        if request.HasField("time"):
            return await self._explain_past(request, context)
        service = await self._service(request.name, context)
        last = self._decisions.latest(request.name)
        shown = self._message(service)
        return pb.ExplainServiceResponse(
            service=shown,
            decision=wire.decision_message(last, arithmetic=True) if last else None,
            lines=explain(service, shown, last, self._loop.status().now),
        )

    async def _explain_past(
        self, request: pb.ExplainServiceRequest, context: Context
    ) -> pb.ExplainServiceResponse:
        """Explain the decision of a time; those of a deleted service too."""
        at, now = unix_seconds(request.time), self._loop.status().now
        found = await asyncio.to_thread(self._decisions.at, request.name, at + _ROUNDED_S)
        if found is None or at > now + _AHEAD_S:
            await self._known(request.name, context)
            oldest = await asyncio.to_thread(self._decisions.oldest, request.name)
            told = f"the record goes from {moment(oldest.at)} to now" if oldest else "it is empty"
            why = f"{moment(at)} is outside of the record of {words(request.name)!r}: {told}"
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, f"{why} ({moment(now)})")
        service = self._loop.state.services.get(request.name)
        return pb.ExplainServiceResponse(
            service=self._message(service) if service else pb.Service(name=request.name),
            decision=wire.decision_message(found, arithmetic=True),
            lines=explain_past(found, at, now),
        )

    # ---- watch --------------------------------------------------------------------------------

    async def Watch(self, request: pb.WatchRequest, context: Context) -> None:  # type: ignore[override]
        """Send the present state, then what is committed, until the client leaves or lags."""
        if request.service:
            await self._service(request.service, context)
        if self._watches >= MAX_WATCHES:
            full = f"{MAX_WATCHES} watches are open already"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, full)
        self._watches += 1
        try:
            await self._watch(request.service, context)
        finally:
            self._watches -= 1

    async def _watch(self, service: str, context: Context) -> None:
        try:
            # The feed is let go before the status is sent, for that waits behind what is unread.
            async with aclosing(self._loop.subscribe()) as subscription:
                await self._follow(subscription, service, context)
        except (_TooSlowError, FeedLaggedError):
            slow = "this watch was read too slowly and has been dropped: watch again"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, slow)
        except _StoppedError:
            gone = "the coordinator is stopping"
            await context.abort(grpc.StatusCode.UNAVAILABLE, gone)

    async def _follow(self, subscription: Subscription, service: str, context: Context) -> NoReturn:
        watch = Watch(self._loop.state, service, self._decisions.latest_of_all())
        await self._send(watch.snapshot(self._loop.status().now), context)
        while True:
            try:
                async with asyncio.timeout(NODES_EVERY_S):
                    changes, now = await subscription.__anext__()
            except TimeoutError:
                await self._send(watch.node_changes(self._loop.status().now), context)
            except StopAsyncIteration:
                raise _StoppedError from None
            else:
                await self._send(watch.changes(changes, now), context)

    async def _send(self, messages: Iterable[pb.WatchResponse], context: Context) -> None:
        for message in messages:
            try:
                async with asyncio.timeout(self._write_timeout):
                    await context.write(message)
            except TimeoutError:
                raise _TooSlowError from None

    # ---- shared -------------------------------------------------------------------------------

    def _message(self, service: Service) -> pb.Service:
        last = self._decisions.latest(service.name)
        return wire.service_message(service, self._loop.state, last)

    def _instance_message(self, instance: Instance) -> pb.Instance:
        track = self._loop.state.tracks.get(instance.instance_id)
        return wire.instance_message(instance, track, self._loop.status().now)

    async def _service(self, name: str, context: Context) -> Service:
        service = self._loop.state.services.get(name)
        return service or await _unknown("service", name, context)

    async def _instances(self, service: str, context: Context) -> list[Instance]:
        """Return instances in order of service, role and age; NOT_FOUND when the name is unknown."""
        state = self._loop.state
        found = list(state.of_service(service) if service else state.instances.values())
        if service and not found:
            await self._service(service, context)
        return sorted(found, key=lambda i: (i.service, i.role, i.created_at, i.instance_id))

    async def _wish(self, wish: events.Wish, context: Context) -> None:
        """Submit a wish; return when it is committed, else end the call."""
        try:
            answer = await self._loop.submit(wish)
        except RuntimeError as error:
            log.warning("wish not taken", wish=type(wish).__name__, why=str(error))
            await context.abort(grpc.StatusCode.UNAVAILABLE, shortened(str(error).splitlines()))
        log.info("wish", wish=wish, refused=answer.error)
        if answer.error:
            code = grpc.StatusCode.FAILED_PRECONDITION
            if answer.not_found:
                code = grpc.StatusCode.NOT_FOUND
            await context.abort(code, shortened(answer.error.splitlines()))

    async def _wish_for_service(self, wish: events.Wish, name: str, context: Context) -> pb.Service:
        await self._wish(wish, context)
        return self._message(await self._service(name, context))

    async def _wish_for_instance(
        self,
        wish: events.DrainInstance | events.ReinstateInstance | events.SwitchInstanceRole,
        context: Context,
    ) -> pb.Instance:
        await self._wish(wish, context)
        instance = self._loop.state.instances.get(wish.instance_id)
        return self._instance_message(
            instance or await _unknown("instance", wish.instance_id, context)
        )


class _StoppedError(Exception):
    """The loop has ended its feed."""


class _TooSlowError(Exception):
    """A message of a watch found no room in time."""


async def _unknown(kind: str, name: str, context: Context) -> NoReturn:
    hint = f"`heteroscale get {kind}s` lists them"
    await context.abort(grpc.StatusCode.NOT_FOUND, f"no {kind} {words(name)!r}; {hint}")
