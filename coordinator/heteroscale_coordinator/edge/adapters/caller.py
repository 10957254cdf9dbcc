"""Calls to one cluster: each with a deadline, tried again with backoff, kept off while nobody answers.

The circuit breaker has one probe, the look at the whole: orders wait while it is open, until their own
deadline, and go on with the first look that succeeds.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from heteroscale_coordinator.edge.adapters.pace import Pace
from heteroscale_scheduler_adapters.port import AdapterError, ExpiredError, UnavailableError

log = structlog.get_logger("heteroscale.adapters")

_R = TypeVar("_R")


class GaveUpError(Exception):
    """What was asked is not wanted any more, or its deadline passed without an answer."""


class Caller:
    """See the module."""

    def __init__(
        self,
        cluster: str,
        pace: Pace,
        now: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        """How many there were, by call and what became of them."""
        self._cluster, self._pace, self._now, self._jitter = cluster, pace, now, jitter
        self._failures = 0
        self._fine = asyncio.Event()
        self._room = asyncio.Semaphore(pace.at_once)

    @property
    def fine(self) -> bool:
        """Whether orders go out: false while the breaker is open, and until the first look."""
        return self._fine.is_set()

    async def once(self, call: str, work: Callable[[], Awaitable[_R]]) -> _R:
        """Make one call. Raises UnavailableError also when nothing comes in time, or nonsense."""
        try:
            async with asyncio.timeout(self._pace.answer):
                result = await work()
        except TimeoutError:
            self._failed(call, "late")
            text = f"{call}: no answer within {self._pace.answer:g} s"
            raise UnavailableError(text) from None
        except (UnavailableError, ExpiredError):
            self._failed(call, "unavailable")
            raise
        except AdapterError:
            self._counted(call, "refused")
            raise
        except Exception as error:
            # A fault of the adapter's: whether it was carried out is not known.
            log.exception("adapter raised", cluster=self._cluster, call=call)
            self._failed(call, "fault")
            raise UnavailableError(f"{call}: the adapter raised {error!r}") from error
        self._counted(call, "done")
        return result

    def well(self) -> None:
        """Let orders out: a look has succeeded."""
        self._failures = 0
        self._fine.set()

    def unwell(self) -> None:
        """Keep orders back until the next look succeeds."""
        self._fine.clear()

    async def insist(
        self,
        call: str,
        work: Callable[[], Awaitable[_R]],
        until: float,
        wanted: Callable[[], bool] = lambda: True,
    ) -> _R:
        """Make a call again and again, in the same words, until it is answered.

        Raises:
            RefusedError: the cluster said no.
            GaveUpError: ``until`` passed, or it is not ``wanted`` any more.

        """

        async def attempt() -> _R:
            await self.clearance(until)
            async with self._room:
                if not wanted() or self._now() >= until:
                    raise GaveUpError
                return await self.once(call, work)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(UnavailableError),
            wait=lambda state: min(self._wait(state), max(0.0, until - self._now())),
            stop=lambda _: self._now() >= until or not wanted(),
            sleep=asyncio.sleep,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except UnavailableError as error:
            raise GaveUpError(str(error)) from error

    def backoff(self, tries: int, error: BaseException | None = None) -> float:
        """Return how long to wait after so many tries in a row that failed, the last by ``error``."""
        doubled = self._pace.first_retry * 2.0 ** min(tries - 1, 16)
        waits = min(doubled, self._pace.last_retry) * (0.5 + 0.5 * self._jitter())
        return max(waits, error.retry_after if isinstance(error, UnavailableError) else 0.0)

    def _wait(self, state: RetryCallState) -> float:
        return self.backoff(
            state.attempt_number, state.outcome.exception() if state.outcome else None
        )

    async def clearance(self, until: float) -> None:
        """Wait until orders may go out. Raises GaveUpError: they may not by then."""
        try:
            async with asyncio.timeout(max(0.0, until - self._now())):
                await self._fine.wait()
        except TimeoutError:
            raise GaveUpError("the cluster does not answer") from None

    def _failed(self, call: str, how: str) -> None:
        self.calls[call, how] += 1
        self._failures += 1
        if self._failures >= self._pace.failures:
            self._fine.clear()

    def _counted(self, call: str, how: str) -> None:
        self.calls[call, how] += 1
        self._failures = 0
