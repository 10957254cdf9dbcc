"""The engine itself: queues, KV memory, and the one loop that spends the GPU's time.

Each turn of the loop prefills one batch, if a prompt waits and fits, and makes one decode step for
all that run. A request whose whole KV cannot fit waits; nothing is preempted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from heteroscale_workbench.engine_sim.gpu import SimulatedGpu
from heteroscale_workbench.engine_sim.job import EngineError, Job, Stage
from heteroscale_workbench.engine_sim.kv import EXPIRED, Fetcher, Rooms
from heteroscale_workbench.engine_sim.settings import Flavour, Mode, Settings
from heteroscale_workbench.engine_sim.stats import Stats


class Engine:
    """One simulated engine. ``clock`` gives seconds that never go back."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.stats = Stats(sglang=settings.flavour is Flavour.SGLANG)
        self.gpu = SimulatedGpu(settings.speed, clock)
        self.rooms = Rooms(settings, self._joined, self._handed_over)
        self.queues: dict[Stage, dict[Job, None]] = {stage: {} for stage in Stage}
        self.held = 0
        """KV tokens in use."""
        self._reserved = 0
        self._context = 0  # tokens of context over all that run
        self._profile = settings.gpu_profile
        self._fetcher = Fetcher(settings)
        self._clock = clock
        self._wake = asyncio.Event()
        self._last_step = 0.0

    # ---- what is asked of it ---------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Requests that have not ended."""
        return sum(len(queue) for queue in self.queues.values())

    @property
    def kv_usage(self) -> float:
        """Share of the KV memory in use, 0 to 1."""
        return self.held / self._profile.kv_capacity_tokens

    def become(self, mode: Mode) -> None:
        """Go on in another role; nothing may be in flight."""
        self.settings = replace(self.settings, mode=mode)
        self._wake.set()

    def count(self, stage: Stage) -> int:
        """Return how many requests stand at ``stage``."""
        return len(self.queues[stage])

    def submit(self, job: Job) -> None:
        """Take in a request.

        Raises:
            EngineError: it can never be served here.

        """
        if self._need(job) > self._profile.kv_capacity_tokens:
            self.stats.rejected += 1
            limit = self._profile.kv_capacity_tokens
            raise EngineError(f"{self._need(job)} tokens exceed the KV capacity of {limit}", 400)
        if self.settings.mode is Mode.DECODE:
            if job.bootstrap is None:
                raise EngineError("a decode instance needs bootstrap_host, _port and _room", 400)
            self._put(job, Stage.PREALLOC)
            self._preallocate()
        elif self.settings.mode is Mode.PREFILL and job.bootstrap is not None:
            self._put(job, Stage.BOOTSTRAP)
            self.rooms.enter(job, job.bootstrap)
        else:
            self._put(job, Stage.WAITING)
        self._wake.set()

    def abort(self, job: Job) -> None:
        """Drop a request whose client has gone; nothing happens when it has ended already."""
        self._end(job, "abort", EngineError("aborted by the client", 499))

    def cut(self) -> None:
        """Fail everything in flight, as a dying engine does."""
        for queue in self.queues.values():
            for job in list(queue):
                self._end(job, "abort", EngineError("the engine is shutting down"))

    # ---- the loop --------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve for ever."""
        running = self.queues[Stage.RUNNING]
        while True:
            self._admit()
            batch = self._next_prefill()
            if batch:
                await self._prefill(batch)
            if running and self.settings.mode is not Mode.PREFILL:
                await self._step(running)
            elif not batch:
                self._wake.clear()
                await self._wake.wait()
                self._last_step = self._clock()
                self.gpu.rested()

    def _admit(self) -> None:
        if self.settings.mode is not Mode.DECODE:
            return
        for job in list(self.queues[Stage.WAITING]):
            if self.count(Stage.RUNNING) >= self._profile.max_batch:
                break
            self._start(job)

    def _next_prefill(self) -> list[Job]:
        """Move the next prompts that fit together from waiting to running, in order."""
        batch: list[Job] = []
        if self.settings.mode is Mode.DECODE:
            return batch
        tokens = 0
        for job in list(self.queues[Stage.WAITING]):
            tokens += job.prompt_tokens
            too_many = batch and tokens > self._profile.max_prefill_tokens
            full = self.count(Stage.RUNNING) >= self._profile.max_batch
            if too_many or full or not self._reserve(job):
                break
            self._start(job)
            batch.append(job)
        return batch

    async def _prefill(self, batch: list[Job]) -> None:
        cached = {job: int(job.prompt_tokens * self.settings.cache_hit) for job in batch}
        computed = sum(job.prompt_tokens - cached[job] for job in batch)
        await self.gpu.spend(self._profile.prefill_seconds(computed))
        now = self._clock()
        for job in batch:
            if job.stage is not Stage.RUNNING:
                continue  # its client left meanwhile
            self.stats.cached += cached[job]
            self.stats.computed += job.prompt_tokens - cached[job]
            self.stats.prompt[job.streaming] += job.prompt_tokens
            self._first_token(job, now)
            if self.settings.mode is Mode.PREFILL:
                self._hold(job)
            elif job.generated >= job.max_tokens:
                self._end(job, "length")
            else:
                job.unsent += 1
                job.first.set_result(None)

    async def _step(self, running: dict[Job, None]) -> None:
        """Make one token for every running request."""
        batch = len(running)
        await self.gpu.spend(self._profile.step_seconds(batch, self._context / batch))
        now, last, together = self._clock(), self._last_step, 0
        generated = self.stats.generated
        ended: list[Job] = []
        for job in running:
            if not job.generated:
                self._first_token(job, now)
            else:
                job.generated += 1
                generated[job.streaming] += 1
                if job.last_at == last:
                    together += 1
                else:
                    self.stats.itl.observe(now - job.last_at)
                    self._grow(1)
                job.last_at = now
            if job.generated >= job.max_tokens:
                ended.append(job)
            elif job.sink is not None:
                job.sink(job.frame)
            else:
                job.unsent += 1
                if not job.first.done():
                    job.first.set_result(None)
        if together:
            self.stats.itl.observe(now - last, together)
            self._grow(together)
        self._last_step = now
        for job in ended:
            self._end(job, "length")

    # ---- the life of a request -------------------------------------------------------------

    def _need(self, job: Job) -> int:
        """Return the KV tokens the request will need at most."""
        decodes = self.settings.mode is not Mode.PREFILL
        return job.prompt_tokens + (job.max_tokens if decodes else 0)

    def _reserve(self, job: Job) -> bool:
        need = self._need(job)
        if self._reserved + need > self._profile.kv_capacity_tokens:
            return False
        self._reserved += need
        self.held += job.prompt_tokens
        job.reserved = need
        return True

    def _preallocate(self) -> None:
        for job in list(self.queues[Stage.PREALLOC]):
            if not self._reserve(job):
                break
            self._put(job, Stage.TRANSFER)
            job.fetch = asyncio.create_task(self._fetch(job))

    async def _fetch(self, job: Job) -> None:
        assert job.bootstrap is not None  # noqa: S101 - checked by submit
        try:
            fetched = await self._fetcher.fetch(job.bootstrap)
        except EngineError as error:
            job.fetch = None
            self.stats.transfers_failed += 1
            self._end(job, "error", error)
            return
        job.fetch = None
        self.stats.transferred(fetched.octets, fetched.seconds)
        self.stats.external += job.prompt_tokens
        self.stats.prompt[job.streaming] += job.prompt_tokens
        self._put(job, Stage.WAITING)
        self._wake.set()

    def _joined(self, job: Job) -> None:
        if job.stage is Stage.BOOTSTRAP:
            self._put(job, Stage.WAITING)
            self._wake.set()

    def _hold(self, job: Job) -> None:
        """Keep the KV of a prefilled prompt until its decode has it."""
        if job.bootstrap is None:
            self._end(job, "length")
            return
        self._put(job, Stage.INFLIGHT)
        job.last_at = self._clock()
        self.rooms.offer(job.bootstrap, job.prompt_tokens)

    def _handed_over(self, job: Job, error: EngineError | None) -> None:
        if error is None and job.stage is Stage.INFLIGHT:
            octets = job.prompt_tokens * self.settings.profile.kv_bytes_per_token
            self.stats.transferred(octets, self._clock() - job.last_at)
            self._end(job, "length")
            return
        if job.stage is Stage.BOOTSTRAP:
            self.stats.bootstraps_failed += 1
        else:
            self.stats.transfers_failed += 1
        if error is not None and error.status == EXPIRED:
            self.stats.kv_expired += 1
        self._end(job, "error", error or EngineError("the decode fetched KV too early"))

    def _start(self, job: Job) -> None:
        self._put(job, Stage.RUNNING)
        self._context += job.prompt_tokens
        self.stats.queued.observe(self._clock() - job.arrived)

    def _first_token(self, job: Job, now: float) -> None:
        job.generated = 1
        job.last_at = now
        self._grow(1)
        self.stats.generated[job.streaming] += 1
        self.stats.ttft[job.streaming].observe(now - job.arrived)

    def _grow(self, tokens: int) -> None:
        self.held += tokens
        self._context += tokens

    def _put(self, job: Job, stage: Stage) -> None:
        if job.stage is Stage.RUNNING and stage is not Stage.RUNNING:
            self._context -= job.prompt_tokens + job.generated
        self.queues[job.stage].pop(job, None)
        job.stage = stage
        if stage is not Stage.ENDED:
            self.queues[stage][job] = None

    def _end(self, job: Job, reason: str, error: EngineError | None = None) -> None:
        """End a request once: free what it holds, count it, wake its client."""
        if job.stage is Stage.ENDED:
            return
        self._put(job, Stage.ENDED)
        if job.reserved:
            self._reserved -= job.reserved
            self.held -= job.prompt_tokens + job.generated
        if job.fetch is not None:
            job.fetch.cancel()
        if error is not None and job.bootstrap and self.settings.mode is Mode.PREFILL:
            self.rooms.leave(job.bootstrap, str(error))
        self.stats.finished[reason] += 1
        self.stats.requests[job.streaming] += 1
        if error is None:
            self.stats.e2e[job.streaming].observe(self._clock() - job.arrived)
            job.succeed()
        else:
            job.fail(error)
        self._preallocate()
        self._wake.set()
