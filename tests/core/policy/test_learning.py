"""``target: learn``: what was seen and no more, how sure it is, and when a target is stale."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.words import Role
from heteroscale_coordinator.core import sums
from heteroscale_coordinator.core.memory.learning import Held, Learned, LearningMemory, Mark
from heteroscale_coordinator.core.model import Verdict
from heteroscale_coordinator.core.policy import Member, decide, in_force
from heteroscale_coordinator.core.policy.learning import (
    MAX_HELD,
    MAX_LEARNED,
    _noted,
    estimate,
    told,
)
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.spec.learning import LearningSpec
from tests.core.policy.build import (
    NOW,
    A,
    D,
    P,
    decoding,
    many,
    member,
    prefilling,
    spec_of,
    view_of,
)

RULES = LearningSpec()
LEARNS = spec_of(target="learn", prefill_target=5000)
held = st.lists(st.tuples(st.floats(100, 1e5), st.floats(0.01, 2.0)), max_size=40)


def noted(*windows: tuple[float, float]) -> Learned:
    """Return what is known after windows of (rate, latency as a share of its SLO)."""
    seen = Learned(D, "H20", 1)
    for rate, share in windows:
        seen = _noted(seen, Held(rate, share), kept=share <= 1.0, at=NOW)
    return seen


def look(
    *decode: Member, spec: ServiceSpec = LEARNS, memory: LearningMemory | None = None, **view: Any
) -> Verdict:
    """Decide once, as the turn does for a service that learns."""
    memory = memory or LearningMemory()
    shown = view_of(in_force(spec, memory), *many(2, P, prefilling(4500)), *decode)
    known = replace(shown.memory, learning=memory)
    return decide(replace(shown, memory=known, learning=spec.learning, **view))


def test_what_is_learned_is_what_the_factor_of_the_day_s_lengths_multiplies() -> None:
    """Else a target that is accepted would have the lengths of its windows in it twice."""
    data = LEARNS.model_dump(mode="json", by_alias=True)
    data["roles"]["decode"]["targetByPrompt"] = {800: 0.5}
    plain = look(*many(2, D, decoding(900))).memory.learning.learned
    found = look(*many(2, D, decoding(900)), spec=ServiceSpec.model_validate(data))
    factor = found.sums["at_prompt_decode"].value
    assert 0.5 <= factor < 1.0
    rates = [one.held[0].rate for one in found.memory.learning.learned.values() if one.role is D]
    assert rates
    before = [one.held[0].rate for one in plain.values() if one.role is D]
    assert rates == pytest.approx([rate / factor for rate in before])


def test_several_windows_make_a_target_and_one_alone_does_not() -> None:
    few = noted((1500, 0.5), *[(1200, 0.5)] * 3)
    assert estimate(few, RULES) is None
    found = estimate(noted((1500, 0.5), *[(1200, 0.5)] * 4), RULES)
    assert found is not None
    assert (found.target, found.sure) == (1200, False)
    assert "a lower bound" in found.why


def test_a_latency_near_its_limit_or_a_rate_that_broke_makes_it_sure() -> None:
    near = estimate(noted(*[(1200, 0.85)] * 5), RULES)
    assert near is not None
    assert near.sure
    broke = estimate(noted(*[(1200, 0.5)] * 5, *[(1300, 1.4)] * 3), RULES)
    assert broke is not None
    assert broke.sure
    assert "1300 tok/s broke it" in broke.why
    far = estimate(noted(*[(1200, 0.5)] * 5, *[(9000, 1.4)] * 3), RULES)
    assert far is not None
    assert not far.sure


def test_what_broke_again_and_again_is_above_the_target() -> None:
    found = estimate(noted(*[(1000, 0.7)] * 5, *[(1400, 0.9)] * 5, *[(1300, 1.2)] * 3), RULES)
    assert found is not None
    assert found.target == 1000


def test_a_rate_that_holds_again_takes_back_what_broke_by_chance() -> None:
    seen = noted(*[(900, 1.2)] * 3, *[(1200, 0.6)] * 6)
    assert len(seen.broken) == 2
    found = estimate(seen, RULES)
    assert found is not None
    assert found.target == 1200


@given(held)
def test_a_target_is_never_more_than_what_held(windows: list[tuple[float, float]]) -> None:
    seen = noted(*windows)
    found = estimate(seen, RULES)
    kept = sorted((rate for rate, share in windows if share <= 1.0), reverse=True)
    assert len(seen.held) <= MAX_HELD
    if found is not None:
        assert found.target <= kept[RULES.windows - 1]
        assert found.target > 0.98 * min(kept)
    if len(kept) < RULES.windows:
        assert found is None


def test_one_window_is_noted_once() -> None:
    first = look(*many(3, D, decoding(900)))
    learned = first.memory.learning
    (one,) = [seen for seen in learned.learned.values() if seen.role is D]
    assert (one.gpu_type, one.context, one.windows) == ("H20", 1, 1)
    assert one.held[0].rate == pytest.approx(900, rel=0.02)
    assert one.held[0].share == pytest.approx(0.4, rel=0.02)
    again = look(*many(3, D, decoding(900)), memory=replace(learned, looked_at=NOW - 59))
    assert again.memory.learning.learned == learned.learned
    later = look(*many(3, D, decoding(900)), memory=replace(learned, looked_at=NOW - 60))
    assert later.memory.learning.learned["decode/H20/1"].windows == 2


def test_a_broken_promise_is_noted_where_it_belongs() -> None:
    """TBT is broken: decode broke, and the window says nothing of prefill."""
    found = look(*many(3, D, decoding(900, tbt=0.06))).memory.learning.learned
    assert found["decode/H20/1"].broken
    assert not found["decode/H20/1"].held
    assert not found["prefill/H20/1"].held
    assert not found["prefill/H20/1"].broken


def test_what_was_not_heard_all_through_the_window_teaches_nothing() -> None:
    late = member(D, decoding(900), heard_for=30.0)
    found = look(*many(2, D, decoding(900)), late).memory.learning.learned
    assert "decode/H20/1" not in found
    silent = look(*many(2, D, decoding(900)), member(D)).memory.learning.learned
    assert "decode/H20/1" not in silent


def test_nothing_is_learned_while_a_service_acts_by_numbers() -> None:
    acting = look(*many(3, D, decoding(900)), spec=spec_of())
    assert acting.memory.learning.learned == {}
    advisory = spec_of().model_copy(update={"advisory": True})
    assert look(*many(3, D, decoding(900)), spec=advisory).memory.learning.learned
    off = spec_of(target="learn", learning={"enabled": False})
    assert look(*many(3, D, decoding(900)), spec=off).memory.learning.learned == {}


def test_records_stay_few() -> None:
    many_types = {f"decode/T{n}/1": Learned(D, f"T{n}", 1, at=float(n)) for n in range(60)}
    found = look(*many(3, D, decoding(900)), memory=LearningMemory(many_types))
    assert len(found.memory.learning.learned) == MAX_LEARNED
    assert "decode/T59/1" in found.memory.learning.learned
    assert "decode/T0/1" not in found.memory.learning.learned


def test_the_laws_count_by_what_is_learned_so_far() -> None:
    known = LearningMemory({"decode/H20/1": noted(*[(1230.7, 0.9)] * 5)}, looked_at=NOW)
    line = look(*many(3, D, decoding(900)), memory=known).sums["tau_decode_H20"]
    assert (line.value, line.note) == (1230.0, "learned so far")
    guess = look(*many(3, D, decoding(900))).sums["tau_decode_H20"]
    assert (guess.value, guess.note) == (1000.0, "being learned, and not known yet: a guess")
    assert sums.same(line)
    assert in_force(spec_of(), known) == spec_of()


def test_the_line_to_paste_is_told_with_how_sure_it_is() -> None:
    known = LearningMemory({"decode/H20/2": replace(noted(*[(1230.7, 0.9)] * 5), context=2)})
    lines = told(LEARNS, known)
    assert any(
        line.startswith("decode on H20, prompts to 2k tokens: 1230 tok/s")
        and "near the limit" in line
        for line in lines
    )
    assert 'to accept it, write and apply: roles.decode.target: {"H20": 1230}' in lines
    assert any("only advises until it is a number" in line for line in lines)
    assert told(spec_of(), LearningMemory()) == []
    no_slo = told(spec_of(target="learn", slo={}), LearningMemory())
    assert any("nothing can be learned without an SLO" in line for line in no_slo)


def test_what_is_not_known_yet_and_where_it_was_seen_is_told_in_words() -> None:
    few = replace(noted((1000.0, 0.9)), gpu_type="", context=0)
    lines = told(LEARNS, LearningMemory({"decode//0": few}))
    assert any(
        line.startswith("decode on an unnamed GPU type, prompts of unknown length: not known yet")
        for line in lines
    )
    assert not any("to accept it" in line for line in lines)
    many_windows = replace(noted(*[(1230.7, 0.9)] * 5), gpu_type="", context=0)
    accepted = told(LEARNS, LearningMemory({"decode//0": many_windows}))
    assert "to accept it, write and apply: roles.decode.target: 1230" in accepted


def test_a_service_that_acts_by_numbers_is_told_nothing_of_what_was_learned_before() -> None:
    known = LearningMemory({"decode/H20/2": noted(*[(1230.7, 0.9)] * 5)})
    assert told(spec_of(), known) == []
    gone = replace(noted(*[(1230.7, 0.9)] * 5), role=A)
    assert not any("aggregated" in line for line in told(LEARNS, LearningMemory({"a": gone})))


def test_a_target_is_stale_when_another_engine_or_model_runs() -> None:
    decode, old = many(3, D, decoding(900)), {D: "chat-decode (vllm), 1 × 1 GPUs, A bfloat16"}
    first = look(*decode, spec=spec_of(), makes=old)
    assert first.memory.learning.stale == {}
    assert first.memory.learning.marks[D].make == old[D]
    new = {D: "chat-decode (sglang), 1 × 1 GPUs, A bfloat16"}
    changed = look(*decode, spec=spec_of(), makes=new, memory=first.memory.learning)
    assert "(vllm)" in changed.memory.learning.stale[D]
    assert changed.inputs["target_stale_decode"] == changed.memory.learning.stale[D]
    assert "STALE" in told(spec_of(), changed.memory.learning)[0]
    # Of what nobody tells just now, nothing is said; a new number is a new start.
    unknown = look(*decode, spec=spec_of(), memory=first.memory.learning)
    assert unknown.memory.learning.stale == {}
    other = spec_of(target=1100)
    anew = look(*decode, spec=other, makes=new, memory=changed.memory.learning)
    assert anew.memory.learning.stale == {}
    assert anew.memory.learning.marks[D] == Mark("1100.0", new[D])


@pytest.mark.parametrize(
    ("engines", "stale"),
    [
        ("sglang 0.5.20", False),
        ("sglang", False),
        ("sglang, sglang 0.5.20", False),
        ("sglang 0.5.20, sglang 0.5.21", True),
        ("sglang, sglang 0.5.21", True),
        ("vllm", True),
    ],
)
def test_a_version_that_is_not_told_makes_nothing_stale(engines: str, stale: bool) -> None:
    decode, make = many(3, D, decoding(900)), "chat-decode ({}), 1 × 1 GPUs"
    first = look(*decode, spec=spec_of(), makes={D: make.format("sglang 0.5.20")})
    makes = {D: make.format(engines)}
    after = look(*decode, spec=spec_of(), makes=makes, memory=first.memory.learning)
    assert (D in after.memory.learning.stale) is stale


def test_a_gpu_type_without_a_target_is_told() -> None:
    decode = (*many(2, D, decoding(900)), member(D, decoding(500), gpu_type="L20"))
    found = look(*decode, spec=spec_of(target={"H20": 1000}))
    assert found.memory.learning.stale == {Role.DECODE: "none is given for L20"}


def test_what_was_seen_on_another_engine_is_forgotten() -> None:
    old = replace(noted(*[(2000, 0.9)] * 5), make="old")
    memory = LearningMemory({"decode/H20/1": old})
    found = look(*many(3, D, decoding(900)), memory=memory, makes={D: "new"}).memory.learning
    assert found.learned["decode/H20/1"].windows == 1
    assert found.learned["decode/H20/1"].make == "new"
