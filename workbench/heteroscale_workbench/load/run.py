"""A whole run: sends every request at its time, watches, and says at the end what became of each."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from itertools import count

import aiohttp

from heteroscale_simulator.traffic.traces import Arrival
from heteroscale_workbench.load import client
from heteroscale_workbench.load.client import Failure, FailureKind, RequestFailedError, Target
from heteroscale_workbench.load.report import LoadOptions, LoadReport, Snapshot
from heteroscale_workbench.load.stats import Latency, LogHistogram, Recent
from heteroscale_workbench.seen import SeenReader

__all__ = ["LoadOptions", "LoadReport", "LoadRun", "Snapshot"]

RECENT = 5
"""Seconds that a snapshot's rates and latencies look back."""
SEEN_INTERVAL = 1.0


class _Flight:
    """One request under way."""

    __slots__ = ("arrival", "first_at", "id", "last_at", "tokens")

    def __init__(self, request_id: str, arrival: Arrival) -> None:
        self.id = request_id
        self.arrival = arrival
        self.first_at: float | None = None
        self.last_at = 0.0
        self.tokens = 0


class LoadRun:
    """Sends ``arrivals`` to ``url``.

    ``await run()`` once, or let it run as a task and look at ``snapshot()``; ``stop()`` ends the
    sending early, what is in flight is followed to its end. A ``live`` run goes on after its
    arrivals: what is given to ``offer`` leaves at once, until ``stop()``.
    """

    def __init__(
        self,
        url: str,
        arrivals: Sequence[Arrival] = (),
        options: LoadOptions | None = None,
        *,
        live: bool = False,
    ) -> None:
        self.run_id = secrets.token_hex(4)
        self._options = options or LoadOptions()
        self._target = Target(
            url.rstrip("/"),
            self._options.model,
            self._options.timeout,
            self._options.connect_timeout,
            self._options.exact_events,
        )
        self._arrivals = list(arrivals)
        self._live = live
        self._offered = asyncio.Event()
        self._seen = SeenReader(self._options.seen_dir) if self._options.seen_dir else None
        self._seen_at = float("-inf")
        self._stopping = asyncio.Event()
        self._clock: Callable[[], float] = asyncio.get_running_loop().time
        self._began = self._clock()
        self._ended: float | None = None
        self._sent = self._goodput = self._tokens = 0
        self._passed: list[str] = []
        self._in_flight: set[asyncio.Task[None]] = set()
        self._failures: list[Failure] = []
        self._latest = 0.0
        self._recent = Recent(RECENT)
        self._ttft = LogHistogram()
        self._tbt = LogHistogram()

    @property
    def elapsed(self) -> float:
        """Seconds since the start; stands still after the end."""
        return (self._ended if self._ended is not None else self._clock()) - self._began

    @property
    def passed_ids(self) -> frozenset[str]:
        """Ids of the requests that have passed so far."""
        return frozenset(self._passed)

    def stop(self) -> None:
        """Send nothing more."""
        self._stopping.set()
        self._offered.set()

    def offer(self, prompt_tokens: int, output_tokens: int) -> None:
        """Send one more request now; only for a live run."""
        if not self._live:
            raise ValueError("only a live run takes offers")
        self._arrivals.append(Arrival(self.elapsed, prompt_tokens, output_tokens))
        self._offered.set()

    async def run(self) -> LoadReport:
        """Send everything, wait for every answer, and report.

        When cancelled, what is in flight is dropped.
        """
        self._began = self._clock()
        try:
            async with client.session() as http:
                await self._send_all(http)
                if self._in_flight:
                    await asyncio.wait(self._in_flight)
        finally:
            self._ended = self._clock()
            for task in self._in_flight:
                task.cancel()
        self._look_for_retries()
        return self.report()

    def snapshot(self) -> Snapshot:
        """Return the run as it stands."""
        elapsed = self.elapsed
        if self._clock() - self._seen_at >= SEEN_INTERVAL:
            self._look_for_retries()
        seconds, window = self._recent.last(elapsed)
        ttft, tbt = LogHistogram(), LogHistogram()
        for second in seconds:
            ttft.add(second.ttft)
            tbt.add(second.tbt)
        return Snapshot(
            elapsed=elapsed,
            planned=len(self._arrivals),
            sent=self._sent,
            in_flight=len(self._in_flight),
            passed=len(self._passed),
            failed=self._count_failed(),
            retried=self._retried(),
            tokens=self._tokens,
            requests_per_s=sum(second.sent for second in seconds) / window,
            tokens_per_s=sum(second.tokens for second in seconds) / window,
            ttft=Latency.of(ttft),
            tbt=Latency.of(tbt),
            failures=tuple(self._failures[-20:]),
        )

    def report(self) -> LoadReport:
        """Return what became of everything sent so far."""
        duration = max(self.elapsed, 1e-9)
        local = sum(f.kind is FailureKind.LOCAL for f in self._failures)
        unseen = None
        if self._seen is not None:
            unseen = sum(not self._seen.tries(name) for name in self._passed)
        return LoadReport(
            duration=duration,
            requests=self._sent,
            passed=len(self._passed),
            failed_requests=self._count_failed(),
            retried_requests=self._retried(),
            local_errors=local,
            unseen=unseen,
            tokens=self._tokens,
            goodput_requests=self._goodput,
            goodput_requests_per_s=self._goodput / duration,
            tokens_per_s=self._tokens / duration,
            ttft=Latency.of(self._ttft),
            tbt=Latency.of(self._tbt),
            latest_start=self._latest,
            failures=tuple(self._failures),
        )

    # ---- one request -----------------------------------------------------------------------

    async def _send_all(self, http: aiohttp.ClientSession) -> None:
        for number in count():
            if (arrival := await self._arrival(number)) is None:
                return
            late = self.elapsed - arrival.at
            if late < 0 and await self._stopped_within(-late):
                return
            if self._stopping.is_set():
                return
            self._latest = max(self._latest, self.elapsed - arrival.at)
            self._sent += 1
            self._recent.at(self.elapsed).sent += 1
            flight = _Flight(f"{self.run_id}-{number}", arrival)
            task = asyncio.create_task(self._one(http, flight))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)

    async def _arrival(self, number: int) -> Arrival | None:
        """Return the arrival of this number, waiting for an offer in a live run."""
        while number >= len(self._arrivals):
            if not self._live or self._stopping.is_set():
                return None
            self._offered.clear()
            await self._offered.wait()
        return self._arrivals[number]

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    async def _one(self, http: aiohttp.ClientSession, flight: _Flight) -> None:
        def came(events: int) -> None:
            self._came(flight, events)

        try:
            await client.send(http, self._target, flight.id, flight.arrival, came)
        except RequestFailedError as failed:
            reason = " ".join(str(failed).split())
            self._failures.append(Failure(flight.id, flight.arrival.at, failed.kind, reason))
            return
        self._passed.append(flight.id)
        self._goodput += self._kept_promise(flight)

    def _came(self, flight: _Flight, events: int) -> None:
        """Note ``events`` that came together: their gap is shared among them."""
        now = self.elapsed
        second = self._recent.at(now)
        expected = flight.arrival.output_tokens
        tokens = min(events, expected - flight.tokens)  # usage and [DONE] are no tokens
        if tokens <= 0:
            return
        if flight.first_at is None:
            # From the moment it should have left: a late start is no excuse for the service.
            first = now - flight.arrival.at
            self._ttft.observe(first)
            second.ttft.observe(first)
            flight.first_at = now
            gaps = tokens - 1
            gap = 0.0
        else:
            gaps = tokens
            gap = (now - flight.last_at) / gaps
        if gaps:
            self._tbt.observe(gap, gaps)
            second.tbt.observe(gap, gaps)
        flight.tokens += tokens
        flight.last_at = now
        self._tokens += tokens
        second.tokens += tokens

    def _kept_promise(self, flight: _Flight) -> bool:
        options = self._options
        first = flight.first_at if flight.first_at is not None else flight.last_at
        ttft = first - flight.arrival.at
        tbt = (flight.last_at - first) / max(1, flight.tokens - 1)
        return (options.ttft_slo is None or ttft <= options.ttft_slo) and (
            options.tbt_slo is None or tbt <= options.tbt_slo
        )

    # ---- failures and retries --------------------------------------------------------------

    def _count_failed(self) -> int:
        own = (FailureKind.LOCAL, FailureKind.RETRIED)
        return sum(failure.kind not in own for failure in self._failures)

    def _retried(self) -> int | None:
        if self._seen is None:
            return None
        return sum(failure.kind is FailureKind.RETRIED for failure in self._failures)

    def _look_for_retries(self) -> None:
        if self._seen is None:
            return
        self._seen_at = self._clock()
        for name in self._seen.refresh():
            run, _, number = name.rpartition("-")
            if run == self.run_id and number.isdigit():
                at = self._arrivals[int(number)].at
                reason = f"reached one role {self._seen.tries(name)} times"
                self._failures.append(Failure(name, at, FailureKind.RETRIED, reason))
