"""Estimates: bounds that physics sets, known values, and their error where engines were measured."""

from __future__ import annotations

from statistics import median, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_simulator.profiles import calibration
from heteroscale_simulator.profiles.hardware import hardware
from heteroscale_simulator.profiles.roofline import NODE_GPUS, Efficiency, Roofline
from heteroscale_simulator.profiles.shapes import shapes
from heteroscale_simulator.profiles.shipped import measured_engines

PERFECT = Efficiency(
    **dict.fromkeys(("mfu_hbm", "mfu_gddr", "fp8", "decode", "attention", "mbu", "nvlink"), 1.0),
    layer=0.0,
    request=0.0,
)
LLAMA = shapes()["Llama-3.1-8B"]
rooflines = st.builds(
    Roofline,
    st.sampled_from(list(shapes().values())),
    st.sampled_from(("bfloat16", "fp8")),
    st.sampled_from(list(hardware().values())),
    st.sampled_from((1, 2, 4, 8)),
)
tokens = st.floats(1, 262144)
batches = st.floats(1, 512)


def h100(of: Efficiency = PERFECT, gpus: int = 1) -> Roofline:
    return Roofline(LLAMA, "bfloat16", hardware()["H100"], gpus, of)


def test_one_decode_step_of_a_perfect_engine_reads_the_weights_once() -> None:
    read = 2 * (LLAMA.parameters - LLAMA.table) / 3350e9
    assert h100().step_seconds(1, 0) == pytest.approx(read, rel=1e-3)
    kv = 64 * 4096 * 128 * 1024 / 3350e9
    assert h100().step_seconds(64, 4096) - h100().step_seconds(64, 0) == pytest.approx(kv)


def test_a_long_prefill_of_a_perfect_engine_is_its_arithmetic() -> None:
    products = 2 * (LLAMA.parameters - 2 * LLAMA.table) * 8192 / 989e12
    attention = 2 * 32 * 4096 * 8192**2 / 989e12
    assert h100().prefill_seconds(8192) == pytest.approx(products + attention, rel=1e-3)


def test_an_all_reduce_moves_activations_twice_a_layer() -> None:
    two = h100(gpus=2)
    free = h100(gpus=2).prefill_seconds(8192) - h100().prefill_seconds(8192) / 2
    assert free == pytest.approx(2 * 32 * 8192 * 4096 * 2 / 900e9, rel=1e-3)
    assert two.kv_capacity() > 2 * h100().kv_capacity()


@given(rooflines, tokens, batches, tokens)
def test_nothing_beats_the_peaks(
    engine: Roofline, prompt: float, batch: float, context: float
) -> None:
    peak = engine.gpus * engine.hardware.tflops(engine.weights) * 1e12
    products = 2 * (engine.shape.parameters - 2 * engine.shape.table)
    assert engine.prefill_seconds(prompt) > products * prompt / peak
    assert engine.step_seconds(batch, context) > products * batch / peak
    read = engine.shape.weight_bytes(engine.weights) / 2  # half: embeddings are looked up
    memory = engine.gpus * engine.hardware.memory_gbps * 1e9
    assert engine.step_seconds(batch, context) > read / memory


@given(rooflines, tokens, batches, tokens, st.floats(1.01, 3))
def test_more_work_takes_longer(
    engine: Roofline, prompt: float, batch: float, context: float, more: float
) -> None:
    assert engine.prefill_seconds(prompt * more) > engine.prefill_seconds(prompt)
    step = engine.step_seconds(batch, context)
    assert engine.step_seconds(batch * more, context) > step
    assert engine.step_seconds(batch, context * more) > step


def test_kv_capacity_is_what_was_measured() -> None:
    for (gpu, engine), measured in measured_engines().items():
        roofline = Roofline(
            shapes()[engine.model], engine.weights_dtype, hardware()[gpu], engine.tensor_parallel
        )
        # Those tables round the weights up, to 70.6 billion.
        tokens = abs(roofline.kv_capacity() - measured.kv_capacity_tokens)
        assert tokens * roofline.shape.kv_bytes_per_token / roofline.gpus < 0.05e9, gpu


