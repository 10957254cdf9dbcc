"""Why a run missed what it missed, and what its GPU-hours beyond the oracle's were spent on.

Everything is read from the run's own tables (``heteroscale simulate --export``), by the minute.

A minute's misses (arrived, not met) have one cause:

- *rise*: within one start-up time after the free oracle's need of a role rose by more than the head-room
  that the goal pays for, and by more than one instance. Nobody who learns of it as it comes has instances
  for it by then.
- *late*: the same, but a rival served them all the same: with a reserve that it held, or sooner.
- *short*: no such rise, and a role had fewer in service than the oracle.
- *burst*: neither: enough for the minute's need, too few for a second of it, or a queue that formed for
  other reasons.

Where there was enough in service, but the minutes before missed too, without a break, their queue is what
was missed: the cause is theirs.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heteroscale_simulator.measures.scaling import REVERSAL_WITHIN

MINUTE = 60
HEADROOM = 0.15
"""The goal is 1.15 × the oracle: a rise beyond that is beyond any head-room within the goal."""
UNBROKEN = 0.99
"""A minute below this attainment still has the queue of the one before."""
CAUSES = ("rise", "late", "short", "burst")
STARTING = frozenset({"pending", "launching", "warming"})
ROLES = ("prefill", "decode")
Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Minute:
    """A minute of a run."""

    arrived: float
    missed: float
    have: Mapping[str, float]
    """Mean instances in service by role."""
    need: Mapping[str, float]
    """The free oracle's."""

    @property
    def short(self) -> tuple[str, ...]:
        """Roles with fewer in service than the oracle."""
        return tuple(role for role in ROLES if self.have[role] < self.need[role] - 0.05)


@dataclass(frozen=True)
class Why:
    """What a run's misses and GPU-hours come from. Shares are 0 to 1."""

    causes: Mapping[str, float]
    """Of the misses, by cause; empty where nothing was missed."""
    short_roles: Mapping[str, float]
    """Of the misses for want of instances, by role that was short; both may be."""
    ttft: float
    """Of the arrived, without a first token in time."""
    tbt: float
    """Of the arrived, too slow between tokens or never finished."""
    over: Mapping[str, float]
    """GPU-hours beyond the free oracle's, as a share of its own: starting, withdrawn, draining, beyond
    (in service beyond its counts), less short (below them). The sum is the whole difference."""
    turns: Mapping[str, int] = field(default_factory=dict)
    """Reversals by what turned: the action, the role, and what bound it."""


def minutes_in(tables: Path, policy: str) -> list[Minute]:
    """Return one policy's minutes out of tables that may be of several."""
    counts, cohorts = _rows(tables / "counts.csv"), _rows(tables / "cohorts.csv")
    return minutes_of(
        [row for row in counts if row["policy"] == policy],
        [row for row in cohorts if row["policy"] == policy],
    )


def why(tables: Path, startup: float, beside: Sequence[Minute] | None = None) -> Why:
    """Return why, from the tables of one service under one policy.

    Args:
        tables: the folder.
        startup: seconds.
        beside: a rival's minutes on the same traffic, for what is *late*; None: nothing is.

    """
    counts, cohorts = _rows(tables / "counts.csv"), _rows(tables / "cohorts.csv")
    minutes = minutes_of(counts, cohorts)
    causes = causes_of(minutes, math.ceil(startup / MINUTE))
    lost: dict[str, float] = defaultdict(float)
    short: dict[str, float] = defaultdict(float)
    for minute, rival, cause in zip(minutes, beside or minutes, causes, strict=True):
        late = max(0.0, minute.missed - rival.missed) if cause == "rise" else 0.0
        lost["late"] += late
        lost[cause] += minute.missed - late
        for role in minute.short if cause == "short" else ():
            short[role] += minute.missed
    total, arrived = sum(lost.values()), sum(one.arrived for one in minutes)
    oracle = [row for row in _rows(tables / "limits.csv") if row["limit"] == "oracle-free"]
    return Why(
        causes={cause: lost[cause] / total for cause in CAUSES} if total > 0 else {},
        short_roles={r: short[r] / lost["short"] for r in ROLES} if lost["short"] > 0 else {},
        ttft=max(0.0, 1 - _sum(cohorts, "ttft_met") / arrived) if arrived else 0.0,
        tbt=max(0.0, 1 - _sum(cohorts, "tbt_met") / arrived) if arrived else 0.0,
        turns=turns_of(_rows(tables / "decisions.csv")),
        over=over_of(_rows(tables / "intervals.csv"), oracle, minutes, len(cohorts)),
    )


