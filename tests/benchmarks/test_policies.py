"""The policy table's own logic: causes, hours beyond the oracle, verdicts, another revision's spec."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from benchmarks.policies.__main__ import main
from benchmarks.policies.before import REVISION, NoHistoryError, unknown_fields, unpack, without
from benchmarks.policies.cases import CASES, FLEET, Case, present
from benchmarks.policies.contest import Group, gathered
from benchmarks.policies.play import FailedError, Ground, Prepared, Run, groups, play
from benchmarks.policies.reach import Reach, reach_of, rule
from benchmarks.policies.table import show, summary
from benchmarks.policies.variants import BEFORE, JOINT, variants
from benchmarks.policies.verdict import Score, score, verdict
from benchmarks.policies.why import Minute, causes_of, why

GOOD = Score(
    cost=1.1,
    cost_fixed=1.0,
    gpu_hours=110,
    joint=0.995,
    ttft=0.997,
    tbt=0.999,
    reversals=1,
    events=9,
)
HPA = replace(GOOD, gpu_hours=120, joint=0.99, reversals=4)


def minute(need: float, have: float, missed: float = 0.0) -> Minute:
    """Prefill alone moves."""
    return Minute(100.0, missed, {"prefill": have, "decode": 9}, {"prefill": need, "decode": 9})


# ---- why ---------------------------------------------------------------------------------------


def test_a_rise_beyond_the_head_room_excuses_one_start_up_time() -> None:
    played = [minute(20, 20), *[minute(30, 20, 40) for _ in range(5)]]
    assert causes_of(played, startup=3) == ["burst", "rise", "rise", "rise", "short", "short"]


def test_a_rise_that_the_head_room_covers_excuses_nothing() -> None:
    assert causes_of([minute(20, 20), minute(23, 20, 40)], startup=3)[-1] == "short"
    # Nor does the next whole instance of a few.
    assert causes_of([minute(3, 3), minute(4, 3, 40)], startup=3)[-1] == "short"


def test_a_queue_belongs_to_what_made_it_until_a_minute_is_served() -> None:
    played = [
        minute(20, 20),
        minute(22, 20, 40),
        minute(22, 25, 30),
        minute(22, 25),
        minute(22, 25, 5),
    ]
    assert causes_of(played, startup=3) == ["burst", "short", "short", "short", "burst"]


def written(folder: Path, name: str, columns: str, rows: Sequence[Sequence[object]]) -> None:
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([columns.split(","), *rows])


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Four minutes: one prefill instance short for the second and third, 1 of 10 a second missed then."""
    met = [9 if 60 <= second < 180 else 10 for second in range(240)]
    written(
        tmp_path,
        "cohorts.csv",
        "policy,second,arrived,ttft_met,tbt_met,met",
        [("joint", second, 10, n, 10, n) for second, n in enumerate(met)],
    )
    counts = [(2, 2), (2, 3), (2, 3), (4, 3)]
    written(
        tmp_path,
        "counts.csv",
        "policy,prefill_in_service,decode_in_service,oracle_prefill,oracle_decode",
        [("joint", have, 1, need, 1) for have, need in counts],
    )
    columns = "limit,role,gpus,state,begin,end"
    held = [
        *[("-", "prefill", 1, "in_service", -60, 900), ("-", "prefill", 1, "in_service", 0, 240)],
        *[("-", "prefill", 1, "launching", 60, 180), ("-", "prefill", 1, "in_service", 180, 240)],
        *[("-", "prefill", 1, "warming", 120, 180), ("-", "prefill", 1, "in_service", 180, 240)],
        ("-", "decode", 1, "in_service", 0, 240),
    ]
    oracle = [
        *[("oracle-free", "prefill", 1, "in_service", 0, 240)] * 2,
        ("oracle-free", "prefill", 1, "in_service", 60, 240),
        ("oracle-free", "decode", 1, "in_service", 0, 240),
        ("static-peak", "decode", 9, "in_service", 0, 240),
    ]
    written(
        tmp_path,
        "decisions.csv",
        "second,action,prefill_delta,decode_delta,bound_by",
        [
            (10, "scale_in", 0, -1, "demand"),
            (70, "finish_scale_in", 0, 0, "observation"),
            (90, "scale_out", 2, 0, "reserve"),
            (100, "reinstate", 0, 1, "demand"),
            (800, "scale_in", -1, -1, "demand"),
        ],
    )
    written(tmp_path, "intervals.csv", columns, held)
    written(tmp_path, "limits.csv", columns, oracle)
    return tmp_path


