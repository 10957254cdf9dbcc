"""What every call of an operator shares: finding a thing by its name, carrying a wish to the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NoReturn

import grpc
import structlog

from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1.operator_pb2_grpc import OperatorServiceServicer
from heteroscale_coordinator.core import events, sites
from heteroscale_coordinator.core.model import Instance, Service
from heteroscale_coordinator.edge import operator_wire as wire
from heteroscale_coordinator.edge.guard import Context, shortened, words
from heteroscale_coordinator.edge.ports import Decisions, Loop
from heteroscale_coordinator.edge.prometheus.live.told import in_short
from heteroscale_coordinator.edge.prometheus.live.watcher import Told
from heteroscale_coordinator.edge.watch import WRITE_TIMEOUT_S

log = structlog.get_logger("heteroscale.operator")


class Desk(OperatorServiceServicer):
    """Where calls are answered: what is committed, what was decided, and the loop that takes wishes."""

    def __init__(
        self,
        loop: Loop,
        decisions: Decisions,
        *,
        write_timeout: float = WRITE_TIMEOUT_S,
        watched: Callable[[], Mapping[str, Told]] = dict,
    ) -> None:
        """``watched``: how the services fare whose signals come from a Prometheus."""
        self.loop = loop
        self.watched = watched
        self.decisions = decisions
        self.write_timeout = write_timeout

    def service_message(self, service: Service) -> pb.Service:
        """Say a service, with its last decision."""
        last = self.decisions.latest(service.name)
        message = wire.service_message(service, self.loop.state, last)
        if (told := self.watched().get(service.name)) is not None:
            message.signals_from = in_short(told, self.loop.status().now)
        return message

    def instance_message(self, instance: Instance) -> pb.Instance:
        """Say an instance as it is now."""
        track = self.loop.state.tracks.get(instance.instance_id)
        sick = sites.sickness(self.loop.state, instance)
        return wire.instance_message(instance, track, self.loop.status().now, sick)

    async def service(self, name: str, context: Context) -> Service:
        """Return the service of this name; NOT_FOUND when there is none."""
        service = self.loop.state.services.get(name)
        return service or await _unknown("service", name, context)

    async def instances(self, service: str, context: Context) -> list[Instance]:
        """Return instances in order of service, role and age; NOT_FOUND when the name is unknown."""
        state = self.loop.state
        found = list(state.of_service(service) if service else state.instances.values())
        if service and not found:
            await self.service(service, context)
        return sorted(found, key=lambda i: (i.service, i.role, i.created_at, i.instance_id))

    async def wish(self, wish: events.Wish, context: Context) -> None:
        """Submit a wish; return when it is committed, else end the call."""
        try:
            answer = await self.loop.submit(wish)
        except RuntimeError as error:
            log.warning("wish not taken", wish=type(wish).__name__, why=str(error))
            await context.abort(grpc.StatusCode.UNAVAILABLE, shortened(str(error).splitlines()))
        log.info("wish", wish=wish, refused=answer.error)
        if answer.error:
            code = grpc.StatusCode.FAILED_PRECONDITION
            if answer.not_found:
                code = grpc.StatusCode.NOT_FOUND
            await context.abort(code, shortened(answer.error.splitlines()))

    async def wish_for_service(self, wish: events.Wish, name: str, context: Context) -> pb.Service:
        """Submit a wish; say the service as it is then."""
        await self.wish(wish, context)
        return self.service_message(await self.service(name, context))

    async def wish_for_instance(
        self,
        wish: events.DrainInstance | events.ReinstateInstance | events.SwitchInstanceRole,
        context: Context,
    ) -> pb.Instance:
        """Submit a wish; say the instance as it is then."""
        await self.wish(wish, context)
        instance = self.loop.state.instances.get(wish.instance_id)
        return self.instance_message(
            instance or await _unknown("instance", wish.instance_id, context)
        )

    async def known(self, name: str, context: Context) -> None:
        """End the call when neither a service nor the record has this name."""
        if await asyncio.to_thread(self.decisions.oldest, name) is None:
            await self.service(name, context)


async def _unknown(kind: str, name: str, context: Context) -> NoReturn:
    hint = f"`heteroscale get {kind}s` lists them"
    await context.abort(grpc.StatusCode.NOT_FOUND, f"no {kind} {words(name)!r}; {hint}")
