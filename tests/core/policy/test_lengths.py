"""Targets at the lengths of the day: where prompts are long more instances are needed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heteroscale_coordinator.core.memory.demand import LengthsPast
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import Member, decide
from heteroscale_coordinator.core.policy.lengths import DOUBTED, FADING, SLOT
from heteroscale_coordinator.core.spec import RoleSpec, ServiceSpec
from tests.core.policy.build import (
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

BY_PROMPT = {800: 1.5, 2000: 0.5}
points = st.dictionaries(st.integers(1, 200_000), st.floats(0.05, 20.0), min_size=1, max_size=5)


def with_points(spec: ServiceSpec, **given: dict[int, float]) -> ServiceSpec:
    data = spec.model_dump(mode="json", by_alias=True)
    for role, by_prompt in given.items():
        data["roles"][role]["targetByPrompt"] = by_prompt
    return ServiceSpec.model_validate(data)


def verdict(prompt: float, *decode: Member, requests: float = 40.0, **spec: Any) -> Verdict:
    """Return what is decided where two prefill end ``requests``/s of ``prompt`` tokens each."""
    chosen = with_points(
        spec_of(prefill=(2, 16), prefill_target=1e12, demand="served", **spec), decode=BY_PROMPT
    )
    busy = prefilling(requests * prompt, prompt)
    return decide(view_of(chosen, *many(2, P, busy), *decode))


def test_long_prompts_make_the_same_tokens_too_many() -> None:
    four = many(4, D, decoding(1400))
    assert verdict(800, *four).action is Action.HOLD
    found = verdict(2000, *four)
    assert found.action is Action.SCALE_OUT
    assert found.inputs["needed"].startswith("12 decode for 5600.0 tok/s")


def test_what_starts_and_what_would_be_added_are_counted_at_the_same_lengths() -> None:
    found = verdict(2000, *many(2, D, decoding(900)), starting(D), requests=1e6)
    assert found.sums["S"].value == pytest.approx(1500, rel=1e-3)
    assert "at 500" in found.inputs["needed"]
    assert found.delta[D] == 1


def test_short_prompts_let_fewer_carry_the_same() -> None:
    spec: dict[str, Any] = {"cooldown_in": 0.0, "ratio": {"min": 0.1, "max": 4.0}}
    eight = many(8, D, decoding(800))
    assert verdict(1250, *eight, **spec).action is Action.HOLD
    assert verdict(800, *eight, **spec).action is Action.SCALE_IN


def test_the_factor_is_arithmetic_that_comes_out_again() -> None:
    found = verdict(2000, *many(4, D, decoding(900))).sums
    line = found["at_prompt_decode"]
    assert line.terms["given"] == 0.5
    assert line.terms["requests"] == pytest.approx(2 * 40 * 60)
    assert line.note == "of the target, at 2000 prompt tokens a request"
    tau = found["tau_decode_H20"]
    assert (tau.formula, tau.terms["tested"]) == ("tested * at_prompt", 1000.0)
    assert found["S"].value == pytest.approx(4 * tau.value)
    assert "at_prompt_prefill" not in found


def test_few_requests_are_believed_little() -> None:
    some = verdict(2000, *many(4, D, decoding(900)), requests=DOUBTED / 120).sums
    assert some["at_prompt_decode"].value == pytest.approx(0.75)


def test_what_nobody_tells_changes_nothing() -> None:
    spec = with_points(spec_of(), decode=BY_PROMPT)
    found = decide(view_of(spec, member(P), *many(2, D, decoding(900)))).sums
    assert "at_prompt_decode" not in found
    assert found["tau_decode_H20"].value == 1000.0


def remembered(prompt: float, memory: LengthsPast | None, **view: Any) -> LengthsPast | None:
    """Return what is remembered once 40 requests/s of ``prompt`` tokens have ended for a minute."""
    spec = with_points(spec_of(prefill_target=1e12, demand="served"), decode=BY_PROMPT)
    seen = view_of(spec, member(P, prefilling(40 * prompt, prompt)), member(D, decoding(900)))
    return decide(replace(seen, memory=replace(seen.memory, lengths=memory), **view)).memory.lengths


def told(past: LengthsPast | None) -> tuple[float, float, float]:
    assert past is not None
    return past.at, past.tokens, past.requests


def test_prompts_are_remembered_so_that_a_minute_s_chance_moves_little() -> None:
    first = remembered(1000, None)
    assert first is not None
    assert told(first) == pytest.approx((NOW, 2400 * 1000.0, 2400))
    assert remembered(3000, replace(first, at=NOW - SLOT / 2)) == replace(first, at=NOW - SLOT / 2)
    second = remembered(3000, replace(first, at=NOW - SLOT))
    left = math.exp(-SLOT / FADING)
    tokens, requests = 2400 * 1000.0 * left + 1200 * 3000.0, 2400 * left + 1200
    assert told(second) == pytest.approx((NOW, tokens, requests))


def test_the_factor_is_that_of_what_is_remembered() -> None:
    past = LengthsPast(NOW - 5.0, 2000.0 * 1e6, 1e6)
    spec = with_points(spec_of(), decode=BY_PROMPT)
    busy = [*many(2, P, prefilling(4500, 800.0)), *many(4, D, decoding(900))]
    seen = view_of(spec, *busy)
    for at, factor in ((NOW - 5.0, 0.5), (NOW - 601.0, 1.5), (NOW + 1.0, 1.5)):
        lengths = replace(past, at=at)
        found = decide(replace(seen, memory=replace(seen.memory, lengths=lengths)))
        assert found.sums["at_prompt_decode"].terms["given"] == factor


def test_what_is_old_is_forgotten_and_what_is_unknown_keeps_it() -> None:
    old = LengthsPast(NOW - 601.0, 1.0, 1.0)
    assert remembered(1000, old) == remembered(1000, None)
    spec = with_points(spec_of(), decode=BY_PROMPT)
    past = LengthsPast(NOW - 60.0, 1e6, 1e3)
    seen = view_of(spec, member(P), *many(2, D, decoding(900)))
    kept = decide(replace(seen, memory=replace(seen.memory, lengths=past))).memory.lengths
    assert kept == past


def test_a_garbled_reading_moves_no_target_beyond_its_points() -> None:
    assert told(remembered(1e30, None)) == pytest.approx((NOW, 2400 * 4000.0, 2400))
    spec = with_points(spec_of(demand="served"), decode=BY_PROMPT)
    absurd = prefilling(1e30, 1e3)
    found = decide(view_of(spec, member(P, absurd), *many(2, D, decoding(900))))
    assert found.memory.lengths is None
    assert found.sums["tau_decode_H20"].value == 1000.0


def test_without_factors_nothing_is_remembered() -> None:
    seen = view_of(spec_of(), *many(2, P, prefilling(4500)), *many(4, D, decoding(900)))
    assert decide(seen).memory.lengths is None


def test_a_service_of_one_role_reads_its_own_prompts() -> None:
    spec = with_points(aggregated_spec(), aggregated=BY_PROMPT)
    found = decide(view_of(spec, *many(4, A, decoding(900, prompt=4.5 * 2000)))).sums
    assert found["at_prompt_aggregated"].terms["given"] == 0.5


def test_every_gpu_type_has_the_factor() -> None:
    mixed = [*many(2, D, decoding(900)), member(D, decoding(500), gpu_type="L20")]
    found = verdict(2000, *mixed, target={"H20": 1000.0, "L20": 600.0}, requests=1e6).sums
    assert found["tau_decode_L20"].value == pytest.approx(300, rel=1e-3)


@given(given_points=points, prompt=st.floats(0, 1e6))
def test_a_factor_lies_between_those_that_were_given(
    given_points: dict[int, float], prompt: float
) -> None:
    rules = RoleSpec(template="d", target_by_prompt=given_points)
    factor, known = rules.factor_at(prompt), given_points.values()
    assert min(known) * (1 - 1e-9) <= factor <= max(known) * (1 + 1e-9)
    for at, value in given_points.items():
        assert rules.factor_at(at) == pytest.approx(value)


def test_between_points_seconds_a_token_follow_a_straight_line() -> None:
    rules = RoleSpec(template="d", target_by_prompt={1000: 1.0, 3000: 0.5})
    assert rules.factor_at(2000) == pytest.approx(1 / 1.5)
    assert [rules.factor_at(at) for at in (0, 1e9)] == [1.0, 0.5]
    assert RoleSpec(template="d").factor_at(5.0) == 1.0


@pytest.mark.parametrize(
    ("wrong", "fix"),
    [
        ({0: 1.0}, "0 is no number of prompt tokens: write a whole one above 0, e.g. 800"),
        ({"long": 1.0}, "'long' is no number of prompt tokens"),
        ({800: 0.0}, "0 at 800 is no factor from 0.01 to 100"),
        ({800: 13_000}, "13000 at 800 is no factor .* write what is carried there ÷ `target`"),
        ({800: math.nan}, "nan at 800 is no factor"),
        ({800: "much"}, "valid number"),
        ([800], "write prompt tokens and a factor for each"),
    ],
)
def test_what_is_no_factor_is_refused_in_words_that_name_the_fix(wrong: Any, fix: str) -> None:
    with pytest.raises(ValidationError, match=fix) as refused:
        RoleSpec.model_validate({"template": "d", "targetByPrompt": wrong})
    assert "targetByPrompt" in str(refused.value)


def test_numbers_as_text_are_numbers() -> None:
    """JSON knows no other keys."""
    data = {"template": "d", "targetByPrompt": {"800": 1.4}}
    assert RoleSpec.model_validate(data).target_by_prompt == {800: 1.4}
