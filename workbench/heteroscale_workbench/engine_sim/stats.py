"""What an engine counts; plain numbers, so that counting a token costs next to nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

TTFT_SGLANG = (0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400)
ITL_SGLANG = (
    *(0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06),
    *(0.08, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8),
)
E2E_SGLANG = (*TTFT_SGLANG, 600, 1200, 1800, 2400)
QUEUE_SGLANG = (
    *(0, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 10, 15, 20, 30, 40, 50, 60),
    *(70, 80, 90, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1200, 1400, 1600, 1800),
    *(2000, 2500, 3000),
)
TTFT_VLLM = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(20, 40, 80, 160, 640, 2560),
)
ITL_VLLM = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20),
    *(40, 80),
)
E2E_VLLM = (
    *(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960),
    *(1920, 7680),
)
XFER_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 5)
XFER_BYTES = tuple(float(2**n) for n in range(11, 34, 2))
XFER_MS = tuple(1000 * bound for bound in XFER_SECONDS)
XFER_GB_S = (0.1, 0.5, 1, 5, 10, 25, 50, 75, 100, 200, 400)


class Histogram:
    """Observations in buckets with inclusive upper bounds, as Prometheus has them."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count ``value`` ``times`` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


class Stats:
    """Everything an engine has counted since its start."""

    def __init__(self, *, sglang: bool) -> None:
        ttft = TTFT_SGLANG if sglang else TTFT_VLLM
        self.ttft = {True: Histogram(ttft), False: Histogram(ttft)}
        """Seconds from arrival to first token, by whether the request streams."""
        self.itl = Histogram(ITL_SGLANG if sglang else ITL_VLLM)
        self.e2e = {
            streaming: Histogram(E2E_SGLANG if sglang else E2E_VLLM) for streaming in (True, False)
        }
        self.queued = Histogram(QUEUE_SGLANG if sglang else E2E_VLLM)
        self.generated = {True: 0, False: 0}
        self.prompt = {True: 0, False: 0}
        self.computed = 0
        """Prompt tokens prefilled here."""
        self.cached = 0
        """Prompt tokens found in the prefix cache."""
        self.external = 0
        """Prompt tokens whose KV came from a prefill instance."""
        self.finished: Counter[str] = Counter()
        """Requests ended, by vLLM's reason: length, abort, error."""
        self.requests = {True: 0, False: 0}
        self.transfer_seconds = Histogram(XFER_SECONDS)
        self.transfer_bytes = Histogram(XFER_BYTES)
        self.transfer_ms = Histogram(XFER_MS)
        self.transfer_speed = Histogram(XFER_GB_S)
        self.transfers_failed = 0
        self.bootstraps_failed = 0
        self.kv_expired = 0
        self.rejected = 0
        self.duplicates = 0
        """Requests whose id this engine had seen before: somebody retried."""

    def transferred(self, octets: float, seconds: float) -> None:
        """Count one KV transfer that went well."""
        self.transfer_seconds.observe(seconds)
        self.transfer_ms.observe(1000 * seconds)
        self.transfer_bytes.observe(octets)
        self.transfer_speed.observe(octets / 1e9 / max(seconds, 1e-9))
