"""The stacked grid gives what each profile gives alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_simulator.profiles import GpuProfile
from heteroscale_simulator.profiles.model import DecodeTable, PrefillTable
from heteroscale_simulator.profiles.speed_grid import SpeedGrid

SMALL = GpuProfile(
    kv_capacity_tokens=1000,
    max_batch=8,
    prefill=PrefillTable(lengths=(100, 200), ms=(10, 30)),
    decode=DecodeTable(batches=(1, 8), contexts=(50, 100), step_ms=((10, 12), (20, 30))),
)
LARGE = GpuProfile(
    kv_capacity_tokens=9000,
    max_batch=64,
    prefill=PrefillTable(lengths=(64, 150, 1000), ms=(5, 8, 100)),
    decode=DecodeTable(batches=(1, 4, 64), contexts=(20, 400), step_ms=((3, 4), (4, 6), (11, 44))),
)
SINGLE = GpuProfile(
    kv_capacity_tokens=10,
    prefill=PrefillTable(lengths=(100,), ms=(7,)),
    decode=DecodeTable(batches=(2,), contexts=(50,), step_ms=((9,),)),
)
PROFILES = (SMALL, LARGE, SINGLE)
GRID = SpeedGrid(PROFILES)


@given(st.lists(st.floats(0, 5000), min_size=3, max_size=3))
def test_prefill_is_that_of_each_profile(tokens: list[float]) -> None:
    got = GRID.prefill_seconds(np.arange(3), np.array(tokens))
    want = [p.prefill_seconds(t) for p, t in zip(PROFILES, tokens, strict=True)]
    assert got == pytest.approx(want)


@given(
    st.lists(st.floats(1, 300), min_size=3, max_size=3),
    st.lists(st.floats(0, 2000), min_size=3, max_size=3),
)
def test_a_step_is_that_of_each_profile(batch: list[float], context: list[float]) -> None:
    got = GRID.step_seconds(np.arange(3), np.array(batch), np.array(context))
    want = [p.step_seconds(b, c) for p, b, c in zip(PROFILES, batch, context, strict=True)]
    assert got == pytest.approx(want)


def test_a_part_of_a_request_counts_as_one() -> None:
    types = np.array([0, 1, 1])
    part = GRID.step_seconds(types, np.array([0.0, 0.2, 1.0]), np.full(3, 75.0))
    one = GRID.step_seconds(types, np.ones(3), np.full(3, 75.0))
    assert part.tolist() == one.tolist()


def test_limits_are_by_type() -> None:
    assert GRID.kv_capacity.tolist() == [1000, 9000, 10]
    assert GRID.max_batch.tolist() == [8, 64, 256]
    assert GRID.max_prefill_tokens.tolist() == [8192] * 3


def test_nothing_makes_no_grid() -> None:
    with pytest.raises(ValueError, match="one profile"):
        SpeedGrid([])
