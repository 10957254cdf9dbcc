# ruff: noqa: N802 - the proto names the methods
"""The watch as a call: who is let in, who is dropped and with which words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from typing import NoReturn

import grpc

from heteroscale.v1 import operator_pb2 as pb
from heteroscale_coordinator.edge.feed import FeedLaggedError
from heteroscale_coordinator.edge.guard import Context
from heteroscale_coordinator.edge.operator.desk import Desk
from heteroscale_coordinator.edge.ports import Subscription
from heteroscale_coordinator.edge.watch import NODES_EVERY_S, Watch

MAX_WATCHES = 100


class Watching(Desk):
    """The call that does not end."""

    _watches = 0
    """Those that are open."""

    # The stub knows streams as generators; this one writes to its context.
    async def Watch(self, request: pb.WatchRequest, context: Context) -> None:  # type: ignore[override]
        """Send the present state, then what is committed, until the client leaves or lags."""
        if request.service:
            await self.service(request.service, context)
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
            async with aclosing(self.loop.subscribe()) as subscription:
                await self._follow(subscription, service, context)
        except (_TooSlowError, FeedLaggedError):
            slow = "this watch was read too slowly and has been dropped: watch again"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, slow)
        except _StoppedError:
            gone = "the coordinator is stopping"
            await context.abort(grpc.StatusCode.UNAVAILABLE, gone)

    async def _follow(self, subscription: Subscription, service: str, context: Context) -> NoReturn:
        watch = Watch(self.loop.state, service, self.decisions.latest_of_all())
        await self._send(watch.snapshot(self.loop.status().now), context)
        while True:
            try:
                async with asyncio.timeout(NODES_EVERY_S):
                    changes, now = await subscription.__anext__()
            except TimeoutError:
                await self._send(watch.node_changes(self.loop.status().now), context)
            except StopAsyncIteration:
                raise _StoppedError from None
            else:
                await self._send(watch.changes(changes, now), context)

    async def _send(self, messages: Iterable[pb.WatchResponse], context: Context) -> None:
        for message in messages:
            try:
                async with asyncio.timeout(self.write_timeout):
                    await context.write(message)
            except TimeoutError:
                raise _TooSlowError from None


class _StoppedError(Exception):
    """The loop has ended its feed."""


class _TooSlowError(Exception):
    """A message of a watch found no room in time."""
