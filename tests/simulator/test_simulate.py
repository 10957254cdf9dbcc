"""``heteroscale simulate`` from the command line to its outputs, on short generated traffic."""

from __future__ import annotations

import gzip
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.simulator import recompute
from tests.simulator.typed import FLEET, SERVICE, TRAFFIC, Write, simulate

ROOT = Path(__file__).resolve().parents[2]
POLICIES = ("hpa", "joint", "static-peak", "oracle-free", "oracle-fixed")


@dataclass(frozen=True)
class Played:
    document: Mapping[str, Any]
    folder: Path

    @property
    def runs(self) -> Mapping[str, Mapping[str, Any]]:
        """Figures by policy."""
        return {run["policy"]: run for run in self.document["runs"]}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Run every policy once; all tests of what comes out look at the same files."""
    folder = tmp_path_factory.mktemp("played")
    (folder / "service.yaml").write_text(SERVICE)
    (folder / "fleet.yaml").write_text(FLEET)
    done = simulate(
        *("--service", folder / "service.yaml", "--fleet", folder / "fleet.yaml"),
        *("--trace", TRAFFIC, "--policy", ",".join(POLICIES), "--seed", "3"),
        *("--json", "-", "--report", folder / "out.html", "--export", folder / "out"),
    )
    assert done.code == 0, done.err
    return Played(done.document, folder)


# ---- figures -------------------------------------------------------------------------------


def test_runs_stand_in_the_order_asked(played: Played) -> None:
    assert [run["policy"] for run in played.document["runs"]] == list(POLICIES)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_figures_can_be_recomputed_from_the_tables(played: Played, policy: str) -> None:
    told = recompute.figures(played.folder / "out", policy)
    run = played.runs[policy]
    assert {name: run[name] for name in told} == {
        name: pytest.approx(value, rel=1e-6, abs=1e-9) for name, value in told.items()
    }
    errors = list(recompute.ratio_errors(played.folder / "out", policy))
    mean = sum(s * e for s, e in errors) / sum(s for s, _ in errors)
    # The table has minutes; the figure looks at every change inside them.
    assert run["ratio_error_mean"] == pytest.approx(mean, abs=0.05)


@pytest.mark.parametrize("policy", POLICIES)
def test_figures_are_consistent(played: Played, policy: str) -> None:
    run = played.runs[policy]
    for name in ("ttft_attainment", "tbt_attainment", "joint_attainment", "gpu_util_prefill"):
        assert 0 <= run[name] <= 1
    assert run["joint_attainment"] <= min(run["ttft_attainment"], run["tbt_attainment"]) + 1e-9
    assert run["cost"] == pytest.approx(2 * run["gpu_hours"])
    assert run["requests"] == pytest.approx(played.document["trace"]["chat"]["requests"])
    assert 0 <= run["requests_failed"] <= run["requests"]
    assert 0 <= run["reversals"] <= run["scale_events"]


def test_every_policy_is_held_against_the_same_limits(played: Played) -> None:
    for name in ("gpu_hours_static_peak", "gpu_hours_oracle_free", "gpu_hours_oracle_fixed"):
        assert len({run[name] for run in played.document["runs"]}) == 1
    run = played.runs["joint"]
    assert (
        run["gpu_hours_oracle_free"]
        <= run["gpu_hours_oracle_fixed"]
        <= run["gpu_hours_static_peak"]
    )


@pytest.mark.parametrize("policy", ["hpa", "joint"])
def test_who_meets_the_load_holds_no_less_than_the_oracle(played: Played, policy: str) -> None:
    run = played.runs[policy]
    assert run["joint_attainment"] > 0.95
    assert run["gpu_hours"] >= run["gpu_hours_oracle_free"]


def test_policies_scale_with_the_traffic(played: Played) -> None:
    for policy in ("hpa", "joint"):
        assert played.runs[policy]["scale_events"] > 0
    held = recompute.rows(played.folder / "out", "counts.csv", "joint")
    decode = [float(row["decode_in_service"]) for row in held]
    assert max(decode[12:22]) > decode[2]


def test_static_peak_holds_what_it_is_billed_for(played: Played) -> None:
    run = played.runs["static-peak"]
    assert run["gpu_hours"] == pytest.approx(run["gpu_hours_static_peak"], rel=0.1)


def test_the_page_shows_every_policy(played: Played) -> None:
    text = (played.folder / "out.html").read_text()
    for policy in POLICIES:
        assert f'<section class=policy id="policy-{policy}">' in text
    assert "NaN" not in text
    assert ">nan" not in text


def test_nothing_arrives_that_is_not_accounted_for(played: Played) -> None:
    for policy in POLICIES:
        rows = recompute.rows(played.folder / "out", "cohorts.csv", policy)
        arrived, ended = (
            np.array([sum(float(row[name]) for name in names) for row in rows])
            for names in (("arrived",), ("finished", "failed"))
        )
        assert ended.sum() == pytest.approx(arrived.sum(), rel=1e-6)  # until all is served
        by_minute = [column.reshape(-1, 60).sum(axis=1) for column in (ended, arrived)]
        assert by_minute[0] == pytest.approx(by_minute[1], rel=0.1)


# ---- seeds ---------------------------------------------------------------------------------


def short(write: Write, *words: str) -> list[dict[str, Any]]:
    done = simulate(
        *("--service", write("s.yaml", SERVICE), "--fleet", write("f.yaml", FLEET)),
        *("--trace", TRAFFIC, "--duration", "5m", "--policy", "joint,hpa", "--json", "-", *words),
    )
    assert done.code == 0, done.err
    runs: list[dict[str, Any]] = done.document["runs"]
    return [{name: value for name, value in run.items() if name != "wall_s"} for run in runs]


def test_a_seed_gives_the_same_run_again_and_another_another(write: Write) -> None:
    first = short(write, "--seed", "5")
    assert short(write, "--seed", "5") == first
    assert short(write, "--seed", "6") != first


def test_a_policy_does_not_depend_on_its_company(write: Write) -> None:
    alone = short(write, "--policy", "hpa")
    assert alone == [run for run in short(write) if run["policy"] == "hpa"]


def test_a_rate_is_scaled(write: Write) -> None:
    (once, _), (thrice, _) = short(write), short(write, "--rate-scale", "3")
    assert thrice["requests"] == pytest.approx(3 * once["requests"], rel=0.1)


TRACES = Path(os.environ.get("HETEROSCALE_TRACES", "nowhere"))


@pytest.mark.skipif(not TRACES.is_dir(), reason="HETEROSCALE_TRACES names no folder")
@pytest.mark.parametrize(
    ("trace", "scale"), [("azure2023_conv.csv.gz", "30"), ("azure2023_code.csv.gz", "9.5")]
)
def test_a_recording_scaled_up_can_be_recomputed(tmp_path: Path, trace: str, scale: str) -> None:
    done = simulate(
        *(
            "--service",
            ROOT / "examples/service-64.yaml",
            "--fleet",
            ROOT / "examples/fleet-64.yaml",
        ),
        *("--trace", TRACES / trace, "--rate-scale", scale, "--start", "10m", "--duration", "6m"),
        *("--json", "-", "--export", tmp_path),
    )
    assert done.code == 0, done.err
    (run,) = done.document["runs"]
    assert run["requests"] > 1000
    for name, value in recompute.figures(tmp_path, "joint").items():
        assert run[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


# ---- several services ----------------------------------------------------------------------


def test_several_services_share_a_fleet_and_have_figures_of_their_own(write: Write) -> None:
    other = SERVICE.replace("chat", "code")
    done = simulate(
        *("--service", write("a.yaml", SERVICE), "--trace", TRAFFIC),
        *("--service", write("b.yaml", other), "--trace", "gen:steady?peak=5&hours=0.1"),
        *("--fleet", write("f.yaml", FLEET), "--duration", "10m", "--json", "-"),
    )
    assert done.code == 0, done.err
    (run,) = done.document["runs"]
    parts = run["services"]
    assert [part["service"] for part in parts] == ["chat", "code"]
    for name in ("gpu_hours", "gpu_hours_oracle_free", "requests", "cost", "scale_events"):
        assert run[name] == pytest.approx(sum(part[name] for part in parts))
    assert done.document["trace"]["code"]["seconds"] == 600  # silent after its own six minutes
    assert parts[1]["requests"] == pytest.approx(5 * 360, rel=0.1)
    assert not any("silence" in note for note in done.document["notes"])


def test_what_stands_at_the_start_can_be_said(write: Write, tmp_path: Path) -> None:
    short(write, "--initial", "3,4", "--duration", "60s", "--export", str(tmp_path / "out"))
    (row,) = recompute.rows(tmp_path / "out", "counts.csv", "hpa")
    assert float(row["prefill_in_service"]) == pytest.approx(3)
    assert float(row["decode_in_service"]) == pytest.approx(4)


# ---- what the documents print --------------------------------------------------------------


def printed() -> list[str]:
    """Return every command line of ``simulate`` that the documents tell people to type."""
    pages = [ROOT / "README.md", ROOT / "docs" / "simulator.md"]
    texts = [page.read_text().replace("\\\n", " ") for page in pages]
    return [
        line.removeprefix("$ ")
        for text in texts
        for line in text.splitlines()
        if line.startswith(("heteroscale simulate --", "$ heteroscale simulate --"))
    ]


def test_there_is_something_to_type() -> None:
    assert len(printed()) >= 5


@pytest.mark.parametrize("line", printed())
def test_a_printed_command_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples")
    rows = "".join(f"{second},900,150\n" for second in range(120))
    with gzip.open("requests.csv.gz", "wt") as file:
        file.write(f"t_s,input_tokens,output_tokens\n{rows}")
    words = shlex.split(line)[2:]
    done = simulate(*words, "--duration", "2m")  # as printed, but for how long
    assert done.code == 0, done.err
    assert "GPU-hours" in done.out
    for option in ("--report", "--json", "--export"):
        if option in words:
            assert Path(words[words.index(option) + 1]).exists()


def test_services_that_want_more_than_there_is_share_it_under_every_policy(write: Write) -> None:
    few = FLEET.replace("nodes: 4", "nodes: 1")
    documents = [write(f"{n}.yaml", SERVICE.replace("chat", n)) for n in ("one", "two")]
    asked = [word for path in documents for word in ("-s", path, "-t", "gen:steady?peak=90")]
    done = simulate(
        *asked,
        "--fleet",
        write("f.yaml", few),
        "--duration",
        "2m",
        "--policy",
        ",".join(POLICIES),
        "--json",
        "-",
    )
    assert done.code == 0, done.err
    for run in done.document["runs"]:
        assert 0 < run["gpu_hours"] <= 8 * 120 / 3600 + 1e-9
        assert sum(one["gpu_hours_static_peak"] for one in run["services"]) > 8 * 120 / 3600
