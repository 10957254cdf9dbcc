"""What a service's routers tell: latency as its users feel it, and whom they turned away.

Several routers of a service add up. A sum over some of them is not the service's: where one is not
heard, or does not tell a reading, that reading is unknown, and whoever asks is told why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from heteroscale_coordinator.core.model import RouterSample, SignalValue
from heteroscale_coordinator.core.policy.view import ServiceView
from heteroscale_coordinator.core.routers import RouterTrack

Reading = Callable[[RouterSample], float | None]

COUNTERS: dict[str, Reading] = {
    "requests_finished": lambda one: one.requests_finished,
    "requests_failed": lambda one: one.requests_failed,
    "requests_rejected": lambda one: one.requests_rejected,
    "ttft_sum": lambda one: one.ttft.sum_seconds if one.ttft else None,
    "ttft_count": lambda one: one.ttft.observations if one.ttft else None,
    "tbt_sum": lambda one: one.tbt.sum_seconds if one.tbt else None,
    "tbt_count": lambda one: one.tbt.observations if one.tbt else None,
}


@dataclass(frozen=True, slots=True)
class Routers:
    """The routers of a service as they were heard up to ``now``."""

    tracks: tuple[RouterTrack, ...]
    now: float
    freshness: float

    def __bool__(self) -> bool:
        """Return whether the service has any that an agent watches."""
        return bool(self.tracks)

    @property
    def silent(self) -> list[str]:
        """Names of those that told something once, and are not heard now."""
        return [t.name for t in self.tracks if t.samples and not self._fresh(t)]

    @property
    def never_heard(self) -> list[str]:
        """Names of those that never told anything."""
        return [t.name for t in self.tracks if not t.samples]

    def why_not(self, counter: str) -> str:
        """Return why a reading is unknown, in words; empty when every router tells it."""
        for names, why in ((self.silent, "is not heard"), (self.never_heard, "was never heard")):
            if names:
                return f"router {names[0]} {why}"
        read = COUNTERS[counter]
        mute = [t.name for t in self.tracks if read(t.samples[-1]) is None]
        return f"router {mute[0]} does not tell it" if mute else ""

    def rise(self, counter: str, length: float, offset: float = 0.0) -> float | None:
        """Return how much a counter rose over all routers in ``length`` s that ended ``offset`` ago."""
        if not self.tracks or self.why_not(counter):
            return None
        rises = [self._rise(track, COUNTERS[counter], length, offset) for track in self.tracks]
        return sum(value for value in rises if value is not None) if None not in rises else None

    def rate(self, counter: str, length: float) -> float | None:
        """Return the rise per second over all routers."""
        rise, span = self.rise(counter, length), self._span(length)
        return rise / span if rise is not None and span else None

    def mean(self, kind: str, length: float) -> tuple[float | None, float]:
        """Return (mean seconds, observations) of ``ttft`` or ``tbt``, exact from ΣΔsum ÷ ΣΔcount."""
        seconds = self.rise(f"{kind}_sum", length)
        count = self.rise(f"{kind}_count", length)
        if seconds is None or not count:
            return None, 0.0
        return seconds / count, count

    def newest(self, read: Reading) -> float | None:
        """Return the sum of a gauge; None when one router does not tell it."""
        if not self.tracks or self.silent or self.never_heard:
            return None
        values = [read(track.samples[-1]) for track in self.tracks]
        return sum(value for value in values if value is not None) if None not in values else None

    def values(self, short: float, long: float) -> tuple[SignalValue, ...]:
        """Return what is shown of them; nothing when the service has none."""
        if not self.tracks:
            return ()
        rows = [
            *(
                (f"router_{kind}", self._best_mean(kind, short, long), "s", short)
                for kind in ("ttft", "tbt")
            ),
            ("router_finished", self.rate("requests_finished", short), "req/s", short),
            ("router_failed", self.rate("requests_failed", short), "req/s", short),
            ("router_rejected", self.rate("requests_rejected", short), "req/s", short),
            ("router_running", self.newest(lambda one: one.running), "req", 0.0),
            ("router_waiting", self.newest(lambda one: one.waiting), "req", 0.0),
        ]
        heard = sum(map(self._fresh, self.tracks))
        coverage = heard / len(self.tracks)
        quality = "ok" if coverage == 1 else "partial" if heard else self._unheard
        return tuple(
            SignalValue(
                name,
                value,
                unit,
                quality if value is not None else self._unheard,
                coverage,
                window,
                self.freshness,
                self._why if value is None or quality != "ok" else "",
            )
            for name, value, unit, window in rows
        )

    @property
    def _why(self) -> str:
        """Why a value is unknown, or not of all routers."""
        for names, why in ((self.silent, "is not heard"), (self.never_heard, "was never heard")):
            if names:
                return f"router {names[0]} {why}"
        return "nothing to observe, or not told"

    @property
    def text(self) -> str:
        """Every router and how it is heard."""
        return ", ".join(f"{track.name} {self._word(track)}" for track in self.tracks)

    @property
    def _unheard(self) -> str:
        return "stale" if self.silent else "missing"

    def _word(self, track: RouterTrack) -> str:
        if self._fresh(track):
            return "ok"
        return "stale" if track.samples else "missing"

    def _fresh(self, track: RouterTrack) -> bool:
        return track.fresh(self.now, self.freshness)

    def _best_mean(self, kind: str, short: float, long: float) -> float | None:
        mean, _ = self.mean(kind, short)
        return mean if mean is not None else self.mean(kind, long)[0]

    def _rise(
        self, track: RouterTrack, read: Reading, length: float, offset: float
    ) -> float | None:
        window = _window(track.samples, length, offset)
        values = [value for one in window if (value := read(one)) is not None]
        return values[-1] - values[0] if len(values) > 1 else None

    def _span(self, length: float) -> float:
        spans = [_window(track.samples, length, 0.0) for track in self.tracks]
        return max((one[-1].at - one[0].at for one in spans if len(one) > 1), default=0.0)


def _window(
    samples: Iterable[RouterSample], length: float, offset: float
) -> Sequence[RouterSample]:
    """Return the samples of ``length`` seconds up to ``offset`` before the newest, and the one before."""
    held = list(samples)
    end = held[-1].at - offset + 1e-6 if held else 0.0
    until = [one for one in held if one.at <= end]
    inside = sum(one.at > end - length for one in until)
    return until[-(inside + 1) :]


def observe_routers(view: ServiceView) -> Routers:
    """Return the routers of a service, in order of their names."""
    tracks = sorted(view.routers, key=lambda track: (track.name, track.url))
    return Routers(tuple(tracks), view.now, view.spec.policy.freshness)
