"""The figures as a person reads them, beside the goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.ingest.figures import Figures, Ratio, per_second

RATIO_GOAL = 0.7
MEMORY_GOAL_MIB = 700.0
DELAY_GOAL_MS = 50.0

_COLUMNS = (
    ("", "{0.server}", 12),
    ("streams", "{0.streams:,}", 8),
    ("reports/s", "{0.received_per_second:,.0f}", 10),
    ("core", "{0.core_share:.0%}", 6),
    ("others", "{0.others_share:.0%}", 7),
    ("µs CPU/report", "{0.cpu_us_per_report:.0f}", 14),
    ("RSS MiB", "{0.rss_mib:.0f}", 8),
    ("peak", "{0.peak_mib:.0f}", 6),
    ("state p50/p99 ms", "{state}", 17),
    ("ack p50/p99 ms", "{ack}", 15),
    ("load", "{0.load_share:.0%}", 6),
    ("refused", "{0.refused}", 8),
)


@dataclass(frozen=True, slots=True)
class Goal:
    """What was wanted and what came out; None: nobody measured it, and so it is not met."""

    name: str
    wanted: str
    value: float | None
    met: bool

    def __str__(self) -> str:
        value = "unknown" if self.value is None else f"{self.value:.2f}"
        return f"{'met   ' if self.met else 'MISSED'}  {self.name}: {value} (goal {self.wanted})"


def text(
    flat_out: Sequence[tuple[Figures, Figures]],
    steady: Sequence[tuple[Figures, Figures]],
    ratios: Mapping[str, Ratio],
) -> str:
    """Return everything in some twenty lines."""
    lines: list[str] = []
    for title, pairs in (("flat out", flat_out), ("steady", steady)):
        if pairs:
            lines += ["", title, _head(), *(_line(one) for pair in pairs for one in pair)]
    lines.append("")
    lines += [f"coordinator ÷ bare, {name + ':':<25} {ratio}" for name, ratio in ratios.items()]
    lines += [str(goal) for goal in goals(flat_out, steady)]
    return "\n".join(lines)


def goals(
    flat_out: Sequence[tuple[Figures, Figures]], steady: Sequence[tuple[Figures, Figures]]
) -> list[Goal]:
    """Return the goals that these runs can tell of, each with its worst value."""
    found = []
    if flat_out:
        ratio = per_second(flat_out).middle
        found.append(Goal("messages/s beside bare", "≥ 0.7", ratio, ratio >= RATIO_GOAL))
    if steady:
        ours = [pair[1] for pair in steady]
        found += [
            _below("memory, peak, MiB", [one.peak_mib for one in ours], MEMORY_GOAL_MIB),
            _below("read → state p99, ms", [one.state_p99 for one in ours], DELAY_GOAL_MS),
            _below("written → acknowledged p99, ms", [one.ack_p99 for one in ours], DELAY_GOAL_MS),
        ]
    return found


def _below(name: str, values: Sequence[float | None], limit: float) -> Goal:
    known = [value for value in values if value is not None]
    worst = max(known) if len(known) == len(values) else None
    return Goal(name, f"< {limit:.0f}", worst, worst is not None and worst < limit)


def _head() -> str:
    return " ".join(f"{title:>{width}}" for title, _, width in _COLUMNS)


def _line(one: Figures) -> str:
    values = {"state": _two(one.state_p50, one.state_p99), "ack": _two(one.ack_p50, one.ack_p99)}
    return " ".join(f"{form.format(one, **values):>{width}}" for _, form, width in _COLUMNS)


def _two(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.1f} / {high:.1f}"
