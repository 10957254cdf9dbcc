"""Every placer on every small case, held against the best there is.

Three goals in this order: steps placed; GPUs of the high class consumed; pairs of prefill and decode over
the walls of the step's wished domain. The steps of a case are one cycle; three rules:

- *wishes*: they come by priority, and neither a step nor what it wishes may be given up for later ones:
  it is placed, then kept together in its domain, then on its first GPU types, and only then the next is
  looked at. That is what a strict priority means, and what our cycle is held to.
- *ordered*: they come by priority, and no step may be left out for later ones, but one may stand on any
  type it names and anywhere inside its walls if that helps a later one.
- *any order*: all are of one priority, and the best may leave out a large one for two small ones.

By the first two the best places a certain set of steps; counted is how many of that set a placer has
placed. Baselines take the steps as they come; ours takes them as the coordinator's cycle does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.placement.cases import LOADS, Case, random_case
from benchmarks.placement.exact import Solver
from benchmarks.placement.judge import Judge
from benchmarks.placement.keep import SOLVER, Kept
from benchmarks.placement.ours import Ours
from benchmarks.placement.placers import OURS, PLACERS

GOAL = 0.99
"""Of the most steps that can be placed, on average."""
EXACT = 1e-6


class Rule(NamedTuple):
    """What the best may do."""

    ordered: bool
    wishes: bool = False


RULES = {
    "wishes": Rule(ordered=True, wishes=True),
    "ordered": Rule(ordered=True),
    "any order": Rule(ordered=False),
}
BEST = "cp-sat"
"""The solver's name in the figures."""


@dataclass(frozen=True, slots=True)
class Score:
    """One placer on one case."""

    placed: int
    high: int
    """GPUs of the high class."""
    cross: float
    """Pairs over the walls of the wished domain."""
    share: float = 1.0
    """Of the steps that the best places: those of its set (ordered), or as many (any order)."""

    @property
    def key(self) -> tuple[float, float, float]:
        """The goals in their order, the smallest the best."""
        return -self.placed, self.high, round(self.cross, 6)


@dataclass(frozen=True, slots=True)
class Contest:
    """All placers and the solver on one case."""

    case: str
    load: str
    rule: str
    steps: int
    scores: Mapping[str, Score]
    proven: tuple[bool, bool, bool]
    """Whether the solver's values of the three goals are surely the best."""


def contests(
    cases: int, seconds: float, kept: Kept, say: Callable[[str], None], first: int = 0
) -> list[Contest]:
    """Play ``cases`` cases of each load; the solver has ``seconds`` for each goal of each.

    ``first``: the number of the first case; others than those from 0 on are cases nothing was chosen by.
    """
    found: list[Contest] = []
    with Solver(seconds) as solver:
        for load in LOADS:
            for seed in range(first, first + cases):
                one = kept.get(
                    f"quality-{load}-{seed}",
                    f"{seconds:g}",
                    lambda load=load, seed=seed: _play(load, seed, seconds, kept, solver),  # type: ignore[misc] # defaults are its own
                )
                found.extend(_contest(rule, one) for rule in RULES)
            say(f"quality: {cases} cases, {load}")
    return found


def _play(load: str, seed: int, seconds: float, kept: Kept, solver: Solver) -> dict[str, Any]:
    case = random_case(load, seed)
    found: dict[str, Any] = {"case": case.name, "load": load, "asked": len(case.asks)}
    played = {
        (name, ordered): _played(case, name, ordered=ordered)
        for name in PLACERS
        for ordered in (True, False)
    }
    for name, rule in RULES.items():
        scores = {one: played[one, rule.ordered] for one in PLACERS}
        found[name] = {
            "best": _best(case, rule, seconds, kept, solver),
            "scores": {n: {"steps": s, "high": h, "cross": c} for n, (s, h, c) in scores.items()},
        }
    return found


def _best(case: Case, rule: Rule, seconds: float, kept: Kept, solver: Solver) -> dict[str, Any]:
    """Return the best of a case, which other code of ours does not change."""
    problem = case.problem(ordered=rule.ordered, wishes=rule.wishes)
    return kept.get(
        f"best-{case.name}-{'wishes' if rule.wishes else 'ordered' if rule.ordered else 'any'}",
        f"{seconds:g} {json.dumps(problem)}",
        lambda: solver.solve(problem),
        code=SOLVER,
    )


def _played(case: Case, name: str, *, ordered: bool) -> tuple[list[int], int, float]:
    """Return which steps a placer placed, its GPUs of the high class, its pairs over walls."""
    placer, judge = PLACERS[name](case.nodes), Judge(case.nodes)
    if isinstance(placer, Ours):
        answers = placer.cycle(case.asks, ordered=ordered)
    else:
        answers = [placer.place(ask, (), 0.0) for ask in case.asks]
    steps, high, cross = list[int](), 0, 0.0
    for number, (ask, spots) in enumerate(zip(case.asks, answers, strict=True)):
        if spots is not None:
            judge.take(ask, spots)
            steps.append(number)
            high += judge.high(spots)
            cross += judge.crossing(spots, ask.placement.affinity)
    return steps, high, cross


