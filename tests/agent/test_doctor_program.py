"""The doctor as a program: looks side by side, what it prints, how it is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from heteroscale_agent.doctor import checkup
from heteroscale_agent.doctor.command import _AFTER_ENGINES, _LOOKS, run
from heteroscale_agent.doctor.finding import Case, Finding, Level, Look, note, ok, problem
from heteroscale_agent.doctor.show import Report, as_json, as_text
from heteroscale_workbench import nvml_stub
from tests.agent.doctor_cases import document, free_port, spec


def test_a_look_that_hangs_or_fails_takes_nothing_from_the_others() -> None:
    never = threading.Event()

    def hanging(_: Case) -> Iterator[Finding]:
        yield ok("first", "seen before the hang")
        never.wait()

    def failing(_: Case) -> Iterator[Finding]:
        yield from ()
        raise RuntimeError("driver said\x1b[2J nonsense")

    def closed(_: Case) -> Iterator[Finding]:
        yield from ()
        raise PermissionError(13, "Permission denied", "/closed/x")

    looks = [
        Look("a", "hanging", hanging),
        Look("b", "failing", failing),
        Look("b", "closed", closed),
        Look("c", "good", lambda _: iter([ok("good", "yes")])),
    ]
    found = checkup.run(looks, Case(spec(), deadline=0.2))
    never.set()
    assert [(subject, finding.check, finding.level) for subject, finding in found] == [
        ("a", "first", Level.OK),
        ("a", "hanging", Level.PROBLEM),
        ("b", "failing", Level.PROBLEM),
        ("b", "closed", Level.PROBLEM),
        ("c", "good", Level.OK),
    ]
    assert "no answer within 0.2 s" in found[1][1].saw
    assert "\x1b" not in found[2][1].saw
    assert found[3][1].saw == "/closed/x is closed to us"


REPORT = Report(
    "0.1.0",
    "gpu-1",
    "/etc/heteroscale/agent.yaml",
    [
        ("host", ok("kernel", "Linux 6.8")),
        ("RDMA", note("mlx5_0/1", "not active", "cable it")),
        ("RDMA", problem("device files", "may not open uverbs0", "chmod")),
    ],
)


def test_the_text_is_aligned_and_says_what_to_do() -> None:
    assert as_text(REPORT, colour=False, width=80).splitlines() == [
        "heteroscale 0.1.0 on gpu-1, /etc/heteroscale/agent.yaml",
        "",
        "host",
        "  ok       kernel        Linux 6.8",
        "",
        "RDMA",
        "  note     mlx5_0/1      not active",
        "                         → cable it",
        "  problem  device files  may not open uverbs0",
        "                         → chmod",
        "",
        "1 problem, 1 note, 1 ok",
    ]
    assert "\x1b[1;31mproblem\x1b[0m" in as_text(REPORT, colour=True, width=80)


def test_the_json_keeps_its_form() -> None:
    told = json.loads(as_json(REPORT))
    assert list(told) == ["format", "heteroscale", "host", "document", "counts", "findings"]
    assert told["format"] == 1
    assert told["counts"] == {"ok": 1, "note": 1, "problem": 1}
    assert told["findings"][1] == {
        "subject": "RDMA",
        "check": "mlx5_0/1",
        "level": "note",
        "saw": "not active",
        "todo": "cable it",
    }


def doctor(*words: str | Path, environ: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "heteroscale_agent", "doctor", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environ or {})},
    )
    return done.returncode, done.stdout, done.stderr


def test_on_a_host_with_gpus(tmp_path: Path) -> None:
    library = nvml_stub.build(tmp_path)
    shown = nvml_stub.StubState(tmp_path / "gpus.txt", [nvml_stub.StubGpu(name="NVIDIA H20")] * 2)
    shown.write()
    config = document(
        tmp_path,
        f"  coordinator: 127.0.0.1:{free_port()}\n  stateDir: {tmp_path / 'state'}\n"
        f"  gpu: {{library: {library}}}\n"
        "  templates:\n"
        f"    small: {{role: decode, gpus: 2, command: [{sys.executable}]}}\n"
        f"    large: {{role: decode, gpus: 4, command: [{sys.executable}]}}\n",
    )
    status, said, error = doctor(
        "-c", config, "--json", environ={nvml_stub.STATE_VARIABLE: str(tmp_path / "gpus.txt")}
    )
    assert (status, error) == (1, "")
    found = {(f["subject"], f["check"]): f for f in json.loads(said)["findings"]}
    assert found["GPUs", "2 × H20"]["level"] in {"ok", "note"}
    assert found["GPUs", "template large"]["level"] == "problem"
    assert ("GPUs", "template small") not in found
    assert found["engines", "template small"]["level"] == "ok"
    assert found["coordinator", "port"]["level"] == "problem"
    assert not (tmp_path / "state").exists()


def test_for_a_person(tmp_path: Path) -> None:
    config = document(tmp_path, "  coordinator: 127.0.0.1:1\n  gpu: {source: none}\n")
    status, said, error = doctor("--timeout", "9s", "-c", config, environ={"NO_COLOR": "1"})
    assert (status, error) == (1, "")
    assert "problem  port" in said
    assert said.splitlines()[-1].startswith("1 problem, ")


def test_nothing_but_json_is_printed_where_json_is_asked_for(tmp_path: Path) -> None:
    config = document(
        tmp_path,
        "  coordinator: 127.0.0.1:1\n  gpu: {source: none}\n"
        f"  topologyFrom: [{{file: {tmp_path / 'none.yaml'}}}]\n",
    )
    status, said, error = doctor("-c", config, "--json")
    assert (status, error) == (1, "")
    assert any("none.yaml" in finding["check"] for finding in json.loads(said)["findings"])


def test_wrong_usage_and_wrong_documents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["-c", str(tmp_path / "none.yaml")]) == 2
    assert "No such file" in capsys.readouterr().err
    for words in (["--timeout", "soon"], ["--timeout", "0"], ["--nonsense"]):
        with pytest.raises(SystemExit) as refused:
            run(words)
        assert refused.value.code == 2
    capsys.readouterr()
    wrong = document(tmp_path, "  coordinator: 127.0.0.1:1\n  gpu: {source: nvlm}\n")
    status, said, _ = doctor("-c", wrong, "--json")
    assert status == 1
    told = json.loads(said)["findings"]
    assert told[0]["level"] == "problem"
    assert "agent.yaml:5: spec.gpu.source" in told[0]["saw"]
    assert len(told) > 10


def test_the_manual_names_every_subject() -> None:
    page = (Path(__file__).parents[2] / "docs/install.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| `findings[].subject`")]
    subjects = {look.subject for look in (*_LOOKS, *_AFTER_ENGINES)}
    assert set(row.split("`")[3::2]) == {"document", *subjects}
