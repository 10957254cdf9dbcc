"""A steady report of an 8-GPU, 8-NIC, 4-engine host stays under 2 KB, and a hello far below its limit."""

from __future__ import annotations

import pytest

from heteroscale.channel import MAX_MESSAGE_BYTES
from heteroscale.v1 import agent_pb2
from heteroscale.words import ScrapeQuality
from heteroscale_agent import wire
from heteroscale_agent.model import (
    EngineReport,
    GpuReading,
    LatencyCounters,
    NicCounters,
    Report,
)
from tests.wire.hosts import BusyHost

LIMIT = 2_000
IDS = [f"i-{number:012x}" for number in (0x3F9A12B4C5D6, 0x1, 0xFFFFFFFFFFFF, 0xA0B1C2D3E4F5)]


def size(report: Report) -> int:
    """Return the bytes of the message that carries it, late in a long life."""
    message = wire.report(report, report.sampled_at + 0.037)
    return agent_pb2.ConnectRequest(sequence=10_000_000, report=message).ByteSize()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("samples", [1, 5])
def test_a_steady_report_stays_under_two_kilobytes(seed: int, samples: int) -> None:
    report = BusyHost(IDS, seed).report(samples)
    message = wire.report(report, report.sampled_at)
    assert len(message.gpus.sm_activity_percent) == len(message.nics.received_octets) == 8
    for engine in message.engines:
        assert engine.generation_tokens > 1e9
        assert all(engine.HasField(name) for name in ("waiting", "transferring", "kv_usage"))
        # Both distributions really are there, several buckets of each.
        for latency in (engine.time_to_first_token, engine.time_between_tokens):
            assert sum(1 for delta in latency.bucket_deltas if delta) >= 5
    assert size(report) < LIMIT


def test_long_names_of_engines_started_by_others_fit_too() -> None:
    named = [f"{'engine-of-somebody-else-with-a-rather-long-name-':a<59}{n}" for n in range(4)]
    assert {len(name) for name in named} == {60}
    assert size(BusyHost(named).report()) < LIMIT


def test_what_is_unknown_costs_next_to_nothing() -> None:
    assert size(Report(1.0, 1.0)) < 40


def test_two_minutes_of_history_fit_into_a_hello() -> None:
    samples = BusyHost(IDS).samples(120)
    now = samples[-1].sampled_at
    history = [wire.report(one, now, engines_only=True) for one in wire.thin(samples)]
    assert 20 <= len(history) <= 25
    assert agent_pb2.Hello(history=history).ByteSize() < MAX_MESSAGE_BYTES // 50


def test_absurd_readings_are_unknown_or_cut_but_never_stop_the_report() -> None:
    absurd = float("nan"), float("inf"), -5.0, 1e300
    latency = LatencyCounters(1.0, 1.0, (1 << 40, 3))
    engines = (EngineReport("i1", ScrapeQuality.OK, 0.0, time_to_first_token=latency),)
    nics = (NicCounters(received_octets=1 << 70, sent_octets=-1, errors=1 << 40),)
    gpus = tuple(GpuReading(power_watts=value, sm_activity_percent=value) for value in absurd)
    message = wire.report(Report(0.0, 1.0, gpus, nics, engines=engines), 0.0)
    assert list(message.gpus.power_watts) == [-1] * len(absurd)
    assert list(message.gpus.sm_activity_percent) == [-1] * len(absurd)
    assert list(message.nics.received_octets) == list(message.nics.sent_octets) == [-1]
    assert list(message.nics.errors) == [1 << 40]
    assert message.engines[0].time_to_first_token.bucket_deltas[1] == 3
