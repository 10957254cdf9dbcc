"""Speeds for everybody: measured, extended, estimated; and tables of one's own, which are strict."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from statistics import quantiles

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core.spec import ModelSpec
from heteroscale_simulator.profiles import RangeError
from heteroscale_simulator.profiles.catalogue import DEFAULT_MODEL, speeds_for
from heteroscale_simulator.profiles.hardware import hardware
from heteroscale_simulator.profiles.model import GpuProfile
from heteroscale_simulator.profiles.shipped import measured_engines
from heteroscale_simulator.profiles.speed_grid import SpeedGrid

TRACES = Path(os.environ.get("HETEROSCALE_TRACES", "nowhere"))
MODEL = ModelSpec(name="Llama-3.1-8B", weights="bf16")
LARGE = ModelSpec(name="Llama-3.1-70B")
KEYS = "gpu,model,weights_dtype,tp"
OF = "H100-SXM-80GB,Llama-3.1-8B,bf16,1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return tables of a made-up measurement: KV capacity 1,600 tokens, edges at 400 tokens."""
    (tmp_path / "profile_prefill_by_gpu.csv").write_text(
        f"{KEYS},isl,prefill_ms,extra\n{OF},100,20,0\n{OF},400,80,0\n{OF},200,30,0\n"
    )
    (tmp_path / "profile_decode_by_gpu.csv").write_text(
        f"{KEYS},batch,context,step_ms\n"
        f"{OF},1,100,10\n{OF},1,200,11\n{OF},1,400,13\n{OF},8,100,20\n{OF},8,200,24\n"
    )
    (tmp_path / "profile_summary_by_gpu.csv").write_text(f"{KEYS},kv_capacity_tokens\n{OF},1600\n")
    return tmp_path


def own(folder: Path, *, extend: bool = False) -> GpuProfile:
    model = ModelSpec(name=MODEL.name, weights="bf16")
    return speeds_for(model, ["H100"], 1, folder, extend=extend).gpu("H100")


def every_catalogued() -> dict[str, GpuProfile]:
    """Return all measured engines, and an estimate of each type that has none, as delivered."""
    found = {}
    for gpu, engine in measured_engines():
        model = ModelSpec(name=engine.model, weights=engine.weights_dtype)
        profile = speeds_for(model, [gpu], engine.tensor_parallel).gpu(gpu)
        found[f"{gpu} {engine}"] = profile
    return found | dict(speeds_for(None, list(hardware()), 1).gpus)


CATALOGUED = every_catalogued()
names = st.sampled_from(sorted(CATALOGUED))
tokens = st.floats(0, 300_000)
batches = st.floats(0.1, 600)


def test_the_default_is_said_and_types_keep_the_names_they_were_asked_by() -> None:
    speeds = speeds_for(None, ["H20", "H100-SXM-80GB", "L20"], 1)
    assert speeds.model == DEFAULT_MODEL.name == "Llama-3.1-8B"
    assert speeds.kv_bytes_per_token == 128 * 1024
    assert {name: gpu.source for name, gpu in speeds.gpus.items()} == {
        "H20": "estimated",
        "H100-SXM-80GB": "extended",
        "L20": "estimated",
    }
    assert speeds.gpu("H100-SXM-80GB").max_batch == 512


def test_a_measured_engine_tells_how_far_it_was_measured() -> None:
    h100 = speeds_for(LARGE, ["H100"], 4).gpu("H100")
    assert h100.measured is not None
    assert (h100.measured.prompt, h100.measured.context) == (16384, 16384)
    assert h100.kv_capacity_tokens == 476189
    assert h100.prefill_seconds(1024) == pytest.approx(0.067616, rel=1e-4)
    assert h100.prefill.lengths[-1] == h100.decode.contexts[-1] == 262144


def test_interpolation_hits_what_was_measured_but_for_its_noise() -> None:
    raised = 0
    for (gpu, engine), measured in measured_engines().items():
        profile = CATALOGUED[f"{gpu} {engine}"]
        for length, ms in measured.prefill.items():
            assert profile.prefill_seconds(length) == pytest.approx(ms / 1000)
        for (batch, context), ms in measured.decode.items():
            got = 1000 * profile.step_seconds(batch, context)
            assert got == pytest.approx(ms) or ms < got < 1.10 * ms
            raised += got > 1.0001 * ms
    assert 0 < raised < 80  # of 1,882


@given(names, tokens, batches, tokens, st.floats(1, 4))
def test_more_tokens_a_larger_batch_a_longer_context_are_never_faster(
    name: str, prompt: float, batch: float, context: float, more: float
) -> None:
    profile = CATALOGUED[name]
    least = 1 - 1e-12
    assert profile.prefill_seconds(more * prompt) >= least * profile.prefill_seconds(prompt)
    step = least * profile.step_seconds(batch, context)
    assert profile.step_seconds(more * batch, context) >= step
    assert profile.step_seconds(batch, more * context) >= step