def minutes_of(counts: Iterable[Row], cohorts: Iterable[Row]) -> list[Minute]:
    """Return a run's minutes; requests are booked at about their second of arrival."""
    arrived: dict[int, float] = defaultdict(float)
    met: dict[int, float] = defaultdict(float)
    for row in cohorts:
        minute = int(row["second"]) // MINUTE
        arrived[minute] += _number(row["arrived"])
        met[minute] += _number(row["met"])
    return [
        Minute(
            arrived[index],
            max(0.0, arrived[index] - met[index]),
            {role: _number(row[f"{role}_in_service"]) for role in ROLES},
            {role: _number(row[f"oracle_{role}"]) for role in ROLES},
        )
        for index, row in enumerate(counts)
    ]


def causes_of(minutes: list[Minute], startup: int) -> list[str]:
    """Return each minute's cause; ``startup`` in minutes, rounded up."""
    found: list[str] = []
    for index, minute in enumerate(minutes):
        before = minutes[max(0, index - startup)]
        queue = found and minutes[index - 1].missed > (1 - UNBROKEN) * minutes[index - 1].arrived
        if any(_leapt(before.need[role], minute.need[role]) for role in ROLES):
            found.append("rise")
        elif minute.short:
            found.append("short")
        else:
            found.append(found[-1] if queue else "burst")
    return found


def _leapt(before: float, now: float) -> bool:
    return now > max((1 + HEADROOM) * before, before + 1)


def turns_of(decisions: Iterable[Row]) -> dict[str, int]:
    """Return the reversals by what turned; a decision that turns both roles is one of each.

    As ``measures.scaling.reversals``: a role's count goes the other way soon after its last change.
    """
    last: dict[str, tuple[float, bool]] = {}
    found: dict[str, int] = defaultdict(int)
    for row in decisions:
        at = _number(row["second"])
        for role in ROLES:
            change = _number(row[f"{role}_delta"])
            if not change:
                continue
            grows = change > 0
            if role in last and last[role][1] != grows and at - last[role][0] <= REVERSAL_WITHIN:
                found[f"{row['action']} of {role} by {row['bound_by']}"] += 1
            last[role] = (at, grows)
    return dict(found)


def over_of(
    held: Iterable[Row], oracle: Iterable[Row], minutes: list[Minute], seconds: int
) -> dict[str, float]:
    """Return GPU-hours beyond the oracle's by what they were, as shares of the oracle's."""
    own, limit = _by_state(held, seconds), _by_state(oracle, seconds)
    whole = sum(limit.values())
    gap = {state: own[state] - limit[state] for state in ("starting", "withdrawn", "draining")}
    beyond = sum(max(0.0, one.have[role] - one.need[role]) for one in minutes for role in ROLES) * (
        MINUTE / 3600
    )
    gap["beyond"] = beyond
    gap["short"] = own["in_service"] - limit["in_service"] - beyond
    return {state: hours / whole for state, hours in gap.items()} if whole > 0 else {}


def _by_state(rows: Iterable[Row], seconds: int) -> dict[str, float]:
    hours: dict[str, float] = defaultdict(float)
    for row in rows:
        begin, end = max(0.0, _number(row["begin"])), min(float(seconds), _number(row["end"]))
        state = "starting" if row["state"] in STARTING else row["state"]
        hours[state] += max(0.0, end - begin) * _number(row["gpus"]) / 3600
    return hours


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _sum(rows: Iterable[Row], column: str) -> float:
    return sum(_number(row[column]) for row in rows)


def _number(text: str) -> float:
    return float(text) if text else 0.0
