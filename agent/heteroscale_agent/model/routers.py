"""What one look at a router said. Unknown is ``None``, never zero."""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale_agent.model.engines import LatencyReading


@dataclass(frozen=True, slots=True)
class RouterScrape:
    """Counters as the router shows them since it started, gauges of now; see ``RouterReport``."""

    time_to_first_token: LatencyReading | None = None
    time_between_tokens: LatencyReading | None = None
    requests_finished: float | None = None
    requests_failed: float | None = None
    requests_rejected: float | None = None
    running: float | None = None
    waiting: float | None = None