def test_misses_and_hours_are_told_by_what_they_come_from(tables: Path) -> None:
    found = why(tables, 150.0)
    assert found.causes == {"rise": 0, "late": 0, "short": 1, "burst": 0}
    assert found.short_roles == {"prefill": 1, "decode": 0}
    assert (found.ttft, found.tbt) == pytest.approx((0.05, 0))
    # The oracle holds 15 instance-minutes; the run 14 in service and 3 starting.
    assert found.over["starting"] == pytest.approx(3 / 15)
    assert found.over["beyond"] == pytest.approx(1 / 15)
    assert found.over["short"] == pytest.approx(-2 / 15)
    assert sum(found.over.values()) == pytest.approx(2 / 15)
    # Decode goes and comes back within ten minutes; what follows is later than that.
    assert found.turns == {"reinstate of decode by demand": 1}


def test_what_a_rival_served_was_late_and_not_beyond_anyone(tables: Path) -> None:
    counts = (tables / "counts.csv").read_text()
    (tables / "counts.csv").write_text(counts.replace("2,1,3,1", "2,1,8,1"))
    rival = [minute(2, 2), minute(8, 4, 45), minute(8, 4, 0), minute(3, 4)]
    assert why(tables, 150.0).causes["rise"] == 1
    # Of 60 and 60, the rival missed 45 and none.
    found = why(tables, 150.0, rival).causes
    assert (found["rise"], found["late"]) == pytest.approx((45 / 120, 75 / 120))


# ---- the verdict -------------------------------------------------------------------------------


def test_all_clauses_together_are_the_goal() -> None:
    assert verdict(GOOD, HPA, []).reached
    assert verdict(replace(GOOD, reversals=0), replace(HPA, reversals=0), []).reached


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cost": 1.2}, "cost 1.20 > 1.15"),
        ({"joint": 0.989}, "met 98.90 % < 99.00 %"),
        ({"gpu_hours": 132}, "GPU-hours 1.10 × HPA's"),
        ({"reversals": 4}, "reversals 4 ≥ HPA's 4"),
    ],
)
def test_each_clause_fails_alone(change: dict[str, float], told: str) -> None:
    hpa = replace(HPA, joint=0.98)
    assert verdict(replace(GOOD, **change), hpa, []).failed == (told,)


def test_a_worse_attainment_than_hpa_fails_though_it_is_high() -> None:
    assert verdict(GOOD, replace(HPA, joint=0.999), []).failed == ("met 99.50 % < HPA's 99.90 %",)
    assert verdict(GOOD, replace(HPA, joint=0.99505), []).reached


def test_without_hpa_its_clauses_are_not_judged() -> None:
    assert verdict(replace(GOOD, gpu_hours=1e9, reversals=99), None, []).reached


# ---- what is in reach --------------------------------------------------------------------------


def test_steady_needs_are_in_reach_of_a_rule() -> None:
    found = reach_of([minute(20, 20) for _ in range(60)], 150.0)
    assert found.reached
    assert found.cheapest is not None
    assert (found.cheapest.cost, found.cheapest.met, found.cheapest.hold) == (1.0, 1.0, 0)


def test_what_leaps_in_a_start_up_is_missed_until_it_is_over() -> None:
    """Three times the need in minute 10, two minutes of start-up: two of 20 minutes are missed."""
    played = [minute(20 if at < 10 else 60, 20) for at in range(20)]
    found = rule(played, lead=2, hold=0, more=0.0)
    assert found.met == pytest.approx(0.9)
    assert found.cost == 1.0  # what starts is paid for as what serves


