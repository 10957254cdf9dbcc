"""From sights of a process to its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from benchmarks.agent.sight import Sight


@dataclass(frozen=True, slots=True)
class Figures:
    """One process over the window. Memory in MiB, each the highest that was seen in the window."""

    name: str
    seconds: float
    core_percent: float
    """CPU time a second: 100 is a core used whole."""
    rss: float
    anon: float
    pss: float | None
    threads: int
    peak: float
    """The highest RSS since its start."""
    growth: float
    """RSS at the window's end less RSS at its begin."""

    @classmethod
    def of(cls, name: str, sights: Sequence[Sight]) -> Self:
        """Work out the figures of one process from two sights or more."""
        first, last = sights[0], sights[-1]
        seconds = last.at - first.at
        shares = [one.pss for one in sights if one.pss is not None]
        return cls(
            name=name,
            seconds=seconds,
            core_percent=100 * (last.cpu - first.cpu) / seconds,
            rss=max(one.rss for one in sights),
            anon=max(one.anon for one in sights),
            pss=max(shares, default=None),
            threads=max(one.threads for one in sights),
            peak=last.peak,
            growth=last.rss - first.rss,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)
