"""How fast an instance is where prompts are short and where they are long: factors on its target.

Tokens of long prompts take longer: attention at prefill, the KV cache at decode. A service whose prompts
are longer at noon than at night has no one number for its instances. So the stretches of a recording are
ordered by their mean prompt, and of the shortest and the longest and what is between requests are drawn
and driven to their limit, each role in turn while the other abounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heteroscale.words import Role
from heteroscale_workbench.pressure.band import stretches
from heteroscale_workbench.pressure.finding import limit_alone
from heteroscale_workbench.pressure.journal import Journal
from heteroscale_workbench.pressure.search import Tell
from heteroscale_workbench.pressure.values import Bench, Goal, Limit, PressureError
from heteroscale_workbench.pressure.workload import Course, Workload, drawn

EDGES = (0.2, 0.8)
"""Shares of requests that come in stretches of the shortest prompts, and before the longest."""
APART = 1.1
"""Mean prompts of the longest and the shortest stretches differ by this factor, or all are alike."""
Factors = Mapping[Role, Mapping[int, float]]
"""By role: mean prompt tokens, and the factor on its target there. Empty: the same at every length."""


@dataclass(frozen=True, slots=True)
class Group:
    """Requests of stretches with alike prompts."""

    prompt: float
    """Their mean prompt tokens."""
    workload: Workload


def groups_of(workload: Workload, seed: int) -> Sequence[Group]:
    """Return the requests of the shortest, the middle and the longest stretches; () if all are alike."""
    course = workload.course
    if course is None:
        return ()
    index, _ = stretches(course)
    tokens = np.bincount(index, course.prompt * course.weight)
    requests = np.bincount(index, course.weight)
    means = np.divide(tokens, requests, out=np.zeros_like(tokens), where=requests > 0)
    order = np.argsort(means, kind="stable")
    before = np.cumsum(requests[order]) - requests[order] / 2
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.searchsorted(EDGES, before / requests.sum())
    found = [
        _group(workload, course, place[index] == number, seed)
        for number in range(len(EDGES) + 1)
        if (place[index] == number).any()
    ]
    return found if found[-1].prompt > APART * found[0].prompt else ()


def _group(workload: Workload, course: Course, rows: np.ndarray, seed: int) -> Group:
    weight = course.weight[rows]
    prompt = float((course.prompt[rows] * weight).sum() / weight.sum())
    lengths = drawn(course.prompt[rows], course.output[rows], weight, seed)
    return Group(prompt, Workload(lengths, f"{workload.name}, prompts of {prompt:.0f}"))


async def factors_of(
    groups: Sequence[Group],
    bench: Callable[[Workload, str], Bench],
    whole: Workload,
    best: Limit,
    goal: Goal,
    *,
    journal: Journal,
    tell: Tell,
) -> Factors:
    """Return each role's factors; a group whose requests nobody can serve in time gives none.

    Raises:
        PressureError: the bench cannot go on.

    """
    found: dict[Role, dict[int, float]] = {}
    for role in (Role.PREFILL, Role.DECODE) if groups else ():
        middle = await limit_alone(
            bench(whole, "all prompts"), role, best, goal, journal=journal, tell=tell
        )
        for group in groups:
            label = f"prompts of {group.prompt:.0f}"
            try:
                limit = await limit_alone(
                    bench(group.workload, label), role, best, goal, journal=journal, tell=tell
                )
            except PressureError:
                continue
            found.setdefault(role, {})[round(group.prompt)] = limit / middle
    return found