def _contest(rule: str, found: Mapping[str, Any]) -> Contest:
    best = found[rule]["best"]
    wanted = best.get("steps", [])
    scores = {
        name: Score(
            len(had["steps"]), had["high"], had["cross"], _share(rule, had["steps"], wanted)
        )
        for name, had in found[rule]["scores"].items()
    }
    scores[BEST] = Score(len(wanted), best.get("high", 0), best.get("cross", 0))
    first, second, third = best["proven"]
    return Contest(
        found["case"], found["load"], rule, found["asked"], scores, (first, second, third)
    )


def _share(rule: str, had: Sequence[int], wanted: Sequence[int]) -> float:
    if not wanted:
        return 1.0
    count = len(set(had) & set(wanted)) if RULES[rule].ordered else len(had)
    return count / len(wanted)


# ---- what it came to -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A placer over many cases."""

    name: str
    of_best: float
    """Steps placed ÷ those of the best, mean over cases."""
    worst: float
    all_placed: float
    """Share of cases in which it placed as many as can be."""
    high_over: float
    """GPUs of the high class beyond the best, a step placed, where as many steps were."""
    cross_over: float
    """Pairs over walls beyond the best, a step placed, in the same cases."""


def rows(found: Sequence[Contest]) -> list[Row]:
    """Return a row for each placer, over the cases whose first goal is proven."""
    proven = [one for one in found if one.proven[0] and one.scores[BEST].placed]
    return [_row(name, proven) for name in PLACERS] if proven else []


def _row(name: str, found: Sequence[Contest]) -> Row:
    ratios = [one.scores[name].share for one in found]
    alike = [one for one in found if one.scores[name].share >= 1]
    steps = sum(one.scores[name].placed for one in alike) or 1
    high = sum(one.scores[name].high - one.scores[BEST].high for one in alike)
    cross = sum(one.scores[name].cross - one.scores[BEST].cross for one in alike)
    return Row(
        name,
        sum(ratios) / len(ratios),
        min(ratios),
        len(alike) / len(found),
        high / steps,
        cross / steps,
    )


@dataclass(frozen=True, slots=True)
class Duel:
    """Ours and one baseline over the cases in which both placed as many steps."""

    rival: str
    placed: tuple[int, int]
    """Steps of ours and of theirs, over all cases."""
    cases: int
    high: tuple[int, int]
    cross: tuple[float, float]
    beaten: int
    """Cases in which theirs is better in one goal and worse in none."""
    beats: int
    """The other way round."""

    @property
    def not_worse(self) -> bool:
        """Whether theirs, over all cases, is not better in one goal and worse in none."""
        ours = (-self.placed[0], self.high[0], self.cross[0])
        theirs = (-self.placed[1], self.high[1], self.cross[1])
        return not dominates(theirs, ours)


def duels(found: Sequence[Contest]) -> list[Duel]:
    """Return ours against each baseline; places are the same by wishes as ordered, so they count once."""
    once = [one for one in found if not RULES[one.rule].wishes]
    return [_duel(name, once) for name in PLACERS if name != OURS]


def _duel(rival: str, found: Sequence[Contest]) -> Duel:
    pairs = [(one.scores[OURS], one.scores[rival]) for one in found]
    alike = [(ours, theirs) for ours, theirs in pairs if ours.placed == theirs.placed]
    return Duel(
        rival,
        (sum(ours.placed for ours, _ in pairs), sum(theirs.placed for _, theirs in pairs)),
        len(alike),
        (sum(ours.high for ours, _ in alike), sum(theirs.high for _, theirs in alike)),
        (sum(ours.cross for ours, _ in alike), sum(theirs.cross for _, theirs in alike)),
        sum(dominates(theirs.key, ours.key) for ours, theirs in pairs),
        sum(dominates(ours.key, theirs.key) for ours, theirs in pairs),
    )


def dominates(left: Iterable[float], right: Iterable[float]) -> bool:
    """Return whether ``left`` is smaller somewhere and nowhere greater."""
    pairs = list(zip(left, right, strict=True))
    return all(a <= b + EXACT for a, b in pairs) and any(a < b - EXACT for a, b in pairs)


def losses(found: Sequence[Contest]) -> list[str]:
    """Return the cases in which ours placed fewer steps than can be, the worst first."""
    behind = [one for one in found if one.scores[OURS].share < 1]
    behind.sort(key=lambda one: (one.scores[OURS].share, one.case))
    return [
        f"{one.case}, {one.rule}: {one.scores[OURS].share:.0%} of {one.scores[BEST].placed} steps "
        f"({one.steps} asked)"
        for one in behind
    ]
