"""How a run is done, how it stands, and what became of it: plain values."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heteroscale_workbench.load.client import Failure
from heteroscale_workbench.load.stats import Latency


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a run is done. Durations in seconds."""

    model: str = "simulated"
    timeout: float = 600.0
    """A request that has not ended after this long has failed."""
    connect_timeout: float = 10.0
    exact_events: bool = True
    """See ``Target``."""
    ttft_slo: float | None = None
    tbt_slo: float | None = None
    """Goodput counts passed requests that keep both; None: all that passed. TBT is a request's mean."""
    seen_dir: Path | None = None
    """The folder engines write request ids to; without it retries are unknown, not zero."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment. Rates and latencies are of the last five seconds; None is unknown."""

    elapsed: float
    planned: int
    sent: int
    in_flight: int
    passed: int
    failed: int
    retried: int | None
    tokens: int
    requests_per_s: float
    tokens_per_s: float
    ttft: Latency
    tbt: Latency
    failures: tuple[Failure, ...]
    """The newest ones, at most 20."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of a run."""

    duration: float
    requests: int
    passed: int
    failed_requests: int
    retried_requests: int | None
    local_errors: int
    """Failures of the load generator itself; the run says nothing about these requests."""
    unseen: int | None
    """Passed requests that no engine noted: above zero, retries were not watched."""
    tokens: int
    goodput_requests: int
    goodput_requests_per_s: float
    tokens_per_s: float
    ttft: Latency
    tbt: Latency
    latest_start: float
    """Seconds by which the latest request left too late; above some 0.1 the load was not open-loop."""
    failures: tuple[Failure, ...]

    @property
    def clean(self) -> bool:
        """Whether every request passed, and none was retried as far as anyone can know."""
        lost = self.failed_requests + self.local_errors + (self.retried_requests or 0)
        return self.passed == self.requests and lost == 0

    def document(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "reasons": dict(Counter(f.kind.value for f in self.failures))}