def test_beyond_the_edge_the_curve_goes_on_without_a_jump() -> None:
    for name, profile in CATALOGUED.items():
        assert profile.prefill_seconds(16400) < 1.01 * profile.prefill_seconds(16384), name
        rates = [profile.prefill_rate(n) for n in profile.prefill.lengths if n >= 8192]
        assert all(after < 1.05 * before for before, after in pairwise(rates)), name


def test_a_long_prompt_costs_more_than_the_last_line_would_say() -> None:
    h100 = CATALOGUED["H100"]
    (x0, x1), (y0, y1) = (8192, 16384), (h100.prefill_seconds(8192), h100.prefill_seconds(16384))
    line = y1 + (262144 - x1) * (y1 - y0) / (x1 - x0)
    assert h100.prefill_seconds(262144) > 2 * line


@pytest.mark.parametrize(
    ("model", "gpu", "gpus", "complaint"),
    [
        (None, "GH200", 2, r"Llama-3.1-8B bfloat16 tp 2 on GH200; known GPU types are A10, A100,"),
        (ModelSpec(name="Foo"), "H100", 1, r"no speed is known for Foo .*; known models are Llama"),
        (ModelSpec(name="meta-llama/Llama-3.1-8B-Instruct"), "H100", 1, "mean Llama-3.1-8B"),
        (ModelSpec(name=MODEL.name, weights="int4"), "H20", 1, "8B, weights 'int4': an estimate"),
        (LARGE, "H100", 1, r"Llama-3.1-70B bfloat16 on 1 × H100: 131 GiB of weights"),
    ],
)
def test_an_unknown_engine_is_refused_with_what_there_is(
    model: ModelSpec | None, gpu: str, gpus: int, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        speeds_for(model, [gpu], gpus)


def test_own_tables_are_exact_inside_and_refuse_outside(folder: Path) -> None:
    gpu = own(folder)
    assert (gpu.source, gpu.strict, gpu.max_batch, gpu.max_prefill_tokens) == (
        *("measured", True, 8),
        400,
    )
    assert gpu.prefill_seconds(300) == pytest.approx(0.055)
    assert gpu.prefill_seconds(50) == pytest.approx(0.020)
    assert gpu.step_seconds(1, 300) == pytest.approx(0.012)
    assert gpu.step_seconds(8, 200) == pytest.approx(0.024)
    where = r"profile_\*_by_gpu.csv: H100-SXM-80GB, Llama-3.1-8B bf16 tp 1: "
    with pytest.raises(RangeError, match=where + "a prompt of 401 tokens .* measured 400"):
        gpu.prefill_seconds(401)
    with pytest.raises(RangeError, match=where + "a context of 500 tokens .* measured 400"):
        gpu.step_seconds(1, 500)


def test_the_grid_refuses_what_a_strict_profile_refuses(folder: Path) -> None:
    grid = SpeedGrid([own(folder), CATALOGUED["H20"]])
    types, far = np.array([0, 1]), np.array([100.0, 9000.0])
    assert grid.prefill_seconds(types, far)[0] == pytest.approx(0.020)
    assert grid.step_seconds(types, np.ones(2), far)[0] == pytest.approx(0.010)
    with pytest.raises(RangeError, match="a prompt of 9000 tokens"):
        grid.prefill_seconds(types, far[::-1])
    with pytest.raises(RangeError, match="a context of 9000 tokens"):
        grid.step_seconds(types, np.ones(2), far[::-1])


def test_own_tables_are_extended_when_asked(folder: Path) -> None:
    model = ModelSpec(name=MODEL.name)
    for path in folder.glob("*.csv"):
        path.write_text(path.read_text().replace("bf16", "bfloat16"))
    gpu = speeds_for(model, ["H100"], 1, folder, extend=True).gpu("H100")
    assert (gpu.source, gpu.strict) == ("extended", False)
    assert gpu.measured is not None
    assert gpu.measured.prompt == 400
    assert gpu.prefill_seconds(300) == pytest.approx(0.055)
    assert gpu.prefill_seconds(800) > gpu.prefill_seconds(400)
    assert gpu.step_seconds(8, 100_000) > gpu.step_seconds(8, 400) > gpu.step_seconds(8, 200)


def test_weights_that_no_estimate_knows_are_measured_but_not_extended(folder: Path) -> None:
    assert own(folder).kv_capacity_tokens == 1600
    with pytest.raises(ValueError, match="'bf16': an estimate knows"):
        own(folder, extend=True)


def test_what_own_tables_lack_is_told_with_what_they_have(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"lack H20 for .* tp 2; they have H100-SXM-80GB: Llama-3.1-8B bf16 tp 1$"
    ):
        speeds_for(ModelSpec(name=MODEL.name, weights="bf16"), ["H20"], 2, folder)


def test_two_names_for_one_type_must_be_told_apart(folder: Path) -> None:
    for path in folder.glob("*.csv"):
        twin = [line.replace("-SXM-", "-SXM5-") for line in path.read_text().splitlines()[1:]]
        path.write_text(path.read_text() + "\n".join(twin) + "\n")
    with pytest.raises(ValueError, match="name H100 more than once"):
        own(folder)
    assert speeds_for(MODEL, ["H100-SXM5-80GB"], 1, folder).gpu("H100-SXM5-80GB").strict


def test_a_batch_measured_too_short_is_refused_unless_extended(folder: Path) -> None:
    decode = folder / "profile_decode_by_gpu.csv"
    decode.write_text(decode.read_text().replace(f"{OF},8,200,24\n", ""))
    with pytest.raises(ValueError, match="batch 8 was measured to a context of 100 tokens, and KV"):
        own(folder)


@pytest.mark.parametrize(
    ("table", "old", "new", "complaint"),
    [
        ("prefill", "200,30", "200,nan", "by_gpu.csv:4: prefill_ms is nan"),
        ("prefill", "200,30", "200,-3", "by_gpu.csv:4: prefill_ms is -3"),
        ("prefill", "200,30", "400,30", "by_gpu.csv:4: isl 400 is there twice"),
        ("decode", "1,200,11", "1,100,11", "by_gpu.csv:3: batch 1 at context 100 is there twice"),
        ("decode", "step_ms", "ms", "by_gpu.csv:2: no column 'step_ms'"),
        ("summary", f"{OF},1600", f"{OF},1600\n{OF},1700", "by_gpu.csv:2 once more"),
        ("summary", "1600", "0", "by_gpu.csv:2: kv_capacity_tokens is 0"),
        ("summary", ",1,1600", ",one,1600", "by_gpu.csv:2: tp: could not convert"),
    ],
)
def test_wrong_tables_are_refused_with_their_line(
    folder: Path, table: str, old: str, new: str, complaint: str
) -> None:
    path = folder / f"profile_{table}_by_gpu.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=table) as caught:
        own(folder)
    assert complaint in str(caught.value)


def test_a_missing_table_or_folder_is_named(folder: Path) -> None:
    (folder / "profile_decode_by_gpu.csv").unlink()
    with pytest.raises(ValueError, match=r"profile_decode_by_gpu\.csv: .*No such file"):
        own(folder)
    (folder / "profile_decode_by_gpu.csv").write_text("")
    with pytest.raises(ValueError, match=r"profile_decode_by_gpu\.csv: empty"):
        own(folder)
    with pytest.raises(ValueError, match="nowhere: no folder"):
        speeds_for(None, ["H100"], 1, Path("nowhere"))


def test_a_folder_may_describe_a_model_and_a_gpu_for_estimates(tmp_path: Path) -> None:
    (tmp_path / "models.csv").write_text(
        "model,parameters,layers,hidden,heads,kv_heads,head_size,vocabulary\n"
        "Mine-3B,3e9,28,3072,24,8,128,128256\n"
    )
    (tmp_path / "hardware.csv").write_text(
        "gpu,aliases,bf16_tflops,fp8_tflops,memory_gib,memory_kind,memory_gbps,link,link_gbps,"
        "power_w,price_per_hour,source\nX1,,100,,64,HBM,2000,nvlink,400,300,1,me\n"
    )
    speeds = speeds_for(ModelSpec(name="Mine-3B"), ["X1", "H100"], 1, tmp_path)
    assert {gpu.source for gpu in speeds.gpus.values()} == {"estimated"}
    assert speeds.kv_bytes_per_token == 2 * 28 * 8 * 128 * 2


@pytest.mark.skipif(not TRACES.is_dir(), reason="HETEROSCALE_TRACES names no folder")
def test_the_thinned_rows_stand_for_the_whole_tables() -> None:
    off = []
    for gpu, engine in measured_engines():
        shipped = CATALOGUED[f"{gpu} {engine}"]
        model = ModelSpec(name=engine.model, weights=engine.weights_dtype)
        whole = speeds_for(model, [gpu], engine.tensor_parallel, TRACES).gpu(gpu)
        assert shipped.kv_capacity_tokens == whole.kv_capacity_tokens
        assert shipped.max_batch == whole.max_batch
        for length, ms in zip(whole.prefill.lengths, whole.prefill.ms, strict=True):
            assert shipped.prefill_seconds(length) == pytest.approx(ms / 1000, rel=1e-3)
        off += [
            abs(1000 * shipped.step_seconds(batch, context) / ms - 1)
            for batch, row in zip(whole.decode.batches, whole.decode.step_ms, strict=True)
            for context, ms in zip(whole.decode.contexts, row, strict=True)
            if batch * context <= whole.kv_capacity_tokens
        ]
    assert len(off) == 2570
    assert quantiles(off, n=100)[94] < 0.05
    assert max(off) < 0.25
