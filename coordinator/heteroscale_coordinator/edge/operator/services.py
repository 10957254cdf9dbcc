# ruff: noqa: N802 - the proto names the methods
"""Services: told, listed, paused, scaled by hand, forgotten."""

from __future__ import annotations

import asyncio

import grpc
import structlog

from heteroscale.documents import DocumentError
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import Role
from heteroscale_coordinator.clock import mint
from heteroscale_coordinator.core import events
from heteroscale_coordinator.edge.apply import Parsed, parse_services
from heteroscale_coordinator.edge.guard import Context, guarded, shortened, words
from heteroscale_coordinator.edge.operator.desk import Desk

_ROLES = {role.value: role for role in Role}

log = structlog.get_logger("heteroscale.operator")


class Services(Desk):
    """Calls about services."""

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
        present = self.loop.state.services.get(parsed.name)
        if present is None:
            return "created"
        # A quarantined service gets a new chance by being applied again.
        same = present.spec == parsed.spec and not present.quarantine
        return "unchanged" if same else "configured"

    def _deleting(self, name: str) -> bool:
        service = self.loop.state.services.get(name)
        return service is not None and service.deleting

    async def _apply(self, parsed: list[Parsed], context: Context) -> None:
        """Submit all at once: they are one turn's, and one commit's, unless the store fails."""
        wishes = [
            events.ApplyService(mint("req"), one.name, one.spec, one.document) for one in parsed
        ]
        answers = await asyncio.gather(
            *(self.loop.submit(wish) for wish in wishes), return_exceptions=True
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
        return self.service_message(await self.service(request.name, context))

    @guarded
    async def ListServices(
        self,
        request: pb.ListServicesRequest,  # noqa: ARG002 - gRPC passes it
        context: Context,  # noqa: ARG002 - gRPC passes it
    ) -> pb.ListServicesResponse:
        """Return all services by name."""
        services = sorted(self.loop.state.services.values(), key=lambda service: service.name)
        return pb.ListServicesResponse(services=map(self.service_message, services))

    @guarded
    async def DeleteService(
        self, request: pb.DeleteServiceRequest, context: Context
    ) -> pb.DeleteServiceResponse:
        """Forget a service."""
        await self.wish(events.DeleteService(mint("req"), request.name, request.drain), context)
        return pb.DeleteServiceResponse()

    @guarded
    async def PauseService(self, request: pb.PauseServiceRequest, context: Context) -> pb.Service:
        """Let a service decide but not act."""
        reason = words(request.reason)
        return await self.wish_for_service(
            events.PauseService(mint("req"), request.name, reason), request.name, context
        )

    @guarded
    async def ResumeService(self, request: pb.ResumeServiceRequest, context: Context) -> pb.Service:
        """Let a service act again."""
        return await self.wish_for_service(
            events.ResumeService(mint("req"), request.name), request.name, context
        )

    @guarded
    async def ScaleService(self, request: pb.ScaleServiceRequest, context: Context) -> pb.Service:
        """Set counts by hand."""
        counts = {
            role: int(getattr(request, field))
            for field, role in _ROLES.items()
            if request.HasField(field)  # type: ignore[arg-type] # names of its own fields
        }
        if not counts:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "name a count: " + ", ".join(_ROLES)
            )
        return await self.wish_for_service(
            events.ScaleService(mint("req"), request.name, counts), request.name, context
        )
