"""What one look at an engine said, in engine-neutral names. Unknown is ``None``, never zero."""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.words import ScrapeQuality


@dataclass(frozen=True, slots=True)
class LatencyReading:
    """A cumulative histogram: seconds, observations, and counts per bucket (not running sums).

    ``bounds`` are the upper bounds in seconds of all buckets but the last, unbounded one.
    """

    sum_seconds: float
    count: float
    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineScrape:
    """What one scrape of an engine's metrics endpoint said, in engine-neutral names."""

    generation_tokens: float | None = None
    prompt_tokens: float | None = None
    computed_prompt_tokens: float | None = None
    requests_finished: float | None = None
    requests_aborted: float | None = None
    running: float | None = None
    waiting: float | None = None
    transferring: float | None = None
    kv_usage: float | None = None
    time_to_first_token: LatencyReading | None = None
    time_between_tokens: LatencyReading | None = None

    @property
    def in_flight(self) -> float | None:
        """Running + waiting + transferring; None when running or waiting is unknown."""
        if self.running is None or self.waiting is None:
            return None
        return self.running + self.waiting + (self.transferring or 0.0)


@dataclass(frozen=True, slots=True)
class EngineState:
    """The newest scrape of an instance, how old it is, and whether it can be relied on."""

    instance_id: str
    quality: ScrapeQuality
    scraped_at: float
    scrape: EngineScrape
    message: str = ""
