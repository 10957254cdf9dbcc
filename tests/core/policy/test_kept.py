"""A hold at low demand names who keeps what is there, and how many."""

from __future__ import annotations

from typing import Any

from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.memory.demand import DemandPast
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import decide
from tests.core.policy.build import NOW, D, P, decoding, many, prefilling, spec_of, view_of


def held(
    *, decode: float = 300, prefill: float = 2000, peak: float = 1200, **policy: Any
) -> Verdict:
    """Return the hold of 2 prefill and 4 decode, whose demand was ``peak`` within ``hold``."""
    past = DemandPast(NOW - 10, (peak,) * 11, (decode * 4,) * 11)
    memory = PolicyMemory(wanted={P: 2, D: 4}, low_since=NOW - 900, demand={D: past})
    members = (*many(2, P, prefilling(prefill)), *many(4, D, decoding(decode)))
    found = decide(view_of(spec_of(**policy), *members, memory=memory))
    assert found.action is Action.HOLD, found.reason
    return found


def test_a_peak_that_is_held_is_named_with_its_count() -> None:
    found = held(peak=3500, hold=300.0)
    assert found.bound_by == "hold"
    assert "hold keeps 4 decode (4 decode for 3500.0 tok/s, the highest in 300 s)" in found.reason


def test_a_roles_own_peak_is_named_where_it_is_the_one() -> None:
    """880 of 1,000 tok/s each: low, but three would be at 117 %."""
    found = held(decode=880)
    assert found.bound_by == "demand"
    assert "decode at its highest in the long window needs 4" in found.reason


def test_a_past_that_is_not_known_yet_is_named() -> None:
    """Without any history all is kept until ``hold`` is remembered: that is what is said."""
    memory = PolicyMemory(wanted={P: 2, D: 4}, low_since=NOW - 900)
    members = (*many(2, P, prefilling(2000)), *many(4, D, decoding(300)))
    found = decide(view_of(spec_of(hold=300.0), *members, memory=memory))
    assert found.bound_by == "hold"
    assert "less than 300 s of demand is remembered" in found.reason