def test_a_hold_long_enough_meets_what_comes_again_and_pays_for_the_pauses() -> None:
    played = [minute(60 if at % 10 < 5 else 20, 60) for at in range(60)]
    bare, held = (rule(played, lead=2, hold=hold, more=0.0) for hold in (0, 5))
    assert bare.met < 0.9 < held.met == 1.0
    assert held.cost > 1.2 > bare.cost
    assert not reach_of(played, 150.0).reached


def test_more_in_reserve_meets_a_rise_of_as_much() -> None:
    played = [minute(20 if at < 10 else 28, 20) for at in range(20)]
    assert rule(played, lead=2, hold=0, more=0.0).met < 1
    assert rule(played, lead=2, hold=0, more=0.4).met == 1


def test_what_no_rule_reaches_is_said_and_what_one_does_is_not() -> None:
    played = [minute(60 if at % 10 < 5 else 20, 60) for at in range(60)]
    beyond = reach_of(played, 150.0)
    dear = replace(GOOD, cost=1.4)
    assert "beyond the best fixed rule that knows every need up to now: 99 % cost" in (
        verdict(dear, None, [], beyond).because
    )
    assert verdict(dear, None, [], Reach(rule(played, 2, 0, 0.0), None)).because == ""
    assert verdict(GOOD, HPA, [], beyond).because == ""
    assert Reach(None, None).text.endswith("none meets 99 %")


def test_the_reasons_are_the_runs_own(tables: Path) -> None:
    bad = replace(GOOD, cost=1.3, joint=0.95, reversals=4)
    found = verdict(bad, HPA, [why(tables, 150.0)])
    assert "missed: 100 % short (of prefill 100 %, of decode 0 %)" in found.because
    assert "beyond the oracle: +20 % starting, +7 % beyond, -13 % short" in found.because
    assert "turned: 1 × reinstate of decode by demand" in found.because


# ---- another revision --------------------------------------------------------------------------

REFUSED = """\
heteroscale …
chat.yaml:5: spec.policy.schedule: unknown field
chat.yaml:9: spec.roles.prefill.newer: unknown field; did you mean `new`?
chat.yaml:9: spec.slo.ttft: must be positive
"""


def test_what_a_revision_does_not_know_is_left_out_and_nothing_else() -> None:
    paths = unknown_fields(REFUSED)
    assert paths == ["spec.policy.schedule", "spec.roles.prefill.newer"]
    text = (
        "spec: {policy: {schedule: {a: 1}, driver: demand}, roles: {prefill: {newer: 1, min: 2}}}"
    )
    assert yaml.safe_load(without(text, paths)) == {
        "spec": {"policy": {"driver": "demand"}, "roles": {"prefill": {"min": 2}}}
    }


@pytest.mark.skipif(shutil.which("git") is None, reason="git makes the history")
def test_a_revision_is_unpacked_from_the_history(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    package = root / "coordinator" / "heteroscale_x"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("OLD = 1\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "old")):
        subprocess.run(["git", "-C", str(root), *who, *words], check=True)
    (package / "__init__.py").write_text("NEW = 1\n")
    past = unpack("HEAD", tmp_path, root)
    assert past.path == str(past.folder / "coordinator")
    assert (past.folder / "coordinator/heteroscale_x/__init__.py").read_text() == "OLD = 1\n"


def test_a_history_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoHistoryError, match=r"not a git repository|no git here"):
        unpack("HEAD", tmp_path, tmp_path)


# ---- what is played, and what is shown ---------------------------------------------------------


def test_generated_traffic_needs_no_folder() -> None:
    names = [case.name for case in present(None, [])]
    assert "flash-crowd" in names
    assert "azure2023_conv" not in names
    assert len({case.name for case in CASES}) == len(CASES)


def test_rivals_share_a_run_and_read_no_changed_service() -> None:
    wanted = variants("joint, joint-fixed,hpa,before,static-peak,joint+forecast")
    assert [[one.name for one in group] for group in groups(wanted)] == [
        *[["joint"], ["joint-fixed"], ["before"], ["joint+forecast"]],
        ["hpa", "static-peak"],
    ]
    service = "spec:\n  ratio: {min: 1, max: 4}\n"
    joint, fixed, _, _, _, forecast = (
        yaml.safe_load(one.document(service, "2:1"))["spec"] for one in wanted
    )
    assert joint == {"ratio": {"min": 1, "max": 4}}
    assert fixed == {"ratio": "2:1"}
    assert forecast == {**joint, "policy": {"forecast": {"enabled": True}}}


def test_a_policy_that_nobody_has_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match=r"hpq; known: joint, joint-fixed, .*hpa"):
        variants("joint,hpq")
    assert main(["--policies", "hpq"]) == 2
    assert main(["--only", "hpq"]) == 2


