"""Wishes whose turn has not been committed yet, and the people who wait for the answer."""

from __future__ import annotations

import asyncio

from heteroscale_coordinator.core.events import Answer


class LoopUnavailableError(RuntimeError):
    """A wish cannot be taken now: the store cannot commit, or the coordinator is stopping."""


class Answers:
    """One place to wait for each wish, by its request id."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Answer]] = {}

    def expect(self, request_id: str) -> asyncio.Future[Answer]:
        """Return where the answer will be; ``forget`` it in the end.

        Raises:
            LoopUnavailableError: the id is in use.

        """
        if request_id in self._waiting:
            raise LoopUnavailableError(f"request {request_id} is still being answered")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        return future

    def forget(self, request_id: str) -> None:
        """Wait no more."""
        self._waiting.pop(request_id, None)

    def give(self, answer: Answer) -> None:
        """Hand an answer over, if somebody still waits."""
        future = self._waiting.get(answer.request_id)
        if future is not None and not future.done():
            future.set_result(answer)

    def refuse(self, request_id: str, why: str) -> None:
        """Say that there will be no answer."""
        future = self._waiting.get(request_id)
        if future is not None and not future.done():
            future.set_exception(LoopUnavailableError(why))

    def refuse_all(self, why: str) -> None:
        """Say so to everybody."""
        for request_id in tuple(self._waiting):
            self.refuse(request_id, why)
