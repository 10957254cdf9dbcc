"""The figures of one recording as a table of Markdown."""

from __future__ import annotations

from benchmarks.policies.cases import Case
from benchmarks.policies.play import Figures, Played

COLUMNS = (
    *("policy", "GPU-h", "÷ oracle", "saved", "met", "TTFT met", "TBT met"),
    *("events", "reversals", "ratio error"),
)


def show(case: Case, played: Played) -> str:
    """Return the heading and the table."""
    title = (
        f"\n{case.name}: {played.scale:g} requests a row, {played.hours:.1f} h, TTFT {case.ttft}, "
        f"TBT 50 ms; the free oracle's mean is {played.oracle_instances:.0f} instances\n"
    )
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    return "\n".join([title, *lines, *(_row(run) for run in played.runs)])


def _row(run: Figures) -> str:
    saved = 1 - run["gpu_hours"] / run["gpu_hours_static_peak"]
    cells = [
        run["policy"],
        f"{run['gpu_hours']:,.1f}",
        f"{run['gpu_hours'] / run['gpu_hours_oracle_free']:.2f}",
        _percent(saved),
        *(_percent(run[f"{kind}_attainment"]) for kind in ("joint", "ttft", "tbt")),
        str(run["scale_events"]),
        str(run["reversals"]),
        "–" if run["ratio_error_mean"] is None else f"{run['ratio_error_mean']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f} %"
