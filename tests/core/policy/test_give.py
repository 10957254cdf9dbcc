"""Giving in a shortage, as one service's policy sees it: how much, never below what, and then what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale_coordinator.core import sums
from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.memory.stability import StabilityMemory
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import ServiceView, decide, give, ratio
from heteroscale_coordinator.core.policy.view import Short
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.policy.build import (
    NOW,
    D,
    P,
    decoding,
    many,
    prefilling,
    spec_of,
    starting,
    view_of,
    withdrawn,
)

BUSY = decoding(1300)
"""More than its target: by its own demand the service would grow."""


def short(gpus: int = 3, prefill: int = 9, decode: int = 9) -> Short:
    return Short("chat", gpus, {P: prefill, D: decode}, frozenset({"i-x"}))


def lowly(
    *, hourly: float = 1.0, essential: tuple[int, int] | None = None, **more: Any
) -> ServiceSpec:
    spec = spec_of(shortage={"hourly": hourly}, **more)
    if essential is None:
        return spec
    roles = {
        role: rules.model_copy(update={"essential": n})
        for (role, rules), n in zip(spec.roles.items(), essential, strict=True)
    }
    return spec.model_copy(update={"roles": roles})


def view(
    asked: Short | None, prefill: int = 4, decode: int = 8, spec: ServiceSpec | None = None
) -> ServiceView:
    members = (*many(prefill, P, prefilling(6000)), *many(decode, D, BUSY))
    return view_of(spec or lowly(), *members, short=asked)


def test_it_gives_what_is_asked_in_ratio_whatever_its_own_demand() -> None:
    found = decide(view(short(3)))
    assert (found.action, found.bound_by) == (Action.SCALE_IN, "shortage")
    assert found.delta == {P: 1, D: 2}
    assert found.reason.startswith("Chat of higher priority needs 3 GPUs: 1 prefill, 2 decode")
    assert found.prefer == {"i-x"}
    soft = found.done.soft
    assert soft is not None
    assert (soft.cause, soft.gpus, soft.until - NOW) == ("shortage", 3, 15.0)
    assert found.done.wanted == {P: 3, D: 6}
    assert found.done.stability.given == ((NOW, 3),)
    assert found.done.stability.reversal_count == 0


def test_without_a_shortage_the_same_service_grows() -> None:
    assert decide(view(None)).action is Action.SCALE_OUT


def test_it_never_shrinks_below_its_essential_counts() -> None:
    spec = lowly(essential=(3, 6))
    assert decide(view(short(9), spec=spec)).delta == {P: 1, D: 2}
    held = decide(view(short(9), 3, 6, spec=spec))
    assert (held.action, held.bound_by) == (Action.HOLD, "shortage")
    assert "essential counts, ratio or hourly budget" in held.reason


def test_at_the_floor_it_takes_nothing_that_the_other_needs() -> None:
    waiting = decide(view(short(0)))
    assert (waiting.action, waiting.bound_by) == (Action.HOLD, "shortage")
    assert "chat, of higher priority, has no place" in waiting.reason


def test_what_dies_meanwhile_is_launched_up_to_the_essential_counts_only() -> None:
    spec = lowly(essential=(2, 4))
    memory = PolicyMemory(wanted={P: 4, D: 8})
    members = (*many(2, P, prefilling(6000)), *many(6, D, BUSY))
    above = decide(view_of(spec, *members, memory=memory, short=short(0)))
    assert (above.action, above.bound_by) == (Action.HOLD, "shortage")
    members = (*many(2, P, prefilling(6000)), *many(3, D, BUSY))
    below = decide(view_of(spec, *members, memory=memory, short=short(0)))
    assert (below.action, below.delta) == (Action.REPAIR, {D: 1})


def handing_over(
    ago: float, *extra: Any, asked: Short | None, cause: Literal["", "shortage"] = "shortage"
) -> Verdict:
    soft = SoftScaleIn("dec-1", NOW - ago, NOW - ago + 15, 100.0, cause=cause, gpus=3)
    memory = PolicyMemory(wanted={P: 3, D: 6}, soft=soft, last_in_at=NOW - ago)
    members = (*many(3, P, prefilling(6000)), *many(6, D, BUSY), withdrawn(P), withdrawn(D), *extra)
    return decide(view_of(lowly(), *members, memory=memory, short=asked))


def test_while_the_shortage_lasts_nothing_comes_back_and_it_is_drained_soon() -> None:
    early = handing_over(5, asked=short(0))
    assert (early.action, early.bound_by) == (Action.HOLD, "shortage")
    late = handing_over(16, asked=short(0))
    assert (late.action, late.bound_by) == (Action.FINISH_SCALE_IN, "shortage")
    assert late.delta == {P: 1, D: 1}
    assert late.done.soft is not None
    assert late.done.soft.gpus == 0


def test_when_it_is_over_before_they_are_drained_they_come_back_by_demand() -> None:
    assert handing_over(5, asked=None).action is Action.REINSTATE


def test_an_ordinary_soft_scale_in_is_cut_short_by_a_shortage() -> None:
    assert handing_over(16, asked=short(3), cause="").action is Action.FINISH_SCALE_IN


def test_the_hourly_budget_holds_and_comes_back() -> None:
    spec = lowly(hourly=0.25)
    assert decide(view(short(9), spec=spec)).delta == {P: 1, D: 2}, "a quarter of 12"
    for ago, action in ((10.0, Action.HOLD), (give.HOUR, Action.SCALE_IN)):
        memory = PolicyMemory(
            wanted={P: 4, D: 8}, stability=StabilityMemory(given=((NOW - ago, 3),))
        )
        found = decide(replace(view(short(9), spec=spec), memory=memory))
        assert found.action is action
    assert decide(view(short(9), spec=lowly(hourly=0.0))).action is Action.HOLD


def test_instances_still_starting_are_not_what_it_gives() -> None:
    members = (*many(2, P, prefilling(6000)), *many(2, D, BUSY), starting(D), starting(D))
    found = decide(view_of(lowly(essential=(1, 2)), *members, short=short(9)))
    assert found.action is Action.HOLD


@settings(max_examples=200, deadline=None)
@given(
    counts=st.tuples(st.integers(1, 6), st.integers(1, 10)),
    floors=st.tuples(st.integers(1, 4), st.integers(1, 6)),
    asked=st.builds(short, st.integers(0, 12), st.integers(0, 6), st.integers(0, 10)),
    hourly=st.sampled_from([0.0, 0.1, 0.25, 1.0]),
    band=st.sampled_from([0.5, {"min": 0.25, "max": 1.0}]),
)
def test_claims_of_giving(
    counts: tuple[int, int],
    floors: tuple[int, int],
    asked: Short,
    hourly: float,
    band: Any,
) -> None:
    """Named claims: never below essential, never out of ratio, never over budget, never for nothing."""
    spec = lowly(hourly=hourly, essential=floors, ratio=band)
    found = decide(view(asked, *counts, spec=spec))
    assert found.action in (Action.HOLD, Action.SCALE_IN, Action.REPAIR)
    if found.bound_by != "shortage" or found.action is not Action.SCALE_IN:
        return
    after = {P: counts[0] - found.delta.get(P, 0), D: counts[1] - found.delta.get(D, 0)}
    assert asked.gpus > 0
    assert after[P] >= min(counts[0], floors[0])
    assert after[D] >= min(counts[1], floors[1])
    assert ratio.permitted(counts, (after[P], after[D]), spec.ratio)
    left = give.budget(PolicyMemory(), spec, sum(counts), NOW)
    assert sums.replay(left) == left.value
    assert sum(found.delta.values()) <= left.value
    assert found.done.soft is not None
    assert found.done.soft.gpus > 0
