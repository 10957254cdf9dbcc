"""Short and long prompts are told apart by stretch; each role is tried on them, the other abounds."""

from __future__ import annotations

import numpy as np
import pytest

from heteroscale.words import Role
from heteroscale_workbench.pressure.journal import Journal
from heteroscale_workbench.pressure.lengths import Factors, factors_of, groups_of
from heteroscale_workbench.pressure.values import Counts, Goal, Limit, PressureError, Trial
from heteroscale_workbench.pressure.workload import Course, Workload

LIGHT = 1e-6
FASTEST = 10_000.0
"""Prompt tokens/s of a toy's prefill on prompts of no length."""


def workload(prompts: list[float], output: float = 100.0) -> Workload:
    """Return minutes of 600 requests, each minute of one length but for a spread that means out."""
    at = np.arange(len(prompts) * 600) / 10.0
    prompt = np.repeat(np.array(prompts), 600) * np.tile([0.5, 1.5], len(prompts) * 300)
    course = Course(at, prompt, np.full(len(at), output), np.ones(len(at)))
    return Workload([(round(p), round(output)) for p in prompt.tolist()], "toy", course)


def quiet(trial: Trial, held: bool) -> None:
    pass


class Slowing:
    """Prefill slows down as prompts grow, decode does not; whoever exceeds ``longest`` is never met."""

    def __init__(self, workload: Workload, label: str = "", longest: float = 1e9) -> None:
        self.label, self.prompt = label, workload.mean_prompt
        self.hopeless = self.prompt > longest

    def first_rate(self, counts: Counts) -> float:
        return 1.0

    def light_rate(self, counts: Counts) -> float:
        return LIGHT

    async def stand(self, counts: Counts) -> None:
        pass

    async def load(self, counts: Counts, rate: float) -> Trial:
        prefill = counts.prefill * FASTEST / (1 + self.prompt / 1000) / self.prompt
        held = rate <= min(prefill, counts.decode * 3.0) and not self.hopeless
        return Trial(counts, rate, float(held), rate * self.prompt, rate * 100, 0.1, 0.02)


def test_groups_are_the_shortest_the_middle_and_the_longest_stretches() -> None:
    found = groups_of(workload([1000.0] * 4 + [2000.0] * 12 + [4000.0] * 4), seed=0)
    assert [one.prompt for one in found] == pytest.approx([1000, 2000, 4000])
    # What is drawn has the stretches' own spread, not their mean alone.
    assert {prompt for prompt, _ in found[1].workload.lengths} == {1000, 3000}
    assert found[2].workload.name == "toy, prompts of 4000"


def test_prompts_that_never_move_are_no_groups() -> None:
    assert groups_of(workload([1000.0, 1040.0] * 20), seed=0) == ()
    assert groups_of(Workload([(1000, 100)], "stated"), seed=0) == ()


async def factors(longest: float = 1e9, lengths: tuple[float, ...] = (1000, 1500, 2000)) -> Factors:
    whole = workload([one for one in lengths for _ in range(10)])
    return await factors_of(
        groups_of(whole, seed=0),
        lambda requests, label: Slowing(requests, label, longest),
        whole,
        Limit(Counts(2, 2), None, 0),
        Goal(tolerance=0.01, max_trials=60),
        journal=Journal(None, {}),
        tell=quiet,
    )


async def test_a_role_that_slows_down_has_factors_and_one_that_does_not_has_ones() -> None:
    found = await factors()
    points = found[Role.PREFILL]
    assert len(points) == 3
    prompts = sorted(points)
    assert points[prompts[0]] / points[prompts[2]] == pytest.approx(
        (1 + prompts[2] / 1000) / (1 + prompts[0] / 1000), rel=0.03
    )
    assert list(found[Role.DECODE].values()) == pytest.approx([1, 1, 1], rel=0.02)


async def test_lengths_that_nobody_serves_in_time_give_no_factor() -> None:
    found = await factors(longest=1600)
    assert len(found[Role.PREFILL]) == len(found[Role.DECODE]) == 2
    with pytest.raises(PressureError, match="at a light load"):
        await factors(longest=1100)


async def test_without_groups_nothing_is_tried() -> None:
    assert await factors(lengths=(1000, 1000)) == {}
