"""The command: what it refuses, what it finds on the plant, and how it goes on after an interruption."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from heteroscale.documents import read_one
from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceDocument
from heteroscale_workbench.pressure import command, simulated
from heteroscale_workbench.pressure.command import run
from heteroscale_workbench.pressure.values import Counts, Trial

PREFILL = "    prefill: {template: p, gpuTypes: [H100], max: 9}\n"
DECODE = "    decode: {template: d, gpuTypes: [H100], max: 9}\n"
ONE = "    aggregated: {template: a}\n"
SPLIT = "    attention: {template: a}\n    ffn: {template: f}\n"
INNER = f"  innerRatio: 1:1\n  roles:\n{SPLIT}"
SERVICE = f"""\
apiVersion: heteroscale/v1
kind: Service
metadata: {{name: chat}}
spec:
  # What is served.
  model: {{name: Llama-3.1-8B}}
  slo: {{ttft: 1s, tbt: 50ms}}
  roles:
{PREFILL}{DECODE}"""
LENGTHS = ("--input-tokens", "1000", "--output-tokens", "100")
NOBODY = (
    *("--counts", "1,1", "--measure", "2", "--warm-up", "1"),
    "--yes-this-is-not-production",
)
QUICK = (*LENGTHS, "--units", "4", "--warm-up", "20", "--measure", "40", "--tolerance", "0.1")


@pytest.fixture
def service(tmp_path: Path) -> Path:
    path = tmp_path / "chat.yaml"
    path.write_text(SERVICE)
    return path


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--endpoint", "http://x", *LENGTHS), "--yes-this-is-not-production"),
        (("--simulated",), "name --trace, or --input-tokens and --output-tokens"),
        (("--simulated", "--trace", "nowhere.csv"), "nowhere.csv"),
        (("--simulated", *LENGTHS, "--units", "1"), "--units 1 cannot be split"),
        (("--simulated", *LENGTHS, "--profiles", "nowhere"), "nowhere: no folder of tables"),
        (
            ("--endpoint", "http://x", *LENGTHS, "--yes-this-is-not-production"),
            "say its --counts P,D, once",
        ),
        (
            ("--endpoint", "http://127.0.0.1:9", *LENGTHS, *NOBODY, "--first-rate", "9"),
            "requests was answered",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    service: Path, capsys: pytest.CaptureFixture[str], options: Sequence[str], message: str
) -> None:
    assert run(["--service", str(service), *options]) == 2
    assert message in told(capsys)
    assert service.read_text() == SERVICE


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("slo: {ttft: 1s, tbt: 50ms}", "slo: {ttft: 1s}", "spec.slo needs `ttft` and `tbt`"),
        ("Llama-3.1-8B", "Nobody-7B", "Nobody-7B"),
        (f"{PREFILL}{DECODE}", ONE, "spec.roles has no prefill and decode"),
        (
            f"  roles:\n{PREFILL}",
            INNER,
            "splits prefill into attention and ffn; a pressure test balances a prefill in",
        ),
        ("[H100]", "[Z1]", "Z1"),
        ("tbt: 50ms", "tbt: 1ms", "at a light load only 0.0 % of the requests are met"),
    ],
)
def test_a_service_that_cannot_be_tested_is_refused(
    service: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    service.write_text(SERVICE.replace(old, new))
    assert run(["--service", str(service), "--simulated", *QUICK]) == 2
    assert message in told(capsys)


def test_a_service_file_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--simulated", "--service", str(tmp_path / "none.yaml"), *LENGTHS]) == 2
    assert "none.yaml: No such file" in told(capsys)


def test_ratio_and_targets_are_found_and_written(
    service: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert run(["--service", str(service), "--simulated", *QUICK, "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [(one["prefill"], one["decode"]) for one in found["splits"]] == [(1, 3), (2, 2), (3, 1)]
    spec = read_one(service, "Service").parse(ServiceDocument).spec
    assert (spec.ratio.min, spec.ratio.max) == pytest.approx(
        (found["band"]["low"], found["band"]["high"]), rel=0.005
    )
    assert spec.ratio.min < eval_ratio(found["ratio"]) < spec.ratio.max
    assert spec.roles[Role.DECODE].target_of("H100") == pytest.approx(
        found["targets"]["decode"][""], rel=0.01
    )
    assert "# What is served." in service.read_text()
    best = max(found["splits"], key=lambda one: one["limit"]["decode_tps"])
    # 1,000 prompt tokens to 100: prefill is the larger part of the work.
    assert best["prefill"] >= best["decode"]
    assert "Best ratio" in told(capsys)


def test_requests_that_no_engine_can_meet_alone_are_told_and_do_not_count(
    service: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompts of 64k tokens take seconds on a free engine; the targets are those of the others."""
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    rows += [
        f"2024-05-10 00:{n // 60:02}:{n % 60:02},{64000 if n % 40 == 9 else 2000},100"
        for n in range(1200)
    ]
    trace, out = tmp_path / "long.csv", tmp_path / "out.json"
    trace.write_text("\n".join(rows))
    options = ("--trace", str(trace), "--units", "8", "--counts", "4,4", "--tolerance", "0.1")
    assert run(["--service", str(service), "--simulated", *options, "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["ceiling"] == pytest.approx(0.972, abs=0.008)
    assert found["targets"]["prefill"][""] > 8000
    why = (
        f"ven at a light load {100 * found['ceiling']:.1f} % of these requests meet the SLO, no "
        f"more; targets hold {100 * found['ceiling'] - 0.5:.1f} %"
    )
    assert f"E{why}. " in told(capsys)
    assert f"  # profile: e{why}\n" in service.read_text()


def test_long_prompts_of_a_recording_have_a_factor_of_their_own(
    service: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Minutes of 500 prompt tokens, then of 3,500: decode's steps take longer, its KV holds fewer."""
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    rows += [
        f"2024-05-10 00:{n // 120:02}:{n // 2 % 60:02},{500 if n < 1200 else 3500},100"
        for n in range(2400)
    ]
    trace, out = tmp_path / "two.csv", tmp_path / "out.json"
    trace.write_text("\n".join(rows))
    quick = ("--counts", "2,2", "--warm-up", "20", "--measure", "30", "--tolerance", "0.1")
    words = ("--service", str(service), "--simulated", "--trace", str(trace), "--json", str(out))
    assert run([*words, *quick]) == 0
    found = json.loads(out.read_text())["target_by_prompt"]
    assert list(found["decode"]) == ["500", "2000", "3500"]
    assert found["decode"]["500"] > 1.2
    assert found["decode"]["3500"] < 0.9
    written = read_one(service, "Service").parse(ServiceDocument).spec.roles[Role.DECODE]
    assert written.factor_at(3500) == pytest.approx(found["decode"]["3500"], rel=0.01)
    assert f"at 3,500; decode × {found['decode']['500']:.2f} at 500," in told(capsys)


def test_the_fixed_ratio_is_written_where_it_is_asked_for(service: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = ["--service", str(service), "--simulated", *QUICK, "--json", str(out)]
    assert run([*options, "--ratio", "fixed"]) == 0
    spec = read_one(service, "Service").parse(ServiceDocument).spec
    assert spec.ratio.min == spec.ratio.max
    assert spec.ratio.min == pytest.approx(eval_ratio(json.loads(out.read_text())["ratio"]))


def eval_ratio(text: str) -> float:
    prefill, decode = text.split(":")
    return int(prefill) / int(decode)


@pytest.mark.parametrize(
    ("prompt", "output", "best"), [("2400", "300", {"1:1"}), ("3200", "160", {"5:3", "11:5"})]
)
def test_of_16_units_an_interior_split_is_best_and_another_for_another_service(
    service: Path, tmp_path: Path, prompt: str, output: str, best: set[str]
) -> None:
    """The paper's Figure 4, on three splits around the best."""
    out = tmp_path / "out.json"
    lengths = ("--input-tokens", prompt, "--output-tokens", output, "--tolerance", "0.05")
    splits = [word for p in (4, 8, 10, 11, 14) for word in ("--counts", f"{p},{16 - p}")]
    options = ["--service", str(service), "--simulated", *lengths, *splits, "--json", str(out)]
    assert run([*options, "--dry-run", "--warm-up", "60", "--measure", "30"]) == 0
    assert json.loads(out.read_text())["ratio"] in best


def test_every_gpu_type_has_its_own_target(service: Path) -> None:
    service.write_text(SERVICE.replace("d, gpuTypes: [H100]", "d, gpuTypes: [H100, L40S]"))
    assert run(["--service", str(service), "--simulated", *QUICK]) == 0
    roles = read_one(service, "Service").parse(ServiceDocument).spec.roles
    strong, weak = (roles[Role.DECODE].target_of(gpu) for gpu in ("H100", "L40S"))
    assert strong > 2 * weak > 0


def test_a_dry_run_writes_nothing_into_the_service(service: Path) -> None:
    assert run(["--service", str(service), "--simulated", *QUICK, "--dry-run"]) == 0
    assert service.read_text() == SERVICE


def test_interrupted_it_goes_on_where_it_was(
    service: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[float] = []

    class CutOff(simulated.Simulated):
        async def load(self, counts: Counts, rate: float) -> Trial:
            if len(done) == limit:
                raise KeyboardInterrupt
            done.append(rate)
            return await super().load(counts, rate)

    monkeypatch.setattr("heteroscale_workbench.pressure.case.Simulated", CutOff)
    limit = 4
    options = ["--service", str(service), "--simulated", *QUICK]
    assert run(options) == command.INTERRUPTED
    assert "the same command goes on" in told(capsys)
    limit = 1000
    assert run(options) == 0
    assert "4 trials are in the journal already" in told(capsys)
    # None was done twice: the journal has a line for each, and its first.
    journal = service.with_suffix(".profile.jsonl").read_text()
    assert len(done) == len(journal.splitlines()) - 1
