"""The figures as tables of Markdown: a row for each traffic, and every variant of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.policies.verdict import Score, Verdict
from benchmarks.policies.why import Why

COLUMNS = ("policy", "÷ free", "÷ fixed", "met", "TTFT met", "TBT met", "events", "reversals")


@dataclass(frozen=True)
class Shown:
    """A traffic as it is shown."""

    name: str
    scale: float
    hours: float
    instances: float
    """The free oracle's mean."""
    ttft: str
    ratio: str
    """As the pressure test wrote it, and the fixed one beside."""
    scores: Mapping[str, Score]
    missing: Mapping[str, str]
    """Variants that could not be played, and why."""
    verdict: Verdict | None
    """None: the joint policy was not among them."""
    notes: Sequence[str] = ()
    reasons: Sequence[Why] = ()
    """Of the joint policy, one a seed."""


def show(one: Shown) -> str:
    """Return a traffic's heading, its table, and the verdict."""
    title = (
        f"\n**{one.name}** ×{one.scale:g}, {one.hours:.1f} h, TTFT {one.ttft}, TBT 50 ms, "
        f"ratio {one.ratio}; the free oracle's mean is {one.instances:.0f} instances\n"
    )
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    lines += [_row(name, score) for name, score in one.scores.items()]
    lines += [
        f"| {name} | {why} |" + " |" * (len(COLUMNS) - 2) for name, why in one.missing.items()
    ]
    said = [] if one.verdict is None else ["", _verdict(one.verdict)]
    return "\n".join([title, *lines, *said, *one.notes])


def summary(every: Sequence[Shown]) -> str:
    """Return one table over all traffic: cost ÷ free oracle · percent met · reversals, verdict."""
    names = list(dict.fromkeys(name for one in every for name in (*one.scores, *one.missing)))
    lines = [
        "\nGPU-hours ÷ the free oracle's · percent of requests met · reversals\n",
        f"| traffic | {' | '.join(names)} | goal | where not, why |",
        "|---|" + "---|" * (len(names) + 2),
    ]
    for one in every:
        cells = [_cell(one, name) for name in names]
        said = one.verdict
        goal = "–" if said is None else "reached" if said.reached else "; ".join(said.failed)
        because = said.because if said else ""
        lines.append(f"| {one.name} | {' | '.join(cells)} | {goal} | {because} |")
    judged = [one.verdict for one in every if one.verdict is not None]
    reached = sum(one.reached for one in judged)
    return "\n".join([*lines, f"\nThe goal is reached on {reached} of {len(judged)}."])


def _cell(one: Shown, name: str) -> str:
    if name not in one.scores:
        return one.missing.get(name, "–")
    found = one.scores[name]
    return f"{found.cost:.2f} · {100 * found.joint:.2f} · {found.reversals:g}"


def _row(name: str, score: Score) -> str:
    shares = (f"{100 * share:.2f} %" for share in (score.joint, score.ttft, score.tbt))
    counts = (f"{count:g}" for count in (score.events, score.reversals))
    costs = (f"{cost:.2f}" for cost in (score.cost, score.cost_fixed))
    return f"| {' | '.join((name, *costs, *shares, *counts))} |"


def _verdict(one: Verdict) -> str:
    if one.reached:
        return "Goal: reached."
    return f"Goal: not reached: {'; '.join(one.failed)}. Why: {one.because or 'not told'}."
