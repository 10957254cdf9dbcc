"""Role switch: when one changes sides, and every reason why none does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.memory.ratio import RatioMemory
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import Member, ServiceView, decide, ratio
from tests.core.policy.build import (
    NOW,
    D,
    P,
    aggregated_spec,
    decoding,
    many,
    prefilling,
    spec_of,
    starting,
    view_of,
)
from tests.core.policy.test_claims import views

ON = {"switch_roles": True}
BAND = {"min": 0.25, "max": 2.0}
BUSY, CALM = prefilling(7000), decoding(300)


def able(*members: Member) -> tuple[Member, ...]:
    return tuple(replace(one, switchable=True) for one in members)


def decided(
    *more: Member, memory: PolicyMemory | None = None, can: bool = True, **changes: Any
) -> Verdict:
    """Decide where 3 prefill are short and 6 decode have to spare; changes of the spec apply."""
    settings = {"ratio": BAND, "ratio_guard": ON, **changes}
    members = (*many(3, P, BUSY), *many(6, D, CALM))
    members = able(*members) if can else members
    kept = memory or PolicyMemory(wanted={P: 3, D: 6}, low_since=NOW - 900)
    return decide(view_of(spec_of(**settings), *members, *more, memory=kept))


def test_one_decode_becomes_prefill() -> None:
    found = decided()
    assert (found.action, found.delta) == (Action.SWITCH_ROLE, {P: 1, D: -1})
    assert found.done.wanted == {P: 4, D: 5}
    assert found.done.ratio.switched_at == NOW
    assert found.reason == (
        "Prefill demand is 140 % of supply; decode has one to spare, which becomes prefill."
    )


def test_one_prefill_becomes_decode() -> None:
    members = able(*many(6, P, prefilling(900)), *many(3, D, decoding(1400)))
    found = decide(view_of(spec_of(ratio=BAND, ratio_guard=ON), *members))
    assert (found.action, found.delta) == (Action.SWITCH_ROLE, {D: 1, P: -1})


def test_what_a_switch_does_not_cover_is_launched_in_the_next_turn() -> None:
    """Five prefill are needed; with the one that switches, four are present or on their way."""
    after = decided().done
    members = able(*many(3, P, BUSY), *many(5, D, CALM))
    spec = spec_of(ratio=BAND, ratio_guard=ON)
    found = decide(view_of(spec, *members, starting(P), memory=after))
    assert (found.action, found.delta) == (Action.HOLD, {})
    busier = able(*many(3, P, prefilling(9000)), *many(5, D, CALM))
    more = decide(view_of(spec, *busier, starting(P), memory=after))
    assert (more.action, more.delta) == (Action.SCALE_OUT, {P: 2})
    assert "s left of its cooldown" in more.inputs["switch_role"]


MEMORY = PolicyMemory(wanted={P: 3, D: 6}, low_since=NOW - 900)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"can": False}, "none can"),
        ({"memory": replace(MEMORY, ratio=RatioMemory(switched_at=NOW - 599))}, "1 s left"),
        (
            {"memory": replace(MEMORY, ratio=RatioMemory(switch_after=NOW + 9, switch_failures=2))},
            "after 2 failed",
        ),
        ({"memory": replace(MEMORY, soft=SoftScaleIn("d", NOW - 9, NOW + 9, 1.0))}, "watched"),
        ({"decode": (6, 32)}, "decode is at its minimum"),
        ({"prefill": (1, 3)}, "prefill is at its maximum"),
        ({"ratio": {"min": 0.25, "max": 0.7}}, "the ratio does not permit it"),
    ],
)
def test_otherwise_nobody_switches_and_it_says_why(changes: dict[str, Any], why: str) -> None:
    found = decided(**changes)
    assert found.action is not Action.SWITCH_ROLE
    assert why in found.inputs["switch_role"]


@pytest.mark.parametrize(
    ("decode", "why"),
    [
        (decoding(850), "decode needs 6 of 6"),
        (decoding(300, waiting=5.0), "queues.decode"),
        (decoding(300, kv_usage=0.95), "kv_usage"),
    ],
)
def test_a_role_that_needs_its_own_gives_none(decode: Any, why: str) -> None:
    members = able(*many(3, P, BUSY), *many(6, D, decode))
    found = decide(view_of(spec_of(ratio=BAND, ratio_guard=ON), *members, memory=MEMORY))
    assert found.action is not Action.SWITCH_ROLE
    assert why in found.inputs["switch_role"]


def test_unknown_demand_is_no_surplus() -> None:
    members = able(*many(3, P, BUSY), *many(6, D, CALM, heard_for=20))
    found = decide(view_of(spec_of(ratio=BAND, ratio_guard=ON), *members, memory=MEMORY))
    assert found.action is not Action.SWITCH_ROLE


def test_off_by_default_and_for_one_role_alone() -> None:
    assert decided(ratio_guard={}).action is Action.SCALE_OUT
    whole = next(iter(aggregated_spec().roles))
    spec = aggregated_spec(ratio_guard=ON)
    found = decide(view_of(spec, *able(*many(4, whole, decoding(1500)))))
    assert found.action is Action.SCALE_OUT


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(view=views())
def test_a_switch_keeps_every_bound_and_the_ratio(view: ServiceView) -> None:
    on = view.spec.policy.ratio_guard.model_copy(update=ON)
    policy = view.spec.policy.model_copy(update={"ratio_guard": on})
    members = tuple(replace(one, switchable=one.carrying) for one in view.members)
    spec = view.spec.model_copy(update={"policy": policy})
    view = replace(view, spec=spec, members=members)
    found = decide(view)
    if found.action is not Action.SWITCH_ROLE:
        return
    assert not view.partition
    before = view.present()
    after = {role: n + found.delta[role] for role, n in before.items()}
    assert sorted(found.delta.values()) == [-1, 1]
    assert all(after[r] <= rules.max for r, rules in spec.roles.items() if found.delta[r] > 0)
    assert all(
        view.serving()[r] - 1 >= rules.min for r, rules in spec.roles.items() if found.delta[r] < 0
    )
    assert ratio.permitted((before[P], before[D]), (after[P], after[D]), spec.ratio)
    assert view.memory.soft is None
