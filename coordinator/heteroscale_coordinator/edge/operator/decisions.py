# ruff: noqa: N802 - the proto names the methods
"""Decisions: the record of them, and why a service is as it is or was."""

from __future__ import annotations

import asyncio

import grpc

from heteroscale.convert import unix_seconds
from heteroscale.v1 import operator_pb2 as pb
from heteroscale_coordinator.edge import operator_wire as wire
from heteroscale_coordinator.edge.explain import explain, explain_past, moment
from heteroscale_coordinator.edge.guard import Context, guarded, words
from heteroscale_coordinator.edge.operator.desk import Desk
from heteroscale_coordinator.edge.prometheus.live.told import lines

_AHEAD_S = 60.0
"""A caller's clock may be ahead by so much."""
_ROUNDED_S = 1e-5
"""The wire tells times to the microsecond: one that was read off a list finds its decision again."""


class DecisionRecord(Desk):
    """Calls about decisions."""

    @guarded
    async def ListDecisions(
        self, request: pb.ListDecisionsRequest, context: Context
    ) -> pb.ListDecisionsResponse:
        """Return decisions, newest first; those of a deleted service too."""
        try:
            query = wire.decision_query(request)
            page = await asyncio.to_thread(self.decisions.select, query)
        except ValueError as error:  # PageError is one
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, words(str(error)))
        if not page.decisions and request.service:
            await self.known(request.service, context)
        answer = pb.ListDecisionsResponse(next_page_token=page.next_after)
        full = request.with_arithmetic
        answer.decisions.extend(wire.decision_message(d, arithmetic=full) for d in page.decisions)
        return answer

    @guarded
    async def ExplainService(
        self, request: pb.ExplainServiceRequest, context: Context
    ) -> pb.ExplainServiceResponse:
        """Say why a service is as it is, and what would change it; or why it was so at a time."""
        if request.HasField("time"):
            return await self._explain_past(request, context)
        service = await self.service(request.name, context)
        last = self.decisions.latest(request.name)
        shown, now = self.service_message(service), self.loop.status().now
        told = self.watched().get(service.name)
        source = lines(told, now, queries=request.with_queries) if told is not None else ()
        return pb.ExplainServiceResponse(
            service=shown,
            decision=wire.decision_message(last, arithmetic=True) if last else None,
            lines=explain(service, shown, last, now, source),
        )

    async def _explain_past(
        self, request: pb.ExplainServiceRequest, context: Context
    ) -> pb.ExplainServiceResponse:
        """Explain the decision of a time; those of a deleted service too."""
        at, now = unix_seconds(request.time), self.loop.status().now
        found = await asyncio.to_thread(self.decisions.at, request.name, at + _ROUNDED_S)
        if found is None or at > now + _AHEAD_S:
            await self.known(request.name, context)
            oldest = await asyncio.to_thread(self.decisions.oldest, request.name)
            told = f"the record goes from {moment(oldest.at)} to now" if oldest else "it is empty"
            why = f"{moment(at)} is outside of the record of {words(request.name)!r}: {told}"
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, f"{why} ({moment(now)})")
        service = self.loop.state.services.get(request.name)
        return pb.ExplainServiceResponse(
            service=self.service_message(service) if service else pb.Service(name=request.name),
            decision=wire.decision_message(found, arithmetic=True),
            lines=explain_past(found, at, now),
        )
