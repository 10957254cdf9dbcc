"""The figures as a person reads them, beside the goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.ingest.figures import Figures, Ratio

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


def text(
    flat_out: Sequence[tuple[Figures, Figures]],
    steady: Sequence[tuple[Figures, Figures]],
    ratios: Mapping[str, Ratio],
) -> str:
    """Return everything in some twenty lines."""
    lines = ["", "flat out", _head()]
    lines += [_line(one) for pair in flat_out for one in pair]
    lines += [
        "",
        f"coordinator ÷ bare, reports/s received:        {ratios['received']}",
        f"coordinator ÷ bare, reports/s folded singly:   {ratios['folded']}",
        f"coordinator ÷ bare, reports per CPU second:    {ratios['per_cpu_second']}",
        "",
        "steady",
        _head(),
    ]
    lines += [_line(one) for pair in steady for one in pair]
    lines.append("")
    for name, (value, goal, met) in goals(steady, ratios["received"]).items():
        lines.append(f"{'met   ' if met else 'MISSED'}  {name}: {value:.2f} (goal {goal})")
    return "\n".join(lines)


def goals(
    steady: Sequence[tuple[Figures, Figures]], ratio: Ratio
) -> dict[str, tuple[float, str, bool]]:
    """Return {goal: (worst value, what is wanted, whether it is met)}."""
    ours = [pair[1] for pair in steady]
    memory = max(one.peak_mib for one in ours)
    state = max(one.state_p99 or float("inf") for one in ours)
    ack = max(one.ack_p99 or float("inf") for one in ours)
    return {
        "messages/s beside bare": (ratio.middle, f"≥ {RATIO_GOAL}", ratio.middle >= RATIO_GOAL),
        "memory, peak, MiB": (memory, f"< {MEMORY_GOAL_MIB:.0f}", memory < MEMORY_GOAL_MIB),
        "read → state p99, ms": (state, f"< {DELAY_GOAL_MS:.0f}", state < DELAY_GOAL_MS),
        "written → acknowledged p99, ms": (ack, f"< {DELAY_GOAL_MS:.0f}", ack < DELAY_GOAL_MS),
    }


def _head() -> str:
    return " ".join(f"{title:>{width}}" for title, _, width in _COLUMNS)


def _line(one: Figures) -> str:
    values = {"state": _two(one.state_p50, one.state_p99), "ack": _two(one.ack_p50, one.ack_p99)}
    return " ".join(f"{form.format(one, **values):>{width}}" for _, form, width in _COLUMNS)


def _two(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.1f} / {high:.1f}"
