"""The arithmetic of a decision: it comes out again, and says the same as the words beside it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core import sums
from heteroscale_coordinator.core.model import Verdict
from heteroscale_coordinator.core.policy import Member, decide
from tests.core.policy.build import (
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


def verdict(*decode: Member, **spec: Any) -> Verdict:
    return decide(view_of(spec_of(**spec), *many(2, P, prefilling(4500)), *decode))


def test_demand_supply_and_load_are_arithmetic() -> None:
    found = verdict(*many(3, D, decoding(1200)), starting(D)).sums
    assert dict(found["S"].terms) == {"n_H20": 4, "tau_H20": 1000.0}
    assert found["S"].value == 4000.0
    assert found["Q"].terms["served"] == pytest.approx(3600.0)
    assert found["R"].formula == "Q / S"
    assert found["R"].value == pytest.approx(0.9)
    assert found["S_prefill"].value == 10000.0
    assert found["Q_prefill"].value == pytest.approx(9000.0)


def test_the_paper_s_signal_alone_is_served_and_nothing_else() -> None:
    found = verdict(*many(3, D, decoding(1200)), demand="served").sums
    assert found["Q"].formula == "served"


def test_unknown_demand_has_no_figure_and_no_load() -> None:
    found = verdict(member(D)).sums
    assert not {"Q", "R"} & set(found)
    assert found["S"].value == 1000.0


def test_the_target_in_force_says_where_it_comes_from() -> None:
    one = verdict(*many(2, D, decoding(900))).sums["tau_decode_H20"]
    assert (one.value, one.note) == (1000.0, "one number for every GPU type")
    targets = {"H20": 1000.0, "L20": 700.0}
    mixed = [*many(2, D, decoding(900)), member(D, decoding(500), gpu_type="NVIDIA H100 80GB")]
    found = verdict(*mixed, target=targets).sums
    assert found["tau_decode_H20"].note == "given for H20"
    guess = found["tau_decode_NVIDIA_H100_80GB"]
    assert (guess.formula, guess.value) == ("(H20 + L20) / 2", 850.0)
    assert guess.note == "no target is given for NVIDIA H100 80GB: the mean of those given"
    assert found["S"].formula == ("n_H20 * tau_H20 + n_NVIDIA_H100_80GB * tau_NVIDIA_H100_80GB")
    assert found["S"].value == 2850.0


def test_types_whose_names_read_alike_are_told_as_their_mean() -> None:
    targets = {"H 20": 1000.0, "H-20": 700.0}
    found = verdict(member(D, decoding(500), gpu_type="L4"), target=targets).sums["tau_decode_L4"]
    assert (found.formula, found.value) == ("mean_of_given", 850.0)
    assert "the mean of those given" in found.note


def test_more_types_than_can_be_written_out_are_told_as_their_sum() -> None:
    names = [f"a GPU with quite a long name, number {n}" for n in range(40)]
    fleet = [member(D, decoding(500), gpu_type=name) for name in names]
    found = verdict(*fleet).sums["S"]
    assert found.value == 40_000.0
    assert len(found.formula) <= sums.MAX_FORMULA


def test_the_limits_of_the_ratio_and_the_gpus_left_are_reckoned() -> None:
    spec = spec_of(ratio={"min": 0.3, "max": 0.75}).model_copy(update={"max_gpus": 20})
    found = decide(view_of(spec, *many(2, P, prefilling(100)), *many(5, D, decoding(900)))).sums
    assert (found["prefill_least"].value, found["prefill_most"].value) == (2, 3)
    assert found["gpus_left"].value == 13


@given(
    st.lists(st.text(max_size=12), min_size=1, max_size=12, unique=True),
    st.floats(1, 1e5),
    st.booleans(),
)
def test_whatever_gpu_types_are_called_every_line_comes_out_again(
    types: list[str], target: float, named: bool
) -> None:
    targets = {gpu: target + 7 * n for n, gpu in enumerate(types)} if named else target
    members = [
        member(D, decoding(500), gpu_type=gpu) for gpu in types for _ in range(1 + len(gpu) % 2)
    ]
    found = verdict(*members, target=targets).sums
    assert all(sums.same(line) for line in found.values())
    total = sum(
        targets[gpu] * (1 + len(gpu) % 2)
        if isinstance(targets, dict)
        else target * (1 + len(gpu) % 2)
        for gpu in types
    )
    assert found["S"].value == pytest.approx(total)
