"""One metrics page, scraped again and again, at most one scrape at a time: an engine's, or a router's."""

from __future__ import annotations

import asyncio

import structlog

from heteroscale.words import ScrapeQuality
from heteroscale_agent.config import Router
from heteroscale_agent.model import (
    EngineReport,
    EngineScrape,
    EngineState,
    RouterReport,
)
from heteroscale_agent.ports import Clock, ScrapeTarget
from heteroscale_agent.probes.engines import MAPPINGS
from heteroscale_agent.probes.engines.base import reader
from heteroscale_agent.probes.engines.text import MetricsTextError
from heteroscale_agent.probes.http import ContentError, FetchError, TextPage
from heteroscale_agent.probes.page import PageReader
from heteroscale_agent.probes.routers import ROUTERS
from heteroscale_agent.probes.routers.base import reader as router_reader
from heteroscale_agent.sample import EngineSampler, RouterSampler

log = structlog.get_logger(__name__)


class UnknownEngineError(Exception):
    """There is no mapping file for the engine."""


class Watch:
    """Scrapes one page and says how far what it last said can be relied on.

    ``scraped_at`` is when the last good scrape was *begun*: all it says was true then or later.
    """

    def __init__(self, name: str, clock: Clock, timeout: float) -> None:
        """Watch a page; each scrape may take ``timeout`` seconds as a whole. ``name`` is for logs."""
        self._name, self._clock, self._timeout = name, clock, timeout
        self._task: asyncio.Task[None] | None = None
        self._page: TextPage | None = None
        self._known = False
        self.took = 0.0
        """Seconds of the last scrape, failed or not."""
        self.quality, self.message = ScrapeQuality.MISSING, "not scraped yet"
        self.scraped_at = clock()

    @property
    def url(self) -> str:
        """Of the page."""
        raise NotImplementedError

    def take(self, text: str, began: float) -> None:
        """Take in the text of a scrape that was begun at ``began``.

        Raises:
            MetricsTextError: it is no metrics text of what is watched here.
            UnknownEngineError: nobody knows how to read it.

        """
        raise NotImplementedError

    def meaning(self, status: int) -> str:
        """Return what an HTTP status means here and what to do about it; empty when unknown."""
        raise NotImplementedError

    @property
    def busy(self) -> bool:
        """Whether a scrape is under way."""
        return self._task is not None and not self._task.done()

    def start(self) -> asyncio.Task[None]:
        """Begin a scrape, unless one is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._scrape(), name=f"scrape {self.url}")
        return self._task

    def cancel(self) -> None:
        """Give up what is under way, and the connection."""
        if self._task is not None:
            self._task.cancel()
        if self._page is not None:
            self._page.close()

    async def close(self) -> None:
        """Give up what is under way and wait until it is gone."""
        self.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    def seen(self, now: float, oldest: float) -> tuple[ScrapeQuality, float]:
        """Return the quality and the age of what is known; values from before ``oldest`` are stale."""
        stale = self.quality is ScrapeQuality.OK and self.scraped_at < oldest
        age = max(0.0, now - self.scraped_at)
        return (ScrapeQuality.STALE if stale else self.quality), age

    async def _scrape(self) -> None:
        began = self._clock()
        try:
            self.take(await self._text(self.url), began)
        except (ContentError, MetricsTextError, UnknownEngineError) as error:
            self._failed(ScrapeQuality.MISSING, self._explained(error))
        except FetchError as error:
            quality = ScrapeQuality.STALE if self._known else ScrapeQuality.MISSING
            self._failed(quality, str(error), unreachable=True)
        except Exception as error:  # noqa: BLE001 - no answer, however odd, may blind the agent
            self._failed(ScrapeQuality.MISSING, repr(error))
        else:
            self._known = True
            self.quality, self.message, self.scraped_at = ScrapeQuality.OK, "", began
        self.took = self._clock() - began

    async def _text(self, url: str) -> str:
        if self._page is None or self._page.url != url:
            if self._page is not None:
                self._page.close()
            self._page = TextPage(url)
        return await self._page.get(self._timeout)

    def _failed(self, quality: ScrapeQuality, message: str, *, unreachable: bool = False) -> None:
        # What is still starting does not answer; what answers wrongly needs a person.
        answered = quality is ScrapeQuality.MISSING and message != self.message
        if self.quality is ScrapeQuality.OK or (answered and not unreachable):
            log.warning("scrape failed", source=self._name, error=message)
        self.quality, self.message = quality, message

    def _explained(self, error: Exception) -> str:
        status = getattr(error, "status", None)
        meaning = self.meaning(status) if status else ""
        return f"{error}: {meaning}" if meaning else str(error)


class EngineWatch(Watch):
    """Keeps the newest state of one engine, and its counters across restarts of it."""

    def __init__(self, target: ScrapeTarget, clock: Clock, timeout: float) -> None:
        """Watch ``target``, which may be replaced by another of the same instance."""
        super().__init__(target.instance_id, clock, timeout)
        self.target = target
        self._reader: tuple[tuple[str, str], PageReader[EngineScrape]] | None = None
        """With the engine and the model that it reads of."""
        self._sampler = EngineSampler()
        self._good = EngineScrape()

    @property
    def url(self) -> str:
        """Of the engine's metrics."""
        return self.target.url

    @property
    def state(self) -> EngineState:
        """The newest state; of one that is MISSING nothing is known."""
        missing = self.quality is ScrapeQuality.MISSING
        scrape = EngineScrape() if missing else self._good
        return EngineState(
            self.target.instance_id, self.quality, self.scraped_at, scrape, self.message
        )

    def take(self, text: str, began: float) -> None:
        """Take in a scrape."""
        wanted = self.target.engine, self.target.model_name
        if self._reader is None or self._reader[0] != wanted:
            self._reader = wanted, self._reader_of(*wanted)
        self._good = self._reader[1].read(text)
        self._sampler.fold(self._good, began)

    def meaning(self, status: int) -> str:
        """Return what the engine means by an HTTP status."""
        mapping = MAPPINGS.get(self.target.engine)
        return mapping.refusals.get(status, "") if mapping else ""

    def report(self, now: float, oldest: float) -> EngineReport:
        """Return the engine's part of a report; values from before ``oldest`` are stale."""
        return self._sampler.report(self.target.instance_id, *self.seen(now, oldest))

    @staticmethod
    def _reader_of(engine: str, model_name: str) -> PageReader[EngineScrape]:
        mapping = MAPPINGS.get(engine)
        if mapping is None:
            raise UnknownEngineError(f"no mapping for engine {engine!r}")
        return reader(mapping, model_name)


class RouterWatch(Watch):
    """Keeps what one router says. ``url`` as it is reported must be the same seen from any host."""

    def __init__(self, router: Router, advertise_host: str, clock: Clock, timeout: float) -> None:
        """Watch ``router``; one on loopback is reported under ``advertise_host``."""
        super().__init__(router.name, clock, timeout)
        self._router, self._mapping = router, ROUTERS[router.kind]
        self._reader = router_reader(self._mapping, router.model_name)
        self._reported_url = router.seen_from_afar(advertise_host)
        self._sampler = RouterSampler()

    @property
    def url(self) -> str:
        """Of the router's metrics."""
        return self._router.metrics_url

    def take(self, text: str, began: float) -> None:
        """Take in a scrape."""
        self._sampler.fold(self._reader.read(text), began)

    def meaning(self, status: int) -> str:
        """Return what the router means by an HTTP status."""
        return self._mapping.refusals.get(status, "")

    def report(self, now: float, oldest: float) -> RouterReport:
        """Return the router's part of a report; values from before ``oldest`` are stale."""
        names = (self._router.name, self._router.service, self._reported_url)
        return self._sampler.report(*names, *self.seen(now, oldest))
