"""Profiles: interpolation, strictness, the shipped one, the CSV tables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.documents import DocumentError
from heteroscale_simulator.profiles import Selection, load_profile, parse_profile, shipped_profiles
from heteroscale_simulator.profiles.grid import bilinear, linear
from tests.workbench.sims import PROFILE, profile

TRACES = Path(os.environ.get("HETEROSCALE_TRACES", "nowhere"))


def test_linear_meets_the_points_and_halves_between_them() -> None:
    axis, values = (1.0, 3.0, 7.0), (10.0, 30.0, 20.0)
    assert [linear(axis, values, x) for x in axis] == list(values)
    assert linear(axis, values, 2.0) == 20.0
    assert linear(axis, values, 5.0) == 25.0


def test_linear_holds_before_the_first_point_and_goes_on_after_the_last() -> None:
    axis, values = (10.0, 20.0), (5.0, 6.0)
    assert linear(axis, values, 1.0) == 5.0
    assert linear(axis, values, 40.0) == 8.0
    assert linear((10.0,), (5.0,), 99.0) == 5.0


def test_bilinear_meets_corners_and_middle() -> None:
    rows, columns = (1.0, 3.0), (100.0, 300.0)
    table = ((10.0, 20.0), (30.0, 40.0))
    assert bilinear(rows, columns, table, 1, 100) == 10.0
    assert bilinear(rows, columns, table, 3, 300) == 40.0
    assert bilinear(rows, columns, table, 2, 200) == 25.0
    assert bilinear(rows, columns, table, 2, 100) == 20.0


@given(st.floats(1, 4), st.floats(1, 1000))
def test_a_step_lies_between_the_measured_ones(batch: float, context: float) -> None:
    step = profile().gpu("T").step_seconds(batch, context)
    assert 0.005 <= step <= 0.008 + 1e-12


def test_decode_rate_takes_the_largest_batch_that_fits_memory_and_limit() -> None:
    gpu = profile().gpu("T")
    rate, batch = gpu.decode_rate(1)
    assert batch == 4
    assert rate == pytest.approx(4 / 0.007)
    assert gpu.decode_rate(500)[1] == 2  # 1000 tokens of KV
    assert gpu.decode_rate(1, limit=0.0057)[1] == 2
    assert gpu.decode_rate(1, limit=0.001) == (0.0, 0)


def test_no_prompt_tokens_take_no_time() -> None:
    assert profile().gpu("T").prefill_seconds(0) == 0.0


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("lengths: [1, 1000]", "lengths: [1000, 1]", "must rise"),
        ("ms: [1, 20]", "ms: [1]", "1 values in ms for 2 lengths"),
        ("[[5, 6], [7, 8]]", "[[5, 6], [7]]", "one row for each batch"),
        ("maxBatch", "maxBach", "did you mean `maxBatch`?"),
        ("kvCapacityTokens: 1000", "kvCapacityTokens: 0", "greater than 0"),
        ("kind: EngineProfile", "kind: Service", "EngineProfile"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_line(old: str, new: str, complaint: str) -> None:
    text = PROFILE.replace(old, new)
    with pytest.raises(DocumentError) as caught:
        parse_profile(text, "mine.yaml")
    assert complaint in str(caught.value)
    assert "mine.yaml:" in str(caught.value)


def test_the_demo_profile_is_shipped_with_two_unlike_gpu_types() -> None:
    assert "demo" in shipped_profiles()
    demo = load_profile("demo")
    fast, slow = demo.gpu("H20").decode_rate(512)[0], demo.gpu("L20").decode_rate(512)[0]
    assert fast > 1.3 * slow
    with pytest.raises(KeyError, match="it has H20, L20"):
        demo.gpu("B200")


def test_transfer_is_slower_the_farther_it_goes() -> None:
    transfer = load_profile("demo").transfer
    speeds = [transfer.link(d).gigabytes_per_second for d in ("s0", "s1", "s2", "cluster")]
    assert speeds == sorted(speeds, reverse=True)


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"nowhere.*shipped profiles: demo"):
        load_profile("nowhere.yaml")


def _write_tables(folder: Path) -> None:
    keys = "gpu,model,weights_dtype,tp"
    of = "X,M,bf16,1"
    (folder / "profile_prefill_by_gpu.csv").write_text(
        f"{keys},isl,prefill_ms,extra\n{of},200,30,0\n{of},100,20,0\nX,M,fp8,1,100,1,0\n"
    )
    (folder / "profile_decode_by_gpu.csv").write_text(
        f"{keys},batch,context,step_ms\n"
        f"{of},1,100,10\n{of},1,200,11\n{of},1,400,13\n{of},8,100,20\n{of},8,200,24\n"
    )
    (folder / "profile_summary_by_gpu.csv").write_text(
        f"{keys},kv_capacity_tokens\n{of},1600\nY,M,bf16,1,5\n"
    )


def test_tables_become_a_profile_and_holes_carry_on_the_line(tmp_path: Path) -> None:
    _write_tables(tmp_path)
    read = load_profile(str(tmp_path), Selection("M", "bf16", 1))
    assert list(read.gpus) == ["X"]  # Y has no prefill and decode rows
    gpu = read.gpu("X")
    assert gpu.kv_capacity_tokens == 1600
    assert list(gpu.prefill.lengths) == [100, 200]
    assert gpu.prefill_seconds(150) == pytest.approx(0.025)
    assert [list(row) for row in gpu.decode.step_ms] == [[10, 11, 13], [20, 24, 32]]


def test_tables_without_a_match_are_refused(tmp_path: Path) -> None:
    _write_tables(tmp_path)
    with pytest.raises(ValueError, match="no GPU has all three"):
        load_profile(str(tmp_path), Selection("other"))
    (tmp_path / "profile_decode_by_gpu.csv").write_text("gpu,model\nX,M\n")
    with pytest.raises(ValueError, match=r"decode_by_gpu.csv:2: no column .weights_dtype"):
        load_profile(str(tmp_path), Selection("M", "bf16", 1))


@pytest.mark.skipif(not TRACES.is_dir(), reason="HETEROSCALE_TRACES names no folder")
def test_the_measured_tables_agree_with_their_own_summary() -> None:
    gpu = load_profile(str(TRACES), Selection("Llama-3.1-8B")).gpu("A100-SXM4-80GB")
    rate, batch = gpu.decode_rate(1024, limit=0.03)
    assert rate == pytest.approx(5009, rel=0.05)  # its decode_tok_s_ctx1024_itl30ms
    assert batch == pytest.approx(144, rel=0.1)