def test_copies_of_kv_heads_bring_no_room() -> None:
    qwen = shapes()["Qwen2.5-7B"]  # 4 KV heads
    four, eight = (Roofline(qwen, "bfloat16", hardware()["H100"], n) for n in (4, 8))
    assert eight.kv_capacity() < 1.1 * four.kv_capacity()


def test_a_model_that_does_not_fit_is_refused_in_words() -> None:
    large = Roofline(shapes()["Llama-3.1-70B"], "bfloat16", hardware()["L20"], 2)
    with pytest.raises(
        ValueError, match=r"70B bfloat16 on 2 × L20: 131 GiB of weights .* in 90 GiB"
    ):
        large.profile()
    with pytest.raises(ValueError, match="8 GPUs at most, one node"):
        h100(gpus=NODE_GPUS + 1).profile()
    with pytest.raises(ValueError, match="'int4': an estimate knows bfloat16, float16, fp8"):
        Roofline(LLAMA, "int4", hardware()["H100"]).profile()


def test_a_profile_says_that_it_is_estimated_and_hits_its_formula() -> None:
    engine = h100(Efficiency())
    profile = engine.profile()
    assert (profile.source, profile.measured, profile.strict) == ("estimated", None, False)
    assert profile.origin == "Llama-3.1-8B bfloat16 on 1 × H100"
    assert profile.prefill_seconds(262144) == pytest.approx(engine.prefill_seconds(262144))
    assert profile.step_seconds(64, 2048) == pytest.approx(engine.step_seconds(64, 2048))


@pytest.mark.parametrize(
    ("work", "middle", "tail", "bias"),
    [
        ("prefill", 0.07, 0.17, 0.02),
        ("decode", 0.07, 0.15, 0.02),
        ("prefill beyond", 0.04, 0.13, 0.02),
        ("decode beyond", 0.03, 0.07, 0.02),
    ],
)
def test_the_error_is_what_the_docs_say(work: str, middle: float, tail: float, bias: float) -> None:
    gpus = ["A100", "L40S", "H100", "H200"]
    of = Efficiency()
    every = [*calibration.points(of, gpus), *calibration.beyond(of, gpus)]
    errors = [point.error for point in every if point.work == work]
    sizes = [abs(error) for error in errors]
    assert len(errors) > 50
    assert median(sizes) < middle
    assert quantiles(sizes, n=10)[-1] < tail
    assert abs(median(errors)) < bias


def test_a_fit_finds_the_efficiencies_that_made_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table made by the roofline itself has one best fit."""
    engine, measured = next(
        item
        for item in measured_engines().items()
        if item[0][0] == "H100" and item[0][1].tensor_parallel == 2
    )
    truth = Efficiency(mbu=0.6, attention=0.4)
    made = Roofline(
        shapes()[engine[1].model], engine[1].weights_dtype, hardware()["H100"], 2, truth
    )
    twin = type(measured)(
        origin="made",
        kv_capacity_tokens=measured.kv_capacity_tokens,
        prefill={n: 1000 * made.prefill_seconds(n) for n in measured.prefill},
        decode={at: 1000 * made.step_seconds(*at) for at in measured.decode},
    )
    monkeypatch.setattr(calibration, "measured_engines", lambda: {engine: twin})
    found = calibration.fit(["H100"], Efficiency())
    assert found.mbu == pytest.approx(0.6, rel=0.05)
    sizes = [abs(point.error) for point in calibration.points(found, ["H100"])]
    assert max(sizes) < 0.03


def test_the_command_prints_a_row_for_each_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert calibration.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1::4]] == ["A100", "H100", "H200", "L40S", "all"]
