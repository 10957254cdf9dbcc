"""KV on its way from prefill to decode: one pool of links, as long as its load allows.

A transfer keeps a link of its sender and one of its receiver busy for bytes ÷ bandwidth at their
distance, one after another. With u the busy share of the scarcer side's links it takes ``bytes · τ ·
(1 + u/(2(1 − u)))`` and the latency, τ = Σ share ÷ bandwidth over distances: the queue of equal jobs
(M/D/1), for those of one engine come as its prefills end, never by the dozen. At u ≥ 1 what exceeds the
links stands and waits.
"""

from __future__ import annotations

from collections.abc import Mapping

from heteroscale_simulator.plant.pairing import Weighted, distances
from heteroscale_simulator.profiles import Distance, TransferProfile
from heteroscale_simulator.traffic.load import Floats

_SMOOTH = 0.2
"""Share of a new second in the load that a transfer meets: about five seconds."""
_FULL = 0.95


class Links:
    """The links between the open prefill and decode engines."""

    def __init__(self, profile: TransferProfile, bytes_per_token: float) -> None:
        self._profile = profile
        self._bytes_per_token = bytes_per_token
        self._links = 0
        self._per_token = 0.0
        self._latency = 0.0
        self._used = 0.0
        """Link-seconds asked for in a second, smoothed."""
        self._backlog = 0.0
        """Link-seconds that stand."""
        self.pair([], [])

    @property
    def load(self) -> float:
        """Busy share of the links, above 1 where more is asked than they carry."""
        return self._used / self._links if self._links else 0.0

    def pair(self, prefill: Weighted, decode: Weighted) -> None:
        """Note who is open now."""
        shares: Mapping[Distance, float] = distances(prefill, decode)
        self._links = max(1, min(len(prefill), len(decode)))
        self._per_token = self._latency = 0.0
        for distance, share in shares.items():
            link = self._profile.link(distance)
            seconds = self._bytes_per_token / (link.gigabytes_per_second * 1e9)
            self._per_token += share * seconds
            self._latency += share * link.latency_ms / 1000

    def seconds(self, tokens: Floats) -> Floats:
        """Return what transfers of ``tokens`` prompt tokens take that begin now."""
        load = min(self.load, _FULL)
        crowding = 1 + load / (2 * (1 - load))
        waits = self._latency + self._backlog / self._links
        result: Floats = tokens * (self._per_token * crowding) + waits
        return result

    def carry(self, tokens: float) -> None:
        """Let a second go by in which ``tokens`` prompt tokens' KV sets out."""
        asked = tokens * self._per_token
        self._used += _SMOOTH * (asked - self._used)
        self._backlog = max(0.0, self._backlog + asked - self._links)
