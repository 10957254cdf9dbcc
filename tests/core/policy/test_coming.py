"""The coming backlog: a queue that grows is asked for in whole, while its answer starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.core.policy import Member, decide
from heteroscale_coordinator.core.policy.claims import Need
from heteroscale_coordinator.core.policy.coming import coming_need
from heteroscale_coordinator.core.policy.scene import look
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.sums import same
from tests.core.policy.build import (
    IDLE,
    NOW,
    A,
    D,
    P,
    aggregated_spec,
    decoding,
    many,
    member,
    prefilling,
    spec_of,
    starting,
    view_of,
)
from tests.core.policy.plant import Plant

HORIZON = 100.0
SPILLING = decoding(1000, waiting=70.0, waiting_growth=2.0)
"""Seven requests a second come, five of 200 tokens are served; the queue was empty 35 s ago."""


def need(*members: Member, memory: PolicyMemory | None = None, **policy: Any) -> Need | None:
    spec = aggregated_spec(backlog_horizon=HORIZON, **policy)
    return coming_need(look(view_of(spec, *members, memory=memory)))


def remembering(*seconds: float) -> PolicyMemory:
    return PolicyMemory(wanted={A: 4}, startup_times=seconds)


def test_what_piles_up_until_a_launch_serves_is_asked_for_at_once() -> None:
    """28 requests a second less chance come, 20 are served, for 120 s; 160 waited all of 15 s."""
    found = need(*many(4, A, SPILLING))
    assert found is not None
    assert found.bound_by == "backlog"
    rate = 28 - (28 / 15) ** 0.5
    waiting = 4 * (70 - 2 * 10) + (rate - 20) * 120
    tokens = rate * 200 + waiting * 200 / HORIZON
    assert found.counts[A] == 4 + -(-(tokens - 4000) // 1000)
    assert found.why == f"{waiting:.0f} requests will wait at aggregated in 120 s"
    spec = aggregated_spec(backlog_horizon=HORIZON)
    line = decide(view_of(spec, *many(4, A, SPILLING))).sums["needed_coming_aggregated"]
    assert (line.value, same(line)) == (found.counts[A], True)


@pytest.mark.parametrize(("took", "more"), [(30.0, False), (300.0, True)])
def test_the_measured_start_up_says_how_long_it_grows(took: float, *, more: bool) -> None:
    assumed, measured = (
        need(*many(4, A, SPILLING)),
        need(*many(4, A, SPILLING), memory=remembering(took)),
    )
    assert assumed is not None
    assert measured is not None
    assert (measured.counts[A] > assumed.counts[A]) == more
    assert measured.counts[A] != assumed.counts[A]


def test_what_grew_for_some_seconds_is_not_foreseen_for_the_whole_of_a_long_start() -> None:
    """Starts of ten minutes and more launch for two horizons of growth: a burst may be over by then."""
    near, far = (need(*many(4, A, SPILLING), memory=remembering(took)) for took in (200.0, 1200.0))
    assert near is not None
    assert near == far
    assert near.why.endswith("in 200 s")


@pytest.mark.parametrize(
    "flow",
    [
        decoding(1000, waiting=70.0),  # stands, and does not grow
        decoding(1000, waiting=70.0, waiting_growth=-1.0),
        decoding(1000, waiting=0.4, waiting_growth=0.01),  # next to none
        decoding(500, waiting=70.0, waiting_growth=2.0),  # below its target: it can do more
        IDLE,
    ],
    ids=["stands", "goes", "none", "more than is served, less than is promised", "idle"],
)
def test_only_a_queue_that_grows_is_foreseen(flow: Any) -> None:
    assert need(*many(4, A, flow)) is None


def test_the_papers_own_signal_foresees_nothing() -> None:
    assert need(*many(4, A, SPILLING), demand="served") is None


def test_what_starts_already_is_not_asked_for_twice() -> None:
    alone = need(*many(4, A, SPILLING))
    assert alone is not None
    answer = [starting(A) for _ in range(alone.counts[A] - 4)]
    assert need(*many(4, A, SPILLING), *answer) is None


def test_what_waits_at_prefill_is_asked_for_at_decode_too() -> None:
    """Both: what is choked now comes to decode as soon as it is not."""
    spilling = prefilling(5000, waiting=70.0, waiting_growth=1.0)
    spec = spec_of(backlog_horizon=HORIZON, ratio={"min": 0.25, "max": 2.0})
    view = view_of(spec, *many(2, P, spilling), *many(2, D, decoding(1000)))
    found = coming_need(look(view))
    assert found is not None
    assert found.counts[P] > 2
    assert found.counts[D] > 2
    assert "at decode" not in found.why


def test_what_waits_at_decode_is_no_matter_of_prefill() -> None:
    spec = spec_of(backlog_horizon=HORIZON, ratio={"min": 0.25, "max": 2.0})
    view = view_of(spec, *many(2, P, prefilling(5000)), *many(4, D, SPILLING))
    found = coming_need(look(view))
    assert found is not None
    assert (found.counts[P], found.counts[D] > 4) == (2, True)


def test_one_that_has_served_for_a_while_does_not_answer_any_more() -> None:
    young = replace(
        member(A, SPILLING).instance, startup_time=120.0, created_at=NOW - 200, changed_at=NOW - 80
    )
    old = replace(young, created_at=NOW - 2000, changed_at=NOW - 1880)
    track = member(A, SPILLING).track
    fresh = need(*(Member(young, track) for _ in range(4)))
    settled = need(*(Member(old, track) for _ in range(4)))
    assert settled is not None
    assert fresh is None or fresh.counts[A] < settled.counts[A]


def test_a_crowd_is_answered_before_its_queue_is_there() -> None:
    """Five times the rate, starts of two minutes: all that is launched is asked for in one minute."""
    spec = ServiceSpec.model_validate(
        {
            "roles": {
                "prefill": {"template": "p", "min": 1, "max": 90, "target": 5000},
                "decode": {"template": "d", "min": 1, "max": 90, "target": 1000},
            },
            "ratio": {"min": 0.25, "max": 1},
        }
    )
    loop = Plant(spec, lambda at: 100.0 if at >= 300 else 20.0, startup=120.0)
    loop.begin(2, 5)
    loop.run(1000)
    grown = [at for at, _ in loop.actions(Action.SCALE_OUT)]
    assert 300 <= min(grown) <= 315
    begun = [sum(v.delta.values()) for at, v in loop.actions(Action.SCALE_OUT) if at <= 375]
    later = [sum(v.delta.values()) for at, v in loop.actions(Action.SCALE_OUT) if at > 375]
    assert sum(later) < 0.1 * sum(begun)
    assert 7 + sum(begun) > 1.5 * (20 + 10)  # more than the crowd needs: its queue is to go as well
    assert loop.queue[P] < 1
