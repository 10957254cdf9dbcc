"""From what was seen to figures: rates, CPU a report, delays, ratios of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.ingest.servers import Sight

DELAY = "heteroscale_report_delay_seconds"


@dataclass(frozen=True, slots=True)
class Figures:
    """One run. Times in milliseconds unless named; None: this server does not tell."""

    server: str
    streams: int
    seconds: float
    sent_per_second: float
    """Reports that the load wrote."""
    received_per_second: float
    """Reports read and decoded by the server."""
    folded_per_second: float | None
    """Reports that were folded one by one; the others were merged into a newer of their agent first."""
    core_share: float
    """CPU seconds of the server a second: 1 is a core used whole."""
    others_share: float
    """What everybody else took of that core: noise."""
    cpu_us_per_report: float
    rss_mib: float
    peak_mib: float
    state_p50: float | None
    state_p99: float | None
    """Read off the stream → folded into State, by the server's own histogram, interpolated."""
    ack_p50: float | None
    ack_p99: float | None
    """Written by the load → acknowledged after its turn, seen by the load: both ways, and the load's own
    slowness, are in it."""
    ack_samples: int
    load_late: float
    """The latest that a load process was with a report."""
    load_share: float
    """Cores that the load used."""
    live: int
    """Streams alive at the end."""
    refused: int
    """Hellos that were refused and tried again while the fleet connected."""
    troubles: tuple[str, ...]

    @property
    def reports_per_cpu_second(self) -> float:
        """What one core used whole would take; other people's share of the core left out."""
        return 1e6 / self.cpu_us_per_report if self.cpu_us_per_report else 0.0

    @property
    def sentence(self) -> str:
        """The run in a line."""
        delay = "" if self.ack_p99 is None else f", write → ack p99 {self.ack_p99:.1f} ms"
        state = "" if self.state_p99 is None else f", read → state p99 {self.state_p99:.1f} ms"
        return (
            f"{self.received_per_second:,.0f} reports/s, {self.core_share:.0%} of its core "
            f"(others {self.others_share:.0%}), {self.cpu_us_per_report:.0f} µs CPU a report, "
            f"{self.rss_mib:.0f} MiB{state}{delay}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"reports_per_cpu_second": self.reports_per_cpu_second}


def figures(
    name: str, streams: int, before: Sight, after: Sight, heard: Sequence[dict[str, Any]]
) -> Figures:
    """Work out one run from two sights of the server and the last words of the load processes."""
    seconds = after.at - before.at
    ours = name == "coordinator"
    received = _grown(
        before, after, "heteroscale_reports_received_total" if ours else "bench_reports_total"
    )
    folded = (
        received - _grown(before, after, "heteroscale_reports_coalesced_total") if ours else None
    )
    cpu = after.cpu - before.cpu
    delays = sorted(1e3 * delay for one in heard for delay in one["delays"])
    return Figures(
        server=name,
        streams=streams,
        seconds=seconds,
        sent_per_second=sum(one["sent"] / one["seconds"] for one in heard),
        received_per_second=received / seconds,
        folded_per_second=None if folded is None else folded / seconds,
        core_share=cpu / seconds,
        others_share=max(0.0, after.core_busy - before.core_busy - cpu) / seconds,
        cpu_us_per_report=1e6 * cpu / received if received else 0.0,
        rss_mib=after.rss_mib,
        peak_mib=after.peak_mib,
        state_p50=_histogram_quantile(before, after, 0.5) if ours else None,
        state_p99=_histogram_quantile(before, after, 0.99) if ours else None,
        ack_p50=quantile(delays, 0.5),
        ack_p99=quantile(delays, 0.99),
        ack_samples=len(delays),
        load_late=1e3 * max(one["latest"] for one in heard),
        load_share=sum(one["cpu"] for one in heard),
        live=sum(one["live"] for one in heard),
        refused=sum(count for one in heard for count in one["refusals"].values()),
        troubles=tuple(trouble for one in heard for trouble in one["troubles"]),
    )


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the value that ``share`` of the sorted values do not exceed; None of none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _grown(before: Sight, after: Sight, name: str) -> float:
    return after.metrics[name] - before.metrics[name]


def _histogram_quantile(before: Sight, after: Sight, share: float) -> float | None:
    """Return milliseconds as Prometheus works them out; the last finite bound when it lies beyond."""
    bounds = sorted((float(name), name) for name in after.metrics if _is_bound(name))
    counts = [(bound, _grown(before, after, name)) for bound, name in bounds]
    if not counts or not counts[-1][1]:
        return None
    wanted, below, lower = share * counts[-1][1], 0.0, 0.0
    for bound, count in counts:
        if count >= wanted:
            if bound == float("inf"):
                return 1e3 * lower
            return 1e3 * (lower + (bound - lower) * (wanted - below) / (count - below))
        below, lower = count, bound
    return None


def _is_bound(name: str) -> bool:
    return name == "+Inf" or name[0].isdigit()


@dataclass(frozen=True, slots=True)
class Ratio:
    """The coordinator beside the bare server, pair by pair: the median, and the range."""

    pairs: tuple[float, ...]

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.pairs)

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({min(self.pairs):.2f}-{max(self.pairs):.2f}, {len(self.pairs)} pairs)"

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"median": self.middle, "pairs": list(self.pairs)}


def per_second(pairs: Sequence[tuple[Figures, Figures]], *, folded: bool = False) -> Ratio:
    """Return reports a second, coordinator ÷ bare; ``folded``: of those folded one by one."""
    return Ratio(
        tuple(
            ((ours.folded_per_second or 0.0) if folded else ours.received_per_second)
            / bare.received_per_second
            for bare, ours in pairs
        )
    )


def per_cpu_second(pairs: Sequence[tuple[Figures, Figures]]) -> Ratio:
    """Return reports a CPU second of the server, coordinator ÷ bare."""
    return Ratio(
        tuple(ours.reports_per_cpu_second / bare.reports_per_cpu_second for bare, ours in pairs)
    )
