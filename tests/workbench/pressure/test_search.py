"""The search finds the limit, resumes where it was, and says what makes no sense."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.words import Role
from heteroscale_workbench.pressure.finding import (
    Finding,
    limit_alone,
    pressure_test,
    splits_of,
    target_of,
)
from heteroscale_workbench.pressure.journal import Journal
from heteroscale_workbench.pressure.search import limit_of
from heteroscale_workbench.pressure.values import Counts, Goal, Limit, PressureError, Trial

GOAL = Goal(attainment=0.99, tolerance=0.03)
LIGHT = 1e-6
"""Requests/s that a toy always holds."""
WHAT = {"service": "chat"}


class Toy:
    """Holds what both roles carry; a request is 1,000 prompt tokens and 100 generated ones."""

    label = ""

    def __init__(
        self, prefill: float = 5000.0, decode: float = 300.0, ceiling: float = 1.0
    ) -> None:
        self.prefill, self.decode, self.ceiling = prefill, decode, ceiling
        self.stood: list[Counts] = []
        self.loads: list[float] = []
        self.cut_off_after: int | None = None

    def limit(self, counts: Counts) -> float:
        return min(counts.prefill * self.prefill / 1000, counts.decode * self.decode / 100)

    def first_rate(self, counts: Counts) -> float:
        return 1.0

    def light_rate(self, counts: Counts) -> float:
        return LIGHT

    async def stand(self, counts: Counts) -> None:
        self.stood.append(counts)

    async def load(self, counts: Counts, rate: float) -> Trial:
        if self.cut_off_after is not None and len(self.loads) >= self.cut_off_after:
            raise KeyboardInterrupt
        self.loads.append(rate)
        met = self.ceiling if rate <= self.limit(counts) or rate == LIGHT else 0.5
        return Trial(counts, rate, met, rate * 1000, rate * 100, 0.1, 0.02)


def quiet(trial: Trial, held: bool) -> None:
    pass


@given(st.floats(0.01, 1e4), st.floats(1e-4, 100.0))
async def test_the_limit_is_found_from_wherever_the_search_begins(limit: float, off: float) -> None:
    first = limit * off
    toy = Toy(prefill=limit * 1000, decode=1e9)
    goal = Goal(tolerance=0.03, max_trials=60)
    found = await limit_of(toy, Counts(1, 1), first, goal, journal=Journal(None, {}), tell=quiet)
    assert found.trial is not None
    assert found.trial.rate <= limit
    assert found.trial.rate > limit / 1.031
    assert found.trials == len(toy.loads)


async def test_a_deployment_that_holds_nothing_has_no_limit() -> None:
    toy = Toy(prefill=0.0)
    found = await limit_of(toy, Counts(1, 1), 8.0, GOAL, journal=Journal(None, {}), tell=quiet)
    assert found.trial is None


async def test_loads_that_are_held_without_end_are_given_up() -> None:
    toy = Toy(prefill=1e12, decode=1e12)
    with pytest.raises(PressureError, match="1P1D: no limit after 24 loads"):
        await limit_of(toy, Counts(1, 1), 1.0, GOAL, journal=Journal(None, {}), tell=quiet)


async def test_the_best_split_lies_inside_and_follows_the_service() -> None:
    async def ratio(toy: Toy) -> str:
        found = await pressure_test(
            toy, splits_of(16), 1.0, GOAL, journal=Journal(None, {}), tell=quiet
        )
        assert len(found.limits) == 15
        return found.ratio

    assert await ratio(Toy(prefill=5000, decode=500)) == "1:1"
    assert await ratio(Toy(prefill=3000, decode=700)) == "11:5"


async def test_targets_come_from_splits_that_drive_each_role_to_its_limit() -> None:
    toy = Toy(prefill=5000, decode=300)
    found = await pressure_test(toy, splits_of(6), 1.0, GOAL, journal=Journal(None, {}), tell=quiet)
    limits = found.limits_per_instance()
    assert limits[Role.PREFILL] == pytest.approx(5000, rel=0.031)
    assert limits[Role.DECODE] == pytest.approx(300, rel=0.031)
    assert target_of(110.0, 0.1) == pytest.approx(100.0)


async def test_nothing_held_anywhere_is_said() -> None:
    with pytest.raises(PressureError, match="no deployment held any load"):
        await pressure_test(
            Toy(prefill=0.0), splits_of(3), 1.0, GOAL, journal=Journal(None, {}), tell=quiet
        )


async def test_who_misses_alone_is_no_fault_of_the_load() -> None:
    """0.985 is below the 0.99 that is wanted, and yet each load is as good as the lightest."""

    async def found(ceiling: float) -> Finding:
        toy = Toy(ceiling=ceiling)
        return await pressure_test(
            toy, splits_of(4), 1.0, GOAL, journal=Journal(None, {}), tell=quiet
        )

    whole, part = await found(1.0), await found(0.985)
    assert part.limits_per_instance() == whole.limits_per_instance()
    assert (whole.ceiling, part.ceiling) == (1.0, 0.985)


def test_load_may_miss_what_the_ceiling_leaves_but_half_of_it_at_least() -> None:
    assert GOAL.below(1.0) == GOAL
    assert GOAL.below(0.997) == GOAL
    assert GOAL.below(0.993).attainment == pytest.approx(0.988)
    assert GOAL.below(0.95).attainment == pytest.approx(0.945)


async def test_a_ceiling_is_measured_where_most_of_both_roles_stand_and_kept() -> None:
    toy, journal = Toy(), Journal(None, {})
    await pressure_test(toy, splits_of(6), 1.0, GOAL, journal=journal, tell=quiet)
    assert toy.loads[0] == LIGHT
    assert toy.stood[0] == Counts(3, 3)
    assert toy.loads.count(LIGHT) == 1


async def test_an_slo_that_idle_engines_miss_is_refused() -> None:
    with pytest.raises(
        PressureError, match=r"at a light load only 85\.0 % of the requests are met"
    ):
        await pressure_test(
            Toy(ceiling=0.85), splits_of(3), 1.0, GOAL, journal=Journal(None, {}), tell=quiet
        )


async def test_another_type_is_held_against_its_own_ceiling() -> None:
    toy, journal = Toy(), Journal(None, {})
    best = Limit(Counts(1, 1), None, 0)
    whole = await limit_alone(toy, Role.DECODE, best, GOAL, journal=journal, tell=quiet)
    toy = Toy(ceiling=0.95)
    part = await limit_alone(toy, Role.DECODE, best, GOAL, journal=Journal(None, {}), tell=quiet)
    assert part == whole


async def run(toy: Toy, path: Path) -> tuple[str, list[float]]:
    seen: list[float] = []
    found = await pressure_test(
        toy,
        splits_of(5),
        1.0,
        GOAL,
        journal=Journal(path, WHAT),
        tell=lambda trial, _: seen.append(trial.rate),
    )
    return found.ratio, seen


async def test_an_interrupted_test_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = Toy()
    expected = await run(whole, tmp_path / "whole.jsonl")
    first, path = Toy(), tmp_path / "journal.jsonl"
    first.cut_off_after = 14
    with pytest.raises(KeyboardInterrupt):
        await run(first, path)
    second = Toy()
    assert await run(second, path) == expected
    assert first.loads + second.loads == whole.loads
    # What was tested to its end is not even set up again.
    assert second.stood[0] == first.stood[-1]


async def test_a_line_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    await run(Toy(), path)
    whole = path.read_text()
    path.write_text(whole[:-20])
    again = Toy()
    await run(again, path)
    assert len(again.loads) == 1
    assert path.read_text() == whole


def test_the_journal_of_another_test_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, WHAT)
    with pytest.raises(PressureError, match="journal of another test"):
        Journal(path, {"service": "other"})


BROKEN: list[tuple[Callable[[str], str], str]] = [
    (lambda text: "garbage\n" + text, "line 1 is no JSON"),
    (lambda text: text + "[1, 2]\n" + json.dumps({}) + "\n", "line 2 is no JSON object"),
    (lambda text: text + '{"counts": [1, 1], "speed": 3}\n' + "{}\n", "line 2: .*speed"),
]


@pytest.mark.parametrize(("spoil", "message"), BROKEN)
def test_garbage_in_a_journal_names_its_line(
    tmp_path: Path, spoil: Callable[[str], str], message: str
) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, WHAT)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(PressureError, match=message):
        Journal(path, WHAT)


def test_a_journal_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(PressureError, match="No such file"):
        Journal(tmp_path / "no" / "such" / "folder.jsonl", WHAT)
