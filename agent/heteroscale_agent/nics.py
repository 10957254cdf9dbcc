"""RDMA ports' readings to the port's part of a report; what ``sample`` is for engines. Pure.

Every counter is folded by itself, wraps and resets taken out, and only then added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale_agent.model import NicCounters, NicReading
from heteroscale_agent.sample import Counter

MAX_OCTETS_PER_SECOND = 200_000_000_000
"""1.6 Tb/s: twice the fastest port; used where a port does not say its rate."""
MAX_EVENTS_PER_SECOND = 10_000_000
MAX_TICKS_PER_SECOND = 300_000_000
"""The shortest tick of an adapter is some nanoseconds long."""
OCTETS_WRAP = 4 << 32
"""Octets come as 32-bit counts of words of 4 on old adapters."""
WRAP_32 = 1 << 32
SETTLED = 30.0
"""Seconds after which a link that went down has been counted by the adapter too, or never will be."""

_SHORTEST = 0.2
"""Seconds between two readings for a share: over less, what two files say differs too much."""


@dataclass(slots=True)
class CounterSum:
    """Counters that are reported as one."""

    _counters: dict[str, Counter[int]] = field(default_factory=dict)
    _raw: Mapping[str, int | None] | None = None
    _told: int | None = None

    def fold(self, raw: Mapping[str, int | None], at: float) -> int | None:
        """Take in readings of time `at` (s); return the sum so far, None when a part is unknown.

        What came to be known later adds from then on; what is no longer listed keeps its part. The
        very same mapping as before says nothing new: most samples read no slow counter again.
        """
        if raw is not self._raw:
            self._raw, self._told = raw, self._sum(raw, at)
        return self._told

    def _sum(self, raw: Mapping[str, int | None], at: float) -> int | None:
        known = bool(raw)
        for name, value in raw.items():
            counter = self._counters.get(name)
            if counter is None:
                counter = self._counters[name] = Counter(0, MAX_EVENTS_PER_SECOND, WRAP_32)
            known = counter.fold(value, at) is not None and known
        return sum(counter.total for counter in self._counters.values()) if known else None


@dataclass(slots=True)
class Flaps:
    """How often a link went down, as the adapter counts it and as its state was seen to change.

    The adapter sees what is too short for us, but its counter is 8 bits wide, sticks at 255, and some
    have none. Both tell of most flaps, one sooner than the other: the greater of the two is right, as
    long as it is taken over a time in which both had their chance.
    """

    total: int = 0
    _counter: Counter[int] = field(default_factory=lambda: Counter(0, 1_000, None))
    _counted: int = 0
    _seen: int = 0
    _up: bool = False
    _changed_at: float = 0.0

    def fold(self, counted: int | None, active: bool | None, at: float) -> int | None:
        """Take in a reading of time `at` (s); return the flaps so far, None when nothing tells."""
        before = self._counter.total
        told = self._counter.fold(counted, at) is not None
        gained = self._counter.total - before
        went_down = self._up and active is False
        if gained or went_down:
            self._counted += gained
            self._seen += went_down
            self._changed_at = at
        elif at - self._changed_at >= SETTLED:
            self.total += max(self._counted, self._seen)
            self._counted = self._seen = 0
        if active is not None:
            self._up = active
        if not told and active is None:
            return None
        return self.total + max(self._counted, self._seen)


def _octets() -> Counter[int]:
    return Counter(0, MAX_OCTETS_PER_SECOND, OCTETS_WRAP)


@dataclass(slots=True)
class NicSampler:
    """Everything cumulative about one port, and how busy it is."""

    _received: Counter[int] = field(default_factory=_octets)
    _sent: Counter[int] = field(default_factory=_octets)
    _errors: CounterSum = field(default_factory=CounterSum)
    _congestion: CounterSum = field(default_factory=CounterSum)
    _retransmissions: CounterSum = field(default_factory=CounterSum)
    _wait: Counter[int] = field(default_factory=lambda: Counter(0, MAX_TICKS_PER_SECOND, WRAP_32))
    _flaps: Flaps = field(default_factory=Flaps)
    _before: tuple[float, int | None, int | None] | None = None
    _last: tuple[NicReading, NicCounters] | None = None

    def fold(self, reading: NicReading, limit_bps: float | None = None) -> NicCounters:
        """Take in a reading and return the port's part of a report.

        The limit is what the port can carry where that is less than its rate. A reading that was
        taken in already tells what it told.
        """
        if self._last is not None and self._last[0] is reading:
            return self._last[1]
        at = reading.at
        if reading.rate_bps:
            # A quarter more than the wire carries: two files are never read at the same moment.
            octets_per_second = reading.rate_bps * 5 // 32
            self._received.most_per_second = octets_per_second
            self._sent.most_per_second = octets_per_second
        received = self._received.fold(reading.received_octets, at)
        sent = self._sent.fold(reading.sent_octets, at)
        counters = NicCounters(
            active=reading.active,
            received_octets=received,
            sent_octets=sent,
            errors=self._errors.fold(reading.errors, at),
            congestion_marks=self._congestion.fold(reading.congestion_marks, at),
            retransmissions=self._retransmissions.fold(reading.retransmissions, at),
            link_flaps=self._flaps.fold(reading.link_downed, reading.active, at),
            share=self._share(at, received, sent, _carries(reading, limit_bps)),
            rate_bps=reading.rate_bps,
            xmit_wait=self._wait.fold(reading.xmit_wait, at),
        )
        self._last = reading, counters
        return counters

    def _share(
        self, at: float, received: int | None, sent: int | None, limit_bps: float | None
    ) -> float | None:
        before = self._before
        if before is not None and at - before[0] < _SHORTEST:
            return None if self._last is None else self._last[1].share
        self._before = at, received, sent
        if before is None or limit_bps is None:
            return None
        gained = [
            now - then
            for now, then in ((received, before[1]), (sent, before[2]))
            if now is not None and then is not None
        ]
        if len(gained) < 2:  # noqa: PLR2004 - both directions
            return None
        return min(1.0, 8 * max(gained) / (limit_bps * (at - before[0])))


def _carries(reading: NicReading, limit_bps: float | None) -> float | None:
    """Return the bits per second that a port can carry; None when that is unknown, or it is down."""
    if reading.active is False:
        return None
    return min(filter(None, (reading.rate_bps, limit_bps)), default=None)
