"""The figures as a person reads them, beside the goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.agent.figures import Figures
from benchmarks.agent.host import EXPORTER, FULL

CPU_GOAL_PERCENT = 1.0
MEMORY_GOAL_MIB = 64.0

_COLUMNS = (
    ("", "{0.name}", 26),
    ("% of a core", "{0.core_percent:.2f}", 12),
    ("RSS MiB", "{0.rss:.1f}", 8),
    ("own", "{0.anon:.1f}", 6),
    ("PSS", "{pss}", 6),
    ("peak", "{0.peak:.1f}", 6),
    ("grew", "{0.growth:+.2f}", 6),
    ("threads", "{0.threads}", 8),
)


@dataclass(frozen=True, slots=True)
class Goal:
    """What was wanted and what came out."""

    name: str
    wanted: str
    value: float
    met: bool

    def __str__(self) -> str:
        verdict = "met   " if self.met else "MISSED"
        return f"{verdict}  {self.name}: {self.value:.2f} (goal {self.wanted})"


def goals(figures: Sequence[Figures]) -> list[Goal]:
    """Return the goals of the agent that has everything to watch."""
    full = _named(figures, FULL.name)
    cpu, rss = full.core_percent, full.peak
    return [
        Goal("CPU, % of a core", "≤ 1", cpu, cpu <= CPU_GOAL_PERCENT),
        Goal("memory, highest RSS, MiB", "≤ 64", rss, rss <= MEMORY_GOAL_MIB),
    ]


def ratios(figures: Sequence[Figures]) -> dict[str, float]:
    """Return the agent's use ÷ node-exporter's, of the same seconds; nothing where it used none."""
    full, beside = _named(figures, FULL.name), _named(figures, EXPORTER)
    found = {"RSS": full.rss / beside.rss}
    if beside.core_percent:
        found["CPU"] = full.core_percent / beside.core_percent
    return found


def text(figures: Sequence[Figures]) -> str:
    """Return everything in some fifteen lines."""
    lines = ["", " ".join(f"{title:>{width}}" for title, _, width in _COLUMNS)]
    lines += [_line(one) for one in figures]
    lines.append("")
    lines += [
        f"agent ÷ node-exporter, {name}: {value:.2f}" for name, value in ratios(figures).items()
    ]
    lines += [str(goal) for goal in goals(figures)]
    return "\n".join(lines)


def _named(figures: Sequence[Figures], name: str) -> Figures:
    return next(one for one in figures if one.name == name)


def _line(one: Figures) -> str:
    pss = "-" if one.pss is None else f"{one.pss:.1f}"
    return " ".join(f"{form.format(one, pss=pss):>{width}}" for _, form, width in _COLUMNS)
