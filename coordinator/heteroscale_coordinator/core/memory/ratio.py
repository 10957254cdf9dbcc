"""What the ratio advisor has seen, the ratio that it holds, and how role switches went."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RatioMemory:
    """Means over the time watched, at most over the advisor's horizon; a few numbers, however long."""

    seen: float = 0.0
    """Seconds of evidence behind the means."""
    at: float | None = None
    """When evidence was last taken in."""
    prefill: float = 0.0
    """Mean of the prefill instances that demand needs at their targets."""
    decode: float = 0.0
    queue: float = 0.0
    """Mean of −1 (decode alone queues) to 1 (prefill alone queues)."""
    latency: float = 0.0
    """Mean of −1 (TBT is the nearer to its SLO) to 1 (TTFT is)."""
    activity: float | None = None
    """Mean SM activity of prefill less that of decode, −1 to 1; None: not told."""
    since: float | None = None
    """Since when another ratio has been advised, in the same direction all the time."""
    held: float | None = None
    """`ratio.adapt`: prefill per decode as now held inside the band."""
    moved_at: float | None = None
    """When it was last moved."""
    switched_at: float | None = None
    """When an instance was last ordered to change its role."""
    switch_failures: int = 0
    """Such orders that failed in a row."""
    switch_after: float = 0.0
    """No such order before: backoff after failures."""
