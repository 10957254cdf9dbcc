"""The ingest benchmark, small: it runs end to end, and its figures fit together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.ingest import bare, reports, table
from benchmarks.ingest.figures import Figures, Ratio, figures
from benchmarks.ingest.servers import Sight

from heteroscale.v1 import agent_pb2
from heteroscale_coordinator.edge import wire

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shape() -> reports.Shape:
    return reports.make_shapes(1, 3, 5.0)[0]


def parsed(raw: bytes) -> agent_pb2.ConnectRequest:
    return agent_pb2.ConnectRequest.FromString(raw)


def test_a_report_is_of_a_full_host_says_its_own_ids_and_moves(shape: reports.Shape) -> None:
    voice = reports.Voice(shape, 7)
    raw = [voice.report(sequence) for sequence in (5, 6)]
    first, second = (parsed(one) for one in raw)
    assert (first.sequence, second.sequence) == (5, 6)
    for message in (first, second):
        engines = message.report.engines
        assert tuple(engine.instance_id for engine in engines) == reports.engine_ids(7)
        assert len(message.report.gpus.utilization_percent) == 8
        assert len(message.report.nics.received_octets) == 8
        assert all(engine.time_between_tokens.bucket_deltas for engine in engines)
    assert first.report.engines[0].generation_tokens < second.report.engines[0].generation_tokens
    assert all(1_000 < len(one) < 2_048 for one in raw)


def test_streams_say_different_ids_of_equal_length(shape: reports.Shape) -> None:
    hellos = [parsed(reports.Voice(shape, number).hello()).hello for number in (0, 9_999)]
    assert [hello.agent_id for hello in hellos] == [reports.host_id(0), reports.host_id(9_999)]
    assert len({hello.process_token for hello in hellos}) == 2
    for hello, number in zip(hellos, (0, 9_999), strict=True):
        ids = reports.engine_ids(number)
        assert tuple(one.instance_id for one in hello.instances) == ids
        assert {engine.instance_id for r in hello.history for engine in r.engines} == set(ids)
        assert len(hello.history) == 24
        assert len(wire.agent_connected(hello, 1e6).facts) == 4


def test_the_inventory_has_the_hash_that_the_hello_names(shape: reports.Shape) -> None:
    voice = reports.Voice(shape, 3)
    inventory = parsed(voice.inventory(2)).inventory
    assert inventory.inventory_hash == parsed(voice.hello()).hello.inventory_hash
    assert len(inventory.gpus) == 8


def test_the_bare_server_reads_every_value(shape: reports.Shape) -> None:
    report = parsed(reports.Voice(shape, 1).report(2)).report

    def leaves(message: Any) -> int:
        count = 0
        for field, value in message.ListFields():
            if field.message_type is None or field.message_type.name in ("Duration", "Timestamp"):
                count += 1
            else:
                count += sum(map(leaves, value if field.is_repeated else [value]))
        return count

    def values(read: Any) -> int:
        if isinstance(read, list) and read and isinstance(read[0], tuple):
            return sum(map(values, read))
        return sum(map(values, read)) if isinstance(read, tuple) else 1

    assert values(bare.read_out(report)) == leaves(report)


def sight(at: float, cpu: float, received: float, coalesced: float, quick: float) -> Sight:
    name = "heteroscale_reports_{}_total"
    metrics = {name.format("received"): received, name.format("coalesced"): coalesced}
    buckets = {"0.01": quick, "0.05": received - coalesced, "+Inf": received - coalesced}
    return Sight(at, cpu, cpu, 100.0, 120.0, metrics | buckets)


def heard(**changes: Any) -> dict[str, Any]:
    word = {"sent": 500, "seconds": 5.0, "delays": [], "latest": 0.0, "cpu": 0.5, "live": 10}
    return word | {"troubles": [], "refusals": {}} | changes


def worked_out(**changes: Any) -> Figures:
    before, after = sight(10, 2, 100, 0, 100), sight(15, 3, 1_100, 250, 550)
    return figures("coordinator", 10, before, after, [heard(**changes)])


def test_rates_are_over_the_window_and_delays_from_the_histogram() -> None:
    result = worked_out(delays=[0.004, 0.002, 0.003])
    assert result.received_per_second == 200
    assert result.folded_per_second == 150
    assert result.core_share == pytest.approx(0.2)
    assert result.cpu_us_per_report == pytest.approx(1_000)
    # 750 folded: 450 within 10 ms, the others within 50 ms.
    assert result.state_p50 == pytest.approx(10 * 375 / 450)
    assert result.state_p99 == pytest.approx(10 + 40 * (742.5 - 450) / 300)
    assert (result.ack_p50, result.ack_p99) == (3.0, 4.0)


def test_a_delay_that_nobody_measured_meets_no_goal() -> None:
    goals = {goal.name: goal for goal in table.goals([], [(worked_out(), worked_out())])}
    assert "messages/s beside bare" not in goals
    assert goals["memory, peak, MiB"].met
    assert goals["read → state p99, ms"].met
    assert not goals["written → acknowledged p99, ms"].met
    assert "unknown" in str(goals["written → acknowledged p99, ms"])


def test_the_ratio_is_the_median_of_pairs() -> None:
    ratio = Ratio((0.9, 0.5, 0.8))
    assert ratio.middle == 0.8
    assert str(ratio) == "0.80 (0.50-0.90, 3 pairs)"


@pytest.mark.process
def test_the_whole_runs_small_and_its_figures_fit_together(tmp_path: Path) -> None:
    file = tmp_path / "ingest.json"
    line = [sys.executable, "-m", "benchmarks.ingest", "--quick", "--json", str(file)]
    with subprocess.Popen(
        line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as run:
        try:
            said = run.communicate(timeout=110)[0].decode()
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 0, said
    result = json.loads(file.read_text())
    assert result["troubles"] == []
    runs = [one for kind in ("flat_out", "steady") for pair in result[kind] for one in pair]
    assert [one["server"] for one in runs] == ["bare", "coordinator"] * 2
    for one in runs:
        assert one["live"] == one["streams"] == 50
        assert one["received_per_second"] > 0
        assert one["cpu_us_per_report"] > 0
        assert 0 < one["rss_mib"] <= one["peak_mib"]
    for ours in (runs[1], runs[3]):
        assert 0 < ours["folded_per_second"] <= ours["received_per_second"]
        assert 0 < ours["state_p50"] <= ours["state_p99"]
    for steady in runs[2:]:
        assert steady["ack_samples"] > 0
        assert 0 < steady["ack_p50"] <= steady["ack_p99"]
    flat_out = result["flat_out"][0]
    assert result["ratios"]["reports/s received"]["median"] == pytest.approx(
        flat_out[1]["received_per_second"] / flat_out[0]["received_per_second"]
    )
    assert "coordinator ÷ bare" in said
