"""``heteroscale simulate`` with bad input, and interrupted: one sentence, and nothing is written."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.simulator.typed import FLEET, SERVICE, TRAFFIC, Write, simulate

AGGREGATED = """\
apiVersion: heteroscale/v1
kind: Service
metadata: {name: plain}
spec:
  roles:
    aggregated: {template: a}
"""
SPLIT = """\
apiVersion: heteroscale/v1
kind: Service
metadata: {name: moe}
spec:
  roles:
    attention: {template: a}
    ffn: {template: f}
    decode: {template: d}
  innerRatio: 1:1
"""
ROWS = "t_s,input_tokens,output_tokens\n0,100,10\n"
BAD: Sequence[tuple[Mapping[str, str], Sequence[str], str]] = [
    ({"s.yaml": AGGREGATED}, [], "plain is aggregated; a simulation needs"),
    ({"s.yaml": SPLIT}, [], "moe is split into attention and ffn; a simulation needs"),
    ({"s.yaml": SERVICE.replace("H100", "H20")}, [], "wants H20, the fleet has H100"),
    ({"s.yaml": SERVICE.replace("Llama-3.1-8B", "Nobody-9B")}, [], "no speed is known for"),
    ({"s.yaml": SERVICE.replace("tbt: 50ms", "tbt: 1us")}, [], "tbt"),
    ({"s.yaml": "metadata: ["}, [], "not YAML"),
    ({"s.yaml": SERVICE.replace("ttft:", "tfft:")}, [], "did you mean `ttft`"),
    ({"s.yaml": FLEET}, [], "kind"),
    ({"f.yaml": SERVICE}, [], "kind"),
    ({"f.yaml": FLEET.replace("nodes: 4", "nodes: 0")}, [], "nodes"),
    (
        {"f.yaml": FLEET.replace("nodes: 4", "nodes: 1").replace("PerNode: 8", "PerNode: 1")},
        [],
        "fleet",
    ),
    ({}, ["--initial", "30,30"], "or begin with fewer: --initial"),
    ({}, ["--trace", "gen:diurnall"], "did you mean diurnal?"),
    ({}, ["--trace", "none.csv"], "none.csv: No such file"),
    ({"t.csv": "a,b\n1,2\n"}, ["--trace", "t.csv"], "t.csv:1"),
    ({"t.csv": ROWS + "1,-5,10\n"}, ["--trace", "t.csv"], "t.csv:3"),
    ({"t.csv": ROWS}, ["--trace", "t.csv", "--start", "1h"], "start earlier"),
    ({}, ["--profiles", "none"], "no such folder"),
    ({}, ["--profiles", "demo"], "has no speeds of H100"),
    ({}, ["--json", "s.yaml"], "is an input"),
    ({}, ["--rate-scale", "nan"], "must be above 0"),
    ({}, ["--policy", "magic"], "known are joint"),
]


@pytest.mark.parametrize(("files", "words", "message"), BAD, ids=lambda part: str(part)[:40])
def test_bad_input_is_told_in_a_sentence_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: Mapping[str, str],
    words: Sequence[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"s.yaml": SERVICE, "f.yaml": FLEET, **files}.items():
        Path(name).write_text(text)
    before = sorted(tmp_path.iterdir())
    trace = [] if "--trace" in words else ["--trace", TRAFFIC]
    done = simulate(
        *("--json", "out.json", "--report", "out.html", "--export", "out"),
        *("--service", "s.yaml", "--fleet", "f.yaml", *trace, *words),
    )
    assert done.code == 2, done.out
    assert message in done.err
    assert "Traceback" not in done.err
    # One sentence; a document is told all that is wrong with it, a line each.
    lines = done.err.splitlines()
    assert len(lines) == 1 or all(".yaml:" in line for line in lines)
    assert done.out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_speeds_beyond_a_table_are_refused_unless_they_may_be_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    head = "gpu,model,weights_dtype,tp"
    who = "H100,Llama-3.1-8B,bfloat16,1"
    tables = {
        "prefill": f"{head},isl,prefill_ms\n{who},64,4\n{who},1024,30\n",
        "decode": f"{head},batch,context,step_ms\n"
        + "".join(f"{who},{b},{c},{5 + b / 40 + c / 4000}\n" for b in (1, 64) for c in (64, 2048)),
        "summary": f"{head},kv_capacity_tokens\n{who},120000\n",
    }
    Path("speeds").mkdir()
    for name, text in tables.items():
        Path(f"speeds/profile_{name}_by_gpu.csv").write_text(text)
    Path("s.yaml").write_text(SERVICE)
    Path("f.yaml").write_text(FLEET)
    line = ["--service", "s.yaml", "--fleet", "f.yaml", "--profiles", "speeds", "--json", "-"]
    long = ["--trace", "gen:steady?hours=0.05&peak=2&input=5000&spread=0"]
    refused = simulate(*line, *long)
    assert refused.code == 2
    assert "beyond the measured" in refused.err
    assert "--extend-profiles" in refused.err
    extended = simulate(*line, *long, "--extend-profiles")
    assert extended.code == 0, extended.err
    assert math.isfinite(extended.document["runs"][0]["gpu_hours"])
    (note,) = [note for note in extended.document["notes"] if "estimates beyond" in note]
    assert "1,024" in note


@pytest.mark.process
@pytest.mark.usefixtures("heard_ctrl_c")
def test_ctrl_c_ends_a_run_at_once_and_leaves_nothing(write: Write, tmp_path: Path) -> None:
    line = [
        *(sys.executable, "-m", "heteroscale_cli", "simulate"),
        *("--service", str(write("s.yaml", SERVICE)), "--fleet", str(write("f.yaml", FLEET))),
        *("--trace", "gen:diurnal?hours=24&peak=60", "--progress"),
        *("--json", "out.json", "--report", "out.html", "--export", "out"),
    ]
    before = sorted(tmp_path.iterdir())
    with subprocess.Popen(
        line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while "joint" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert err.endswith("interrupted: nothing was written\n")
    assert out == ""
    assert sorted(tmp_path.iterdir()) == before
