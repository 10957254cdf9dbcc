"""The recent past of a service's routers, few and small.

Several agents may watch the same router. Each counts from when it first saw it, so their samples do not
mix: one agent is believed at a time, and another only when that one has not been heard for a while.
"""

from __future__ import annotations

from collections import deque

from heteroscale.words import ScrapeQuality
from heteroscale_coordinator.core.model import LatencySample, RouterSample
from heteroscale_coordinator.core.track import SLOTS

MOST = 64
"""Routers of one service; more are not taken in."""
FORGET = 600.0
"""Seconds after which a router that no agent names any more is forgotten."""


class RouterTrack:
    """Samples of one router, oldest first. Only scrapes of quality OK become samples."""

    __slots__ = ("agent_id", "name", "named_at", "quality", "samples", "spacing", "url")

    def __init__(self, url: str, spacing: float = 5.0) -> None:
        self.url, self.spacing = url, spacing
        self.name = self.agent_id = ""
        self.named_at = 0.0
        """When an agent last named it, well or badly."""
        self.quality = ScrapeQuality.MISSING
        self.samples: deque[RouterSample] = deque(maxlen=SLOTS)

    def add(self, agent_id: str, sample: RouterSample, now: float, patience: float) -> None:
        """Take in a sample; another agent's counts once the believed one is silent for ``patience`` s."""
        self.named_at = now
        if agent_id != self.agent_id:
            if self.fresh(now, patience) or (self.samples and not _good(sample)):
                return
            self.agent_id = agent_id
            self.samples.clear()
        self.name, self.quality = sample.name, sample.quality
        if not _good(sample) or (self.samples and sample.at <= self.samples[-1].at):
            return
        if self.samples and _fell(self.samples[-1], sample):
            self.samples.clear()
        held = self.samples
        if len(held) > 1 and held[-1].at - held[-2].at < self.spacing:
            held[-1] = sample
        else:
            held.append(sample)

    def named(self, now: float) -> bool:
        """Return whether any agent still names it, well or badly heard."""
        return now - self.named_at <= FORGET

    def fresh(self, now: float, freshness: float) -> bool:
        """Return whether the newest sample is at most ``freshness`` seconds old."""
        age = self.age(now)
        return age is not None and age <= freshness

    def age(self, now: float) -> float | None:
        """Return the seconds since the newest sample was true; None when there is none."""
        return max(0.0, now - self.samples[-1].at) if self.samples else None

    def let_go(self, agent_id: str) -> None:
        """Forget what an agent said: a new process of it counts from zero."""
        if self.agent_id == agent_id:
            self.agent_id = ""
            self.samples.clear()


RouterTracks = dict[str, RouterTrack]
"""Those of one service, by URL."""


def add(
    tracks: RouterTracks, agent_id: str, sample: RouterSample, now: float, spacing: float
) -> None:
    """Take in a sample of a service's router, a new one or not; forget those nobody names."""
    track = tracks.get(sample.url)
    if track is None:
        for url in [url for url, old in tracks.items() if not old.named(now)]:
            del tracks[url]
        if len(tracks) >= MOST:
            return
        track = tracks[sample.url] = RouterTrack(sample.url, spacing)
    track.add(agent_id, sample, now, 3 * spacing)


def _good(sample: RouterSample) -> bool:
    return sample.quality is ScrapeQuality.OK


def _fell(older: RouterSample, newer: RouterSample) -> bool:
    """Return whether a counter fell: agents remove resets, and one that slips through is no rate."""
    pairs = [
        (older.requests_finished, newer.requests_finished),
        (older.requests_failed, newer.requests_failed),
        (older.requests_rejected, newer.requests_rejected),
        *_latency_pairs(older.ttft, newer.ttft),
        *_latency_pairs(older.tbt, newer.tbt),
    ]
    return any(new < old for old, new in pairs if old is not None and new is not None)


def _latency_pairs(
    older: LatencySample | None, newer: LatencySample | None
) -> tuple[tuple[float, float], ...]:
    if older is None or newer is None:
        return ()
    counts = (older.observations, newer.observations)
    return (counts, (older.sum_seconds, newer.sum_seconds))
