# ruff: noqa: ARG002, N802 - the proto names the methods and what they take
"""KEDA's external-scaler API over what is committed. It reads, and changes nothing."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import structlog
from google.protobuf.message import Message

from heteroscale.keda import externalscaler_pb2 as pb
from heteroscale.keda.externalscaler_pb2_grpc import ExternalScalerServicer
from heteroscale_coordinator.edge.guard import Context, shortened, words
from heteroscale_coordinator.edge.keda.polls import Polls
from heteroscale_coordinator.edge.keda.trigger import (
    TARGET,
    RefusedError,
    Trigger,
    asked_for,
    trigger_of,
)
from heteroscale_coordinator.edge.ports import Decisions, Loop
from heteroscale_coordinator.edge.trust import CallerRole, Gatekeeper

log = structlog.get_logger("heteroscale.keda")

MAX_STREAMS = 500
"""Open streams of all callers together; KEDA opens one for each trigger of type external-push."""
LOOK_EVERY_S = 1.0
"""How often a stream looks whether its answer has changed."""
GENERATION = "heteroscale-generation"
"""Trailing metadata of GetMetrics: equal numbers are one decision on all roles."""

_Q = TypeVar("_Q", pb.ScaledObjectRef, pb.GetMetricsRequest)
_A = TypeVar("_A", bound=Message | None)
_Method = Callable[["KedaFace", _Q, Context], Awaitable[_A]]


def _answered(method: _Method[_Q, _A]) -> _Method[_Q, _A]:
    """Let only KEDA in, count the call, and turn refusals and failures into statuses."""

    @functools.wraps(method)
    async def call(face: KedaFace, request: _Q, context: Context) -> _A:
        name = method.__name__
        code, text = grpc.StatusCode.PERMISSION_DENIED, face.turned_away(context)
        if not text:
            try:
                answer = await method(face, request, context)
            except RefusedError as no:
                code, text = no.code, str(no)
            except asyncio.CancelledError:
                face.polls.counted(name, grpc.StatusCode.CANCELLED.name)
                raise
            except Exception as error:
                log.exception("call failed", method=name)
                code, text = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
            else:
                face.polls.counted(name, grpc.StatusCode.OK.name)
                return answer
        face.polls.counted(name, code.name)
        face.polls.refused(_ref(request), text)
        return await context.abort(code, shortened(text.splitlines()))

    return call


class KedaFace(ExternalScalerServicer):
    """See the module. ``look_every``: seconds between two looks of a stream."""

    def __init__(
        self,
        loop: Loop,
        decisions: Decisions,
        gatekeeper: Gatekeeper,
        polls: Polls,
        *,
        look_every: float = LOOK_EVERY_S,
        max_streams: int = MAX_STREAMS,
    ) -> None:
        self.polls = polls
        self._loop, self._decisions, self._gatekeeper = loop, decisions, gatekeeper
        self._look_every, self._max_streams = look_every, max_streams
        self._stopping = asyncio.Event()

    def turned_away(self, context: Context) -> str:
        """Return why a caller may not ask; operators may, too."""
        refuse = functools.partial(self._gatekeeper.refuse, context)
        return refuse(CallerRole.OPERATOR) and refuse(CallerRole.KEDA)

    def stop(self) -> None:
        """End the streams, with a word."""
        self._stopping.set()

    @_answered
    async def IsActive(self, request: pb.ScaledObjectRef, context: Context) -> pb.IsActiveResponse:
        """Say whether any instance is asked for: then KEDA takes its object from zero."""
        return pb.IsActiveResponse(result=self._active(request))

    @_answered
    async def GetMetricSpec(
        self, request: pb.ScaledObjectRef, context: Context
    ) -> pb.GetMetricSpecResponse:
        """Say the metric's name, and a target of one an instance. It never changes."""
        name = self._trigger(request).metric
        one = pb.MetricSpec(metricName=name, targetSize=int(TARGET), targetSizeFloat=TARGET)
        return pb.GetMetricSpecResponse(metricSpecs=[one])

    @_answered
    async def GetMetrics(
        self, request: pb.GetMetricsRequest, context: Context
    ) -> pb.GetMetricsResponse:
        """Say how many instances are asked for now."""
        trigger = self._trigger(request.scaledObjectRef)
        if request.metricName not in ("", trigger.metric):
            raise RefusedError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"metricName {words(request.metricName)!r} is not {trigger.metric!r}, which "
                "GetMetricSpec says for this metadata",
            )
        asked = asked_for(trigger, self._loop, self._decisions)
        self.polls.answered(request.scaledObjectRef, trigger)
        context.set_trailing_metadata(((GENERATION, str(asked.generation)),))
        one = pb.MetricValue(
            metricName=trigger.metric,
            metricValue=asked.count,
            metricValueFloat=float(asked.count),
        )
        return pb.GetMetricsResponse(metricValues=[one])

    # The stubs know streams as generators; these write to their context.
    @_answered
    async def StreamIsActive(  # type: ignore[override]  # writes to its context, yields nothing
        self, request: pb.ScaledObjectRef, context: Context
    ) -> None:
        """Say it at once, and again when it changes; KEDA comes again when the stream ends."""
        if self.polls.streams >= self._max_streams:
            full = f"{self._max_streams} streams are open already: use type `external`, which polls"
            raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, full)
        self.polls.streams += 1
        try:
            await self._tell(request, context)
        finally:
            self.polls.streams -= 1

    async def _tell(self, request: pb.ScaledObjectRef, context: Context) -> None:
        told: bool | None = None
        while not self._stopping.is_set():
            active = self._active(request)
            if active is not told:
                await context.write(pb.IsActiveResponse(result=active))
                told = active
            try:
                async with asyncio.timeout(self._look_every):
                    await self._stopping.wait()
            except TimeoutError:
                pass
        raise RefusedError(grpc.StatusCode.UNAVAILABLE, "the coordinator is stopping")

    async def StreamMetricSpec(  # type: ignore[override]  # likewise
        self, request: pb.ScaledObjectRef, context: Context
    ) -> None:
        """Not served: the target never changes, and KEDA asks GetMetricSpec instead."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "the target is always 1")

    def _trigger(self, ref: pb.ScaledObjectRef) -> Trigger:
        return trigger_of(ref.scalerMetadata, self._loop)

    def _active(self, ref: pb.ScaledObjectRef) -> bool:
        return asked_for(self._trigger(ref), self._loop, self._decisions).count > 0


def _ref(request: pb.ScaledObjectRef | pb.GetMetricsRequest) -> pb.ScaledObjectRef:
    return request if isinstance(request, pb.ScaledObjectRef) else request.scaledObjectRef
