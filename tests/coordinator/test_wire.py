"""Up the wire: whatever is sane arrives as it was, whatever is not is unknown, nothing raises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heteroscale.taints import Taint, TaintEffect
from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale.words import (
    TOPOLOGY_LEVELS,
    GateState,
    InstanceState,
    NicDistance,
    Outcome,
    Role,
    ScrapeQuality,
    WithdrawReason,
)
from heteroscale_coordinator.core.devices import GpuFact, NicFact
from heteroscale_coordinator.core.events import CommandAnswered
from heteroscale_coordinator.core.model import (
    EngineSample,
    Inventory,
    LatencySample,
    RankFact,
    RouterSample,
    TemplateFact,
)
from heteroscale_coordinator.edge import wire
from tests.coordinator import up

NOW = 1_700_000_000.0
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,40}", fullmatch=True)
texts = st.text(max_size=60).map(lambda t: t.replace("\0", ""))
counts = st.floats(0, 1e15)
spans = st.integers(0, 3_000_000).map(lambda ms: ms / 1000)


def optional(values: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    return st.none() | values


latencies = st.none() | st.builds(
    LatencySample, counts, counts, st.lists(st.integers(0, 2**32 - 1), max_size=24).map(tuple)
)
samples = st.builds(
    EngineSample,
    ids,
    st.sampled_from(ScrapeQuality),
    spans.map(lambda age: NOW - age),
    *(optional(counts) for _ in range(5)),
    *(optional(st.floats(0, 1e9)) for _ in range(3)),
    optional(st.floats(0, 1)),
    latencies,
    latencies,
    optional(st.floats(0, 100, width=32)),
)
facts = st.integers(1, 8).flatmap(
    lambda ranks: st.builds(
        RankFact,
        instance_id=ids,
        service=texts,
        role=st.sampled_from(Role),
        state=st.sampled_from(InstanceState),
        generation=st.integers(0, 2**50),
        rank=st.integers(0, ranks - 1),
        rank_count=st.just(ranks),
        reason=st.none() | st.sampled_from(WithdrawReason),
        gate_state=st.sampled_from(GateState),
        endpoint=texts,
        group=texts,
        template=texts,
        gpu_indices=st.lists(st.integers(0, 63), max_size=8).map(tuple),
        message=texts,
        terminating=st.booleans(),
        startup_time=st.none() | spans,
        state_age=spans,
        origin=texts,
    )
)
names = texts.filter(bool)
inventories = st.builds(
    Inventory,
    hash=texts,
    gpus=st.lists(
        st.builds(
            GpuFact,
            st.integers(0, 63),
            names,
            st.integers(0, 2**50),
            *(texts for _ in range(4)),
            st.lists(st.none() | st.sampled_from(NicDistance), max_size=8).map(tuple),
            st.none() | st.integers(0, 7),
            st.none() | st.integers(0, 7),
        ),
        max_size=8,
        unique_by=lambda gpu: gpu.index,
    ).map(tuple),
    nics=st.lists(
        st.builds(
            NicFact,
            texts,
            st.integers(0, 65_535),
            st.none() | st.integers(1, 1600).map(float),
            st.none() | st.integers(0, 64),
            texts,
            texts,
            st.none() | st.integers(0, 7),
        ),
        max_size=16,
    ).map(tuple),
    topology=st.dictionaries(st.sampled_from(TOPOLOGY_LEVELS), texts),
    templates=st.lists(
        st.builds(TemplateFact, names, st.sampled_from(Role), st.integers(0, 64), texts),
        max_size=5,
        unique_by=lambda template: template.name,
    ).map(tuple),
    labels=st.dictionaries(texts, texts, max_size=5),
    topology_sources=st.dictionaries(st.sampled_from(TOPOLOGY_LEVELS), texts),
    taints=st.sets(
        st.builds(
            Taint,
            st.sampled_from(["dedicated", "example.com/gpu"]),
            st.sampled_from(["", "train", "a.b-C_1"]),
            st.sampled_from(TaintEffect),
        )
    ).map(lambda found: tuple(sorted(found))),
    read_as=st.just(wire.READ_AS),
)


def travelled(message: Message) -> Any:
    return type(message).FromString(message.SerializeToString())


# ---- what is sane arrives as it was ------------------------------------------------------------


@CALM
@given(st.lists(samples, max_size=4), spans)
def test_a_report_arrives_as_it_was(engines: list[EngineSample], ago: float) -> None:
    sampled_at = NOW - ago
    shifted = [engine._replace(at=engine.at - ago) for engine in engines]
    message = agent_pb2.Report(engines=[up.engine(one, sampled_at) for one in shifted])
    message.sampled_ago.FromMicroseconds(round(ago * 1e6))
    arrived = wire.report("a1", 3, 9, travelled(message), NOW)
    assert (arrived.agent_id, arrived.incarnation, arrived.sequence) == ("a1", 3, 9)
    assert [engine._replace(at=0) for engine in arrived.engines] == [
        engine._replace(at=0) for engine in shifted
    ]
    times = [engine.at for engine in arrived.engines]
    assert times == pytest.approx([engine.at for engine in shifted], abs=1e-5)


@CALM
@given(facts)
def test_a_fact_arrives_as_it_was(fact: RankFact) -> None:
    arrived = wire.rank_fact(travelled(up.status(fact)))
    assert arrived is not None
    assert arrived.state_age == pytest.approx(fact.state_age)
    assert (arrived.startup_time is None) == (fact.startup_time is None)
    same = {name for name in RankFact.__slots__ if name not in ("state_age", "startup_time")}
    assert {n: getattr(arrived, n) for n in same} == {n: getattr(fact, n) for n in same}


@CALM
@given(inventories)
def test_an_inventory_arrives_as_it_was(inventory: Inventory) -> None:
    assert wire.inventory(travelled(up.inventory(inventory))) == inventory


@CALM
@given(ids, st.sampled_from(Outcome), texts, st.none() | facts)
def test_an_answer_arrives_as_it_was(
    command_id: str, outcome: Outcome, text: str, fact: RankFact | None
) -> None:
    message = agent_pb2.CommandResult(
        command_id=command_id,
        outcome=agent_pb2.CommandResult.Outcome.Value(f"OUTCOME_{outcome.name}"),
        message=text,
        status=None if fact is None else up.status(fact),
    )
    arrived = wire.command_answered("a1", travelled(message))
    assert isinstance(arrived, CommandAnswered)
    assert (arrived.command_id, arrived.outcome, arrived.message) == (command_id, outcome, text)
    assert (arrived.fact is None) == (fact is None)


# ---- what is not is unknown --------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e300])
@pytest.mark.parametrize("name", up.OPTIONAL)
def test_absurd_numbers_are_unknown(name: str, value: float) -> None:
    message = agent_pb2.EngineReading(instance_id="i-1", quality=agent_pb2.SCRAPE_QUALITY_OK)
    setattr(message, name, value)
    (engine,) = wire.samples(agent_pb2.Report(engines=[message]), NOW)
    assert getattr(engine, name) is None


def test_an_absent_number_is_unknown_and_zero_is_zero() -> None:
    message = agent_pb2.EngineReading(instance_id="i-1", running=0.0)
    (engine,) = wire.samples(agent_pb2.Report(engines=[message]), NOW)
    assert engine.running == 0.0
    assert engine.waiting is None
    assert engine.ttft is None
    assert engine.quality is ScrapeQuality.MISSING


@pytest.mark.parametrize("bad", [math.nan, -1.0, math.inf])
def test_an_absurd_latency_is_unknown(bad: float) -> None:
    reading = agent_pb2.EngineReading(
        instance_id="i-1",
        time_to_first_token=agent_pb2.Latency(sum_seconds=bad, count=3),
        time_between_tokens=agent_pb2.Latency(sum_seconds=3, count=bad),
    )
    (engine,) = wire.samples(agent_pb2.Report(engines=[reading]), NOW)
    assert engine.ttft is None
    assert engine.tbt is None


@pytest.mark.parametrize(
    ("seconds", "nanos", "age"),
    [(-5, 0, 0.0), (10**11, 0, wire.OLDEST), (1, -(2**31), 0.0), (2, 500_000_000, 2.5)],
)
def test_ages_are_neither_negative_nor_endless(seconds: int, nanos: int, age: float) -> None:
    report = agent_pb2.Report()
    report.sampled_ago.seconds, report.sampled_ago.nanos = seconds, nanos
    report.engines.add(instance_id="i-1")
    (engine,) = wire.samples(report, NOW)
    assert engine.at == pytest.approx(NOW - age)


def test_lists_are_cut() -> None:
    engines = [agent_pb2.EngineReading(instance_id=f"i-{n}") for n in range(1000)]
    assert len(wire.samples(agent_pb2.Report(engines=engines), NOW)) == wire.MAX_ENGINES
    status = up.status(RankFact("i-1", "s", Role.DECODE, InstanceState.IN_SERVICE, 1))
    assert len(wire.rank_facts([status] * 5000)) == wire.MAX_INSTANCES
    latency = agent_pb2.Latency(bucket_deltas=[1] * 10_000)
    reading = agent_pb2.EngineReading(instance_id="i", time_to_first_token=latency)
    (engine,) = wire.samples(agent_pb2.Report(engines=[reading]), NOW)
    assert engine.ttft is not None
    assert len(engine.ttft.bucket_deltas) == wire.MAX_BUCKETS


def test_a_fact_without_a_name_role_or_state_is_no_fact() -> None:
    good = up.status(RankFact("i-1", "s", Role.DECODE, InstanceState.IN_SERVICE, 1))

    def changed(change: Callable[[types_pb2.InstanceStatus], object]) -> types_pb2.InstanceStatus:
        copy = types_pb2.InstanceStatus()
        copy.CopyFrom(good)
        change(copy)
        return copy

    assert wire.rank_fact(good) is not None
    for field in ("instance_id", "role", "state"):
        assert wire.rank_fact(changed(lambda copy, f=field: copy.ClearField(f))) is None  # type: ignore[misc]
    assert wire.rank_fact(changed(lambda copy: copy.MergeFromString(b"\x38\x63"))) is None
    wrong_rank = wire.rank_fact(changed(lambda copy: setattr(copy, "rank", 2**31)))
    assert wrong_rank is not None
    assert wrong_rank.rank == 0


def test_history_is_thinned_sorted_and_keeps_its_newest() -> None:
    reports = []
    for age in (119, 118, 117, 60, 59, 1, 0):
        report = agent_pb2.Report()
        report.sampled_ago.seconds = age
        report.engines.add(instance_id="i-1")
        reports.append(report)
    ages = [NOW - s.at for one in wire.thinned(reversed(reports)) for s in wire.samples(one, NOW)]
    assert ages == [119, 117, 60, 1, 0]


def test_nul_never_arrives() -> None:
    event = agent_pb2.CommandResult(
        command_id="cmd-1", outcome=agent_pb2.CommandResult.OUTCOME_DONE, message="a\0b" * 1000
    )
    answered = wire.command_answered("a1", event)
    assert answered is not None
    assert "\0" not in answered.message
    assert len(answered.message) <= wire.MAX_TEXT


# ---- nothing raises ----------------------------------------------------------------------------


def take(message: agent_pb2.ConnectRequest) -> None:
    """Do all that the service does with a message."""
    wire.report("a1", 1, message.sequence, message.report, NOW)
    wire.inventory(message.inventory)
    wire.rank_changed("a1", message.instance_event)
    wire.command_answered("a1", message.command_result)
    wire.rank_facts(message.hello.instances)
    wire.agent_connected(message.hello, NOW)


@CALM
@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_decode_error(raw: bytes) -> None:
    try:
        message = agent_pb2.ConnectRequest.FromString(raw)
    except DecodeError:
        return
    take(message)


def any_value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    kind = field.cpp_type
    if field.message_type is not None:
        return any_message(field.message_type, depth - 1)
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return st.floats(width=32)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return st.text(max_size=20)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    signed = kind in (
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_ENUM,
    )
    wide = kind in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
    bits = 64 if wide else 32
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(low, high)


def any_message(kind: Descriptor, depth: int = 4) -> st.SearchStrategy[dict[str, Any]]:
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in kind.fields:
        if field.message_type is not None and (
            depth == 0 or field.message_type.GetOptions().map_entry
        ):
            continue
        value = any_value(field, depth)
        fields[field.name] = st.lists(value, max_size=3) if field.is_repeated else value
    return st.fixed_dictionaries({}, optional=fields)


@CALM
@given(any_message(agent_pb2.ConnectRequest.DESCRIPTOR))
def test_any_message_is_taken(fields: dict[str, Any]) -> None:
    take(travelled(agent_pb2.ConnectRequest(**fields)))


# ---- routers -----------------------------------------------------------------------------------


def router_reading(**values: Any) -> agent_pb2.RouterReading:
    ok = agent_pb2.SCRAPE_QUALITY_OK
    return agent_pb2.RouterReading(
        name="front", service="chat", url="http://10.0.0.9:1", quality=ok, **values
    )


def test_a_router_arrives_as_it_was_and_unknown_is_not_zero() -> None:
    latency = agent_pb2.Latency(sum_seconds=4.5, count=9)
    reading = router_reading(requests_rejected=0.0, requests_failed=3, time_to_first_token=latency)
    reading.age.FromSeconds(2)
    message = agent_pb2.Report(routers=[reading])
    message.sampled_ago.FromSeconds(1)
    (seen,) = wire.report("a1", 1, 1, travelled(message), NOW).routers
    assert seen == RouterSample(
        "front",
        "chat",
        "http://10.0.0.9:1",
        ScrapeQuality.OK,
        NOW - 3,
        requests_failed=3,
        requests_rejected=0,
        ttft=LatencySample(4.5, 9),
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 1e300])
def test_a_routers_nonsense_is_unknown(value: float) -> None:
    latency = agent_pb2.Latency(sum_seconds=value, count=1)
    reading = router_reading(requests_finished=value, running=value, time_to_first_token=latency)
    (seen,) = wire.router_samples(agent_pb2.Report(routers=[reading]), NOW)
    assert (seen.requests_finished, seen.running, seen.ttft) == (None, None, None)


def test_nameless_routers_are_dropped_and_a_flood_is_cut() -> None:
    nobodys = agent_pb2.RouterReading(name="x", url="http://a:1")
    flood = [nobodys, *(router_reading() for _ in range(1000))]
    assert len(wire.router_samples(agent_pb2.Report(routers=flood), NOW)) == wire.MAX_ROUTERS - 1


def test_a_hellos_history_tells_of_routers() -> None:
    hello = agent_pb2.Hello(agent_id="a1")
    for ago in (30, 20, 10):
        one = hello.history.add(routers=[router_reading(requests_finished=100 - ago)])
        one.sampled_ago.FromSeconds(ago)
    seen = wire.agent_connected(hello, NOW).router_history
    assert [(one.at, one.requests_finished) for one in seen] == [
        (NOW - 30, 70),
        (NOW - 20, 80),
        (NOW - 10, 90),
    ]
