"""A queue that stands at decode shows that its targets are too high for the day's requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import Member, decide
from tests.core.policy.build import (
    NOW,
    D,
    P,
    decoding,
    many,
    member,
    prefilling,
    spec_of,
    starting,
    view_of,
)

QUEUE = 40.0
"""Requests that wait at each; tokens of 200 each."""


def verdict(*decode: Member, arriving: float = 0.0, **spec: Any) -> Verdict:
    """Return what is decided; ``arriving`` are requests/s that prefill lets through to decode."""
    calm = {"target": 2000.0, "prefill_target": 50_000.0, "backlog_horizon": 60.0}
    chosen = spec_of(**{**calm, **spec})
    return decide(view_of(chosen, *many(2, P, prefilling(1000 * arriving / 2)), *decode))


def full(count: int, tokens: float = 1000.0, **changes: Any) -> tuple[Member, ...]:
    """Return decode engines that serve half their target, and yet have a queue."""
    return many(count, D, decoding(tokens, waiting=QUEUE, kv_usage=0.9), **changes)


def test_what_serves_all_it_can_grows_as_more_is_asked_for() -> None:
    """4,000 tokens/s are served of a target of 8,000, but 6,000 arrive, and 160 requests wait."""
    found = verdict(*full(4), arriving=30.0)
    assert found.action is Action.SCALE_OUT
    # With the queue, 160 × 200 tokens in 60 s, 6,400 or so are asked for.
    assert found.sums["needed_saturated"].value == 7
    assert found.delta[D] == 3
    assert "160 requests wait at decode, which serves 4000 of" in found.reason


def test_without_a_queue_targets_are_believed() -> None:
    assert verdict(*many(4, D, decoding(1000)), arriving=30.0).action is Action.HOLD


def test_a_queue_that_is_about_worked_off_asks_for_nothing() -> None:
    """20 wait, who take a second or two: served is what is asked for, within the tolerance."""
    few = many(4, D, decoding(1000, waiting=5.0, kv_usage=0.9))
    assert verdict(*few, arriving=20.0).action is Action.HOLD


@pytest.mark.parametrize(("usage", "asked"), [(0.4, False), (0.6, True), (None, True)])
def test_a_queue_before_engines_that_are_not_full_has_another_cause(
    usage: float | None, asked: bool
) -> None:
    engines = many(4, D, decoding(1000, waiting=QUEUE, kv_usage=usage))
    assert ("needed_saturated" in verdict(*engines, arriving=30.0).sums) is asked


@pytest.mark.parametrize(("queued", "asked"), [(1, False), (2, True), (3, True)])
def test_a_queue_at_few_engines_says_nothing_of_the_others(queued: int, asked: bool) -> None:
    """One that is stuck, or given too much, does not move the fleet alone."""
    behind = full(queued, tokens=0.0 if queued == 1 else 1000.0)
    others = many(4 - queued, D, decoding(1000, kv_usage=0.9))
    assert ("needed_saturated" in verdict(*behind, *others, arriving=30.0).sums) is asked


def test_what_starts_already_is_not_asked_for_again() -> None:
    coming = [starting(D, created_at=NOW) for _ in range(3)]
    found = verdict(*full(4), *coming, arriving=30.0, ratio={"min": 0.1, "max": 4.0})
    assert found.action is Action.HOLD


def test_those_that_have_just_come_do_not_count_as_what_serves() -> None:
    came = many(2, D, decoding(0.0, running=0.0), changed_at=NOW - 5.0)
    found = verdict(*full(4), *came, arriving=30.0)
    assert found.sums["needed_saturated"].value == 7


def test_behind_a_long_queue_no_more_is_asked_for_than_twice_what_serves() -> None:
    found = verdict(*full(4), arriving=300.0, target=1e6, max_step_out=4.0)
    assert found.sums["needed_saturated"].value == 8


def test_the_paper_s_signal_alone_knows_no_queue() -> None:
    assert verdict(*full(4), arriving=30.0, demand="served").action is Action.HOLD


@given(queue=st.floats(0, 1e4), target=st.sampled_from([900.0, 1000.0, 4000.0]))
def test_it_never_asks_for_less_than_targets_do(queue: float, target: float) -> None:
    def asked(waiting: float) -> int:
        engines = many(4, D, decoding(1000, waiting=waiting, kv_usage=0.9))
        found = verdict(*engines, arriving=20.0, target=target)
        return found.delta.get(D, 0) if found.action is Action.SCALE_OUT else 0

    assert asked(queue) >= asked(0.0)


@pytest.mark.parametrize("known", [True, False])
def test_an_engine_that_was_never_heard_is_no_capacity(known: bool) -> None:
    """Where nobody is heard nothing is known of a queue, and nothing is asked for."""
    decode = full(4) if known else many(4, D)
    assert ("needed_saturated" in verdict(*decode, arriving=30.0).sums) is known


def test_a_service_without_decode_has_none() -> None:
    found = verdict(member(D, decoding(1000)), arriving=1.0)
    assert "needed_saturated" not in found.sums
