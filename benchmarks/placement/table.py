"""The tables that the benchmark prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.placement.cases import LOADS
from benchmarks.placement.churn import Week
from benchmarks.placement.placers import OURS
from benchmarks.placement.quality import GOAL, RULES, Contest, duels, losses, rows
from benchmarks.placement.speed import Figures
from benchmarks.placement.sweep import goals

SAID = 5


def text(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, its columns as wide as their cells."""
    lines = [list(head), *map(list, body)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    cells = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([cells[0], rule, *cells[1:]])


def quality(found: Sequence[Contest]) -> str:
    """Return what the contests came to, by rule and load, and the goals."""
    parts = []
    for rule in RULES:
        mine = [one for one in found if one.rule == rule]
        parts.append(_against_best(rule, mine))
    lost = losses(found)
    said = [f"behind: {line}" for line in lost[:SAID]]
    said += [f"behind: {len(lost) - SAID} more"] if len(lost) > SAID else []
    return "\n\n".join(
        [*parts, _together(found), _duels(found), "\n".join([*said, quality_goal(found)])]
    )


def _against_best(rule: str, found: Sequence[Contest]) -> str:
    head = (rule, "placer", "of the best", "worst case", "as many", "high GPUs over", "pairs over")
    body = [
        (
            load,
            row.name,
            f"{row.of_best:.2%}",
            f"{row.worst:.0%}",
            f"{row.all_placed:.1%}",
            f"{row.high_over:.2f}",
            f"{row.cross_over:.2f}",
        )
        for load in (*LOADS, "all")
        for row in rows([one for one in found if load in (one.load, "all")])
    ]
    steps, high, pairs = (sum(one.proven[goal] for one in found) for goal in range(3))
    proven = f"{len(found)} cases, proven best: steps {steps}, high {high}, pairs {pairs}"
    return f"{text(head, body)}\n{proven}"


def _together(found: Sequence[Contest]) -> str:
    """Return all loads together: a row for each placer, a column for each rule."""
    found_by = {rule: rows([one for one in found if one.rule == rule]) for rule in RULES}
    by_rule = {rule: its for rule, its in found_by.items() if its}
    first = next(iter(by_rule), "")
    head = (
        "all loads",
        *by_rule,
        *(f"high over, {rule}" for rule in by_rule),
        f"pairs over, {first}",
    )
    body = [
        (
            ours[0].name,
            *(f"{row.of_best:.2%}" for row in ours),
            *(f"{row.high_over:.2f}" for row in ours),
            f"{ours[0].cross_over:.2f}",
        )
        for ours in zip(*by_rule.values(), strict=True)
    ]
    return text(head, body)


def _duels(found: Sequence[Contest]) -> str:
    head = ("against", "steps ours : theirs", "alike", "high GPUs", "pairs over", "beats", "beaten")
    return text(
        head,
        [
            (
                one.rival,
                f"{one.placed[0]} : {one.placed[1]}",
                f"{one.cases}",
                f"{one.high[0]} : {one.high[1]}",
                f"{one.cross[0]:.0f} : {one.cross[1]:.0f}",
                f"{one.beats}",
                f"{one.beaten}" + ("" if one.not_worse else " WORSE"),
            )
            for one in duels(found)
        ],
    )


def quality_goal(found: Sequence[Contest]) -> str:
    """Say whether the goals are met."""
    said = []
    for rule in RULES:
        ours = [row for row in rows([o for o in found if o.rule == rule]) if row.name == OURS]
        met = bool(ours) and ours[0].of_best >= GOAL
        share = f"{ours[0].of_best:.2%}" if ours else "nothing"
        said.append(f"{rule} {share} of the best: {'met' if met else 'MISSED'}")
    worse = [one.rival for one in duels(found) if not one.not_worse]
    last = f"MISSED ({', '.join(worse)})" if worse else "met"
    return f"goal of {GOAL:.0%}: {'; '.join(said)}; Pareto-not-worse than every baseline: {last}"


def churn(found: Sequence[Week]) -> str:
    """Return what the weeks came to, and who was better in what."""
    first = found[0]
    head = (
        *(
            "placer",
            "refused",
            "not served",
            "high-class waste",
            "over S2",
            "fragmented",
            "KV lost",
        ),
        "ms a step",
    )
    body = [
        (
            week.placer,
            f"{week.refused / max(week.asked, 1):.2%}",
            f"{week.unserved:.2%}",
            f"{week.high_waste:.1%}",
            f"{week.cross_s2:.1%}",
            f"{week.fragmented:.1%}",
            f"{week.kv_lost:.1%}",
            f"{1000 * week.seconds / max(week.asked, 1):.1f}",
        )
        for week in found
    ]
    told = (
        f"churn: {first.nodes:,} nodes, {first.gpus:,} sound GPUs, {first.services:,} services lived, "
        f"{min(week.asked for week in found):,} to {max(week.asked for week in found):,} steps asked"
    )
    return f"{told}\n\n{text(head, body)}"


def speed(found: Sequence[Figures]) -> str:
    """Return the sweep, absolute and in calibration loops, and its goals."""
    head = (
        *("nodes", "services", "build s", "view MiB", "update µs", "step ms", "p99", "no, ms"),
        *("cycle s", "loops", "in 20 ms", "longest ms", "loop ms"),
    )
    body = [
        (
            f"{one.nodes:,}",
            f"{one.services:,}",
            f"{one.build_s:.2f}",
            f"{one.view_mib:.0f}",
            f"{one.update_us:.0f}",
            f"{one.step_ms:.2f}",
            f"{one.step_p99_ms:.1f}",
            f"{one.no_ms:.2f}",
            f"{one.cycle_s:.2f}",
            f"{1000 * one.cycle_s / one.loop_ms:.1f}",
            f"{one.pieces_in_time:.1%}",
            f"{one.longest_ms:.1f}",
            f"{one.loop_ms:.0f}",
        )
        for one in found
    ]
    said = [
        (one.name, one.wanted, one.came, "met" if one.met else "MISSED") for one in goals(found)
    ]
    return f"{text(head, body)}\n\n{text(('goal', 'wanted', 'came out', ''), said)}"