def figures(*runs: dict[str, float]) -> Run:
    load = {"trace": {"chat": {"seconds": 3600}}, "oracle": {"chat": {"instances_mean": 31.0}}}
    return Run({**load, "runs": list(runs)}, None)


def run_of(hours: float) -> dict[str, float]:
    whole = {"gpu_hours": hours, "gpu_hours_oracle_free": 100.0, "gpu_hours_oracle_fixed": 110.0}
    shares = {f"{kind}_attainment": 0.999 for kind in ("joint", "ttft", "tbt")}
    return {**whole, **shares, "reversals": 0, "scale_events": 2}


def test_figures_are_means_over_seeds_and_a_missing_history_is_told() -> None:
    joint, before, hpa = wanted = variants("joint,before,hpa")
    prepared = Prepared(CASES[0], "spec: {ratio: {min: 1, max: 4}}", "2:1", 9.0)
    results: list[tuple[Group, Run | NoHistoryError]] = [
        (([joint], 0), figures(run_of(110))),
        (([joint], 1), figures(run_of(114))),
        (([before], 0), NoHistoryError("a shallow clone")),
        (([hpa], 0), figures(run_of(130))),
        (([hpa], 1), figures(run_of(130))),
    ]
    shown = gathered(prepared, wanted, results)
    assert shown.scores["joint"].cost == pytest.approx(1.12)
    assert shown.scores["joint"].cost_fixed == pytest.approx(1.12 / 1.1)
    assert shown.verdict is not None
    assert shown.verdict.reached
    assert "| before | not here: a shallow clone |" in show(shown)
    text = summary([shown])
    assert "| 1.12 · 99.90 · 0 | 1.30 · 99.90 · 0 | not here: a shallow clone |" in text
    assert "reached on 1 of 1" in text


def test_unknown_shares_count_as_nothing_met() -> None:
    assert score([{**run_of(100), "joint_attainment": None}]).joint == 0.0


# ---- whole runs --------------------------------------------------------------------------------

TINY = Case("gen:steady?hours=0.02&peak=5")
SPEC = TINY.service().replace("spec:", "spec:\n  ratio: {min: 0.5, max: 2}", 1)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    return Ground(tmp_path, None, 1.0, REVISION)


def test_a_finished_run_is_not_run_again_and_one_of_another_service_is(ground: Ground) -> None:
    def ended(service: str) -> int:
        run = play(TINY, ground, service, [JOINT], scale=1.0, seed=0)
        assert run.tables is not None
        assert why(run.tables, 150.0).over
        return (run.tables.parent / "figures.json").stat().st_mtime_ns

    first = ended(SPEC)
    assert ended(SPEC) == first
    assert ended(SPEC.replace("max: 2}", "max: 3}")) > first


def test_a_run_that_breaks_is_told_with_its_command(ground: Ground) -> None:
    with pytest.raises(FailedError, match=r"(?s)simulate.*unknown field"):
        play(TINY, ground, f"{SPEC}  nonsense: 1\n", [JOINT], scale=1.0, seed=0)


def test_the_past_plays_what_it_knows_of_a_service(ground: Ground) -> None:
    try:
        unpack(REVISION, ground.place)
    except NoHistoryError as error:
        pytest.skip(f"the history does not reach to {REVISION}: {error}")
    service = f"{SPEC}  policy: {{forecast: {{enabled: true}}}}\n"
    run = play(TINY, ground, service, [BEFORE], scale=1.0, seed=0)
    assert run.dropped == ("spec.policy.forecast",)
    assert run.figures["runs"][0]["gpu_hours"] > 0
