"""One engine's metrics endpoint, scraped again and again, at most one scrape at a time."""

from __future__ import annotations

import asyncio

import structlog

from heteroscale.words import ScrapeQuality
from heteroscale_agent.model import EngineReport, EngineScrape, EngineState
from heteroscale_agent.ports import Clock, ScrapeTarget
from heteroscale_agent.probes.engines import MAPPINGS
from heteroscale_agent.probes.engines.base import EngineMapping, read
from heteroscale_agent.probes.engines.text import MetricsTextError
from heteroscale_agent.probes.http import ContentError, FetchError, get_text
from heteroscale_agent.sample import EngineSampler

log = structlog.get_logger(__name__)


class UnknownEngineError(Exception):
    """There is no mapping file for the engine."""


class EngineWatch:
    """Keeps the newest state of one engine, and its counters across restarts of it.

    A state's `scraped_at` is when the scrape was *begun*: all it says was true then or later.
    """

    def __init__(self, target: ScrapeTarget, clock: Clock, timeout: float) -> None:
        """Watch `target`; each scrape may take `timeout` seconds as a whole."""
        self.target = target
        self._clock, self._timeout = clock, timeout
        self._sampler = EngineSampler()
        self._task: asyncio.Task[None] | None = None
        self._good: EngineScrape | None = None
        self.took = 0.0
        """Seconds of the last scrape, failed or not."""
        self.state = EngineState(
            target.instance_id, ScrapeQuality.MISSING, clock(), EngineScrape(), "not scraped yet"
        )

    @property
    def busy(self) -> bool:
        """Whether a scrape is under way."""
        return self._task is not None and not self._task.done()

    def start(self) -> asyncio.Task[None]:
        """Begin a scrape, unless one is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._scrape(), name=f"scrape {self.target.url}")
        return self._task

    def cancel(self) -> None:
        """Give up what is under way."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Give up what is under way and wait until it is gone."""
        self.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    def report(self, now: float, oldest: float) -> EngineReport:
        """Return the engine's part of a report; values from before `oldest` are stale."""
        state, quality = self.state, self.state.quality
        if quality is ScrapeQuality.OK and state.scraped_at < oldest:
            quality = ScrapeQuality.STALE
        return self._sampler.report(state.instance_id, quality, max(0.0, now - state.scraped_at))

    async def _scrape(self) -> None:
        began = self._clock()
        target = self.target
        try:
            text = await self._text(target.url)
            scrape = read(_mapping(target.engine), text, target.model_name)
        except (ContentError, MetricsTextError, UnknownEngineError) as error:
            self._failed(ScrapeQuality.MISSING, _explained(error, target.engine))
        except FetchError as error:
            known = self._good is not None
            quality = ScrapeQuality.STALE if known else ScrapeQuality.MISSING
            self._failed(quality, str(error), unreachable=True)
        except Exception as error:  # noqa: BLE001 - no answer, however odd, may blind the agent
            self._failed(ScrapeQuality.MISSING, repr(error))
        else:
            self._good = scrape
            self._sampler.fold(scrape, began)
            self.state = EngineState(target.instance_id, ScrapeQuality.OK, began, scrape)
        self.took = self._clock() - began

    async def _text(self, url: str) -> str:
        return await get_text(url, deadline=self._timeout)

    def _failed(self, quality: ScrapeQuality, message: str, *, unreachable: bool = False) -> None:
        before = self.state
        # An engine that is still starting does not answer; one that answers wrongly needs a person.
        answered = quality is ScrapeQuality.MISSING and message != before.message
        if before.quality is ScrapeQuality.OK or (answered and not unreachable):
            log.warning("scrape failed", instance_id=before.instance_id, error=message)
        values = self._good if quality is ScrapeQuality.STALE else None
        self.state = EngineState(
            before.instance_id, quality, before.scraped_at, values or EngineScrape(), message
        )


def _mapping(engine: str) -> EngineMapping:
    mapping = MAPPINGS.get(engine)
    if mapping is None:
        raise UnknownEngineError(f"no mapping for engine {engine!r}")
    return mapping


def _explained(error: Exception, engine: str) -> str:
    """Return the error, with what the engine means by it where its mapping says."""
    mapping, status = MAPPINGS.get(engine), getattr(error, "status", None)
    meaning = mapping.refusals.get(status) if mapping and status else None
    return f"{error}: {meaning}" if meaning else str(error)
