"""Who watches the coordinator: each subscriber gets every committed change, or is told it fell behind."""

from __future__ import annotations

import asyncio
from typing import Self

from heteroscale_coordinator.core.events import Changes

DEPTH = 1_000


class FeedLaggedError(RuntimeError):
    """The subscriber was too slow, and changes were dropped: read the whole state again."""


class Subscription:
    """An async iterator of (changes, now); it sees everything committed since it was made."""

    def __init__(self, feed: Feed, depth: int) -> None:
        self._feed = feed
        self._queue: asyncio.Queue[tuple[Changes, float] | None] = asyncio.Queue(depth + 1)
        self._depth = depth
        self._lagged = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Changes, float]:
        item = await self._queue.get()
        if item is not None:
            return item
        if self._lagged:
            raise FeedLaggedError("too slow: changes were dropped")
        raise StopAsyncIteration

    def offer(self, item: tuple[Changes, float]) -> None:
        """Give one item, or end the subscription when its queue is full."""
        if self._queue.qsize() >= self._depth:
            self._lagged = True
            self.close()
        else:
            self._queue.put_nowait(item)

    def close(self) -> None:
        """End it: what is queued is still given, then the iterator stops."""
        if self._feed.drop(self):
            self._queue.put_nowait(None)

    async def aclose(self) -> None:
        """End it, as ``contextlib.aclosing`` does."""
        self.close()


class Feed:
    """The subscriptions of one loop."""

    def __init__(self, depth: int = DEPTH) -> None:
        self._depth = depth
        self._subscriptions: dict[Subscription, None] = {}

    def subscribe(self) -> Subscription:
        """Return a subscription to what is published from now on."""
        subscription = Subscription(self, self._depth)
        self._subscriptions[subscription] = None
        return subscription

    def drop(self, subscription: Subscription) -> bool:
        """Forget a subscription; False when it was not known any more."""
        known = subscription in self._subscriptions
        self._subscriptions.pop(subscription, None)
        return known

    def publish(self, changes: Changes, now: float) -> None:
        """Give it to all; never waits."""
        for subscription in list(self._subscriptions):
            subscription.offer((changes, now))

    def close(self) -> None:
        """End all subscriptions."""
        for subscription in list(self._subscriptions):
            subscription.close()
