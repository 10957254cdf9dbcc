"""What an operator is shown: services, instances, nodes, groups, decisions, explanations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest

from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import InstanceState, Role, ScrapeQuality
from heteroscale_coordinator.core.devices import GpuSample, KnownDevices, NicSample
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.model import Action, EngineSample, Rank, Service
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.track import Track
from heteroscale_coordinator.edge.store.decisions import DecisionLog
from tests.coordinator.refusals import refused
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import NOW, decision, instance, service

if TYPE_CHECKING:
    from heteroscale.v1.operator_pb2_grpc import OperatorServiceAsyncStub


S = grpc.StatusCode


async def test_a_service_shows_counts_ratio_signals_and_its_last_decision(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, decisions: DecisionLog
) -> None:
    loop.populate()
    states = [
        ("p-1", Role.PREFILL, InstanceState.IN_SERVICE),
        ("p-2", Role.PREFILL, InstanceState.WARMING),
        ("p-3", Role.PREFILL, InstanceState.PENDING),
        ("d-1", Role.DECODE, InstanceState.WITHDRAWN),
        ("d-2", Role.DECODE, InstanceState.DRAINING),
        ("d-3", Role.DECODE, InstanceState.UNKNOWN),
        ("d-4", Role.DECODE, InstanceState.TERMINATED),
    ]
    loop.commit(Changes(instances={key: instance(key, r, s) for key, r, s in states}))
    decisions.record([decision()])
    shown = await stub.GetService(pb.GetServiceRequest(name="chat"))
    prefill, decode = shown.roles
    assert (prefill.wanted, prefill.in_service, prefill.pending) == (2, 1, 2)
    assert (prefill.min, prefill.max) == (1, 8)
    assert (decode.in_service, decode.withdrawn, decode.draining, decode.unknown) == (3, 1, 1, 1)
    assert shown.ratio == pytest.approx(1 / 3)
    assert shown.condition == "ready"
    assert shown.last_decision.action == "hold"
    signals = {s.name: s.value if s.HasField("value") else None for s in shown.signals}
    assert signals == {"decode_demand": 7000.0, "decode_supply": 8000.0, "decode_tbt": None}
    listed = await stub.ListServices(pb.ListServicesRequest())
    assert list(listed.services) == [shown]


async def test_until_its_agents_are_heard_a_service_is_covering(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    loop.state.agents["agent-1"].heard = False
    shown = await stub.GetService(pb.GetServiceRequest(name="chat"))
    assert shown.condition == "covering"


async def test_a_service_whose_agents_are_cut_off_says_so(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    loop.state.cut_off = {"agent-elsewhere": "partition: …"}
    shown = await stub.GetService(pb.GetServiceRequest(name="chat"))
    assert shown.condition == "ready"
    loop.state.cut_off = {"agent-1": "partition: …"}
    shown = await stub.GetService(pb.GetServiceRequest(name="chat"))
    assert shown.condition == "partition"


async def test_unknown_names_are_not_found(stub: OperatorServiceAsyncStub) -> None:
    calls = [
        stub.GetService(pb.GetServiceRequest(name="nope")),
        stub.DeleteService(pb.DeleteServiceRequest(name="nope")),
        stub.PauseService(pb.PauseServiceRequest(name="nope")),
        stub.ExplainService(pb.ExplainServiceRequest(name="nope")),
        stub.ListInstances(pb.ListInstancesRequest(service="nope")),
        stub.ListDecisions(pb.ListDecisionsRequest(service="nope")),
        stub.DrainInstance(pb.DrainInstanceRequest(instance_id="nope")),
        stub.Watch(pb.WatchRequest(service="nope")).read(),
    ]
    for call in calls:
        code, details = await refused(call)
        assert code is S.NOT_FOUND
        assert "'nope'; `heteroscale get " in details


def sample(at: float, tokens: float) -> EngineSample:
    return EngineSample(
        "i-1",
        ScrapeQuality.OK,
        at,
        generation_tokens=tokens,
        computed_prompt_tokens=10 * tokens,
        running=4.0,
        waiting=0.0,
    )


async def test_an_instance_shows_its_load_only_while_that_is_fresh(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    loop.commit(Changes(instances={"p-1": instance("p-1", Role.PREFILL)}))
    for key in ("i-1", "p-1"):
        track = loop.state.tracks[key] = Track()
        for n in range(4):
            track.add(sample(NOW - 15 + 5 * n, 1000.0 * n))
    request = pb.ListInstancesRequest(service="chat")
    found = {i.instance_id: i for i in (await stub.ListInstances(request)).instances}
    assert found["i-1"].tokens_per_second == pytest.approx(200.0)
    assert found["p-1"].tokens_per_second == pytest.approx(2000.0)
    assert found["i-1"].running == 4.0
    assert not found["i-2"].HasField("running")
    loop.now += 100
    stale = (await stub.ListInstances(request)).instances[0]
    assert not stale.HasField("running")
    assert not stale.HasField("tokens_per_second")


async def test_an_instance_says_who_started_it(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    found_one = replace(instance("job-7-8000", Role.DECODE), origin="job/7")
    loop.commit(Changes(instances={found_one.instance_id: found_one}))
    request = pb.ListInstancesRequest(service="chat")
    found = {i.instance_id: i.origin for i in (await stub.ListInstances(request)).instances}
    assert (found["job-7-8000"], found["i-1"]) == ("job/7", "")


async def test_nodes_show_what_stands_on_them(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    busy = [GpuSample(utilization_percent=50), GpuSample(utilization_percent=90)]
    ports = [NicSample(active=True, share=0.25), NicSample(active=False)]
    loop.state.agents["agent-1"].devices = KnownDevices(busy, ports)
    loop.state.agent("agent-3", NOW)
    loop.now += 7
    one, two, three = (await stub.ListNodes(pb.ListNodesRequest())).nodes
    assert (one.gpus_used, one.gpu_count, one.gpu_type) == (2, 2, "H20")
    assert list(one.instance_ids) == ["i-1", "i-2", "i-3"]
    assert one.gpu_utilization_percent == 70.0
    assert (one.nics_active, one.nic_count, one.nic_share_percent) == (1, 2, 25.0)
    assert list(one.troubles) == ["RDMA port down: mlx5_1"]
    assert not one.gpus
    assert one.silent.seconds == 7
    assert two.gpus_used == 0
    assert not two.HasField("gpu_utilization_percent")
    assert not two.HasField("nics_active")
    assert not three.HasField("silent")


async def test_an_instance_tells_what_is_wrong_with_its_hardware(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    home = loop.state.agents[loop.state.instances["i-1"].agent_id]
    home.devices = KnownDevices([GpuSample(), GpuSample(ecc_uncorrected=2)])
    far = replace(instance("far"), ranks=(Rank("agent-2", (0, 1), InstanceState.IN_SERVICE, 5),))
    loop.commit(Changes(instances={"far": far}))
    answer = await stub.ListInstances(pb.ListInstancesRequest(service="chat"))
    sick = {one.instance_id: one.sick for one in answer.instances}
    assert sick["i-1"] == "agent-1 GPU 1: uncorrected ECC errors (2)"
    assert sick["far"] == ""


async def test_groups_name_the_nearest_domain_they_share(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    far = loop.state.agents["agent-2"]
    far.inventory = replace(far.inventory, topology={"s1": "minipod-9", "s2": "bigpod-0"})
    rows = {
        "p-1": replace(instance("p-1", Role.PREFILL), group="wide"),
        "d-1": replace(instance("d-1", agent="agent-2"), group="wide"),
        "gone": replace(instance("gone", state=InstanceState.TERMINATED), group="old"),
    }
    loop.commit(Changes(instances={**rows}))
    groups = (await stub.ListGroups(pb.ListGroupsRequest())).groups
    assert [(g.name, g.domain, g.prefill, g.decode) for g in groups] == [
        ("chat-0", "s1=minipod-0", 0, 3),
        ("wide", "s2=bigpod-0", 1, 1),
    ]


async def test_decisions_come_newest_first_with_signed_steps(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, decisions: DecisionLog
) -> None:
    loop.populate()
    out = decision("out", Action.SCALE_OUT)
    decisions.record([out, replace(out, decision_id="in", action=Action.SCALE_IN, at=NOW + 1)])
    for n in range(30):
        decisions.record([decision(f"h-{n}", at=NOW + 2 + n)])
    found = (await stub.ListDecisions(pb.ListDecisionsRequest(service="chat"))).decisions
    assert [d.decision_id for d in found] == ["h-0", "in", "out"]
    assert found[0].repeat_count == 30
    assert found[0].last_time.seconds - found[0].time.seconds == 29
    assert (found[1].prefill_delta, found[1].decode_delta) == (-1, -2)
    assert (found[2].prefill_delta, found[2].decode_delta) == (1, 2)
    few = await stub.ListDecisions(pb.ListDecisionsRequest(page_size=1))
    assert [d.decision_id for d in few.decisions] == ["h-0"]


async def test_an_answer_beyond_the_size_limit_is_refused_in_words(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    long = {f"i-{n}": replace(instance(f"i-{n}"), message="x" * 2000) for n in range(3000)}
    loop.commit(Changes(instances={**long}))
    code, details = await refused(stub.ListInstances(pb.ListInstancesRequest()))
    assert code is S.RESOURCE_EXHAUSTED
    assert "bytes" in details


async def test_explain_tells_why_and_what_would_change_it(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, decisions: DecisionLog
) -> None:
    loop.populate()
    decisions.record([decision(f"d-{n}", at=NOW - 20 + 5 * n) for n in range(4)])
    answer = await stub.ExplainService(pb.ExplainServiceRequest(name="chat"))
    assert answer.decision.repeat_count == 4
    lines = list(answer.lines)
    assert lines[0] == f"chat: hold: {decision().reason}"
    assert "  decode_demand = 7000 tokens/s (ok, 100% of instances heard)" in lines
    assert "  decode_tbt = unknown (missing, 0% of instances heard)" in lines
    assert "  R = 7000 ÷ 8000 = 0.875" in lines
    everything = "\n".join(lines)
    assert "scale-out: demand above 8400 tokens/s (1.05 × supply 8000) over 15s" in everything
    assert "guard: mean TBT above 55ms (1.1 × SLO 50ms)" in everything
    assert "cooldown: no scale-out before" in everything
    assert "in 2m" in everything


async def test_explain_before_the_first_decision(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.commit(Changes({"chat": replace(service(paused="by hand", rich=True), quarantine="boom")}))
    answer = await stub.ExplainService(pb.ExplainServiceRequest(name="chat"))
    everything = "\n".join(answer.lines)
    assert not answer.HasField("decision")
    assert "nothing has been decided yet" in everything
    assert "paused (by hand): `heteroscale resume chat`" in everything
    assert "quarantined, it is left alone (boom)" in everything
    assert "observation until" in everything
    assert (
        "flapping: 4 reversals within 30m, 3 are allowed: cooldowns × 2 in, × 1.5 out" in everything
    )
    assert "no launch on node agent-9 after 4 failed in a row; one is tried at" in everything
    assert "GPU type H20 after 3 failed in a row; one is tried when there is need" in everything
    assert "No place for +2 decode." in everything
    assert "shortage: 3 GPUs given within the hour, at most 25% of what it holds" in everything
    assert "never below 1 prefill, 2 decode" in everything


async def test_a_split_prefill_is_told_by_its_parts(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, decisions: DecisionLog
) -> None:
    loop.populate()
    roles = {name: {"template": name, "max": 8} for name in ("attention", "ffn", "decode")}
    spec = ServiceSpec.model_validate({"roles": roles, "innerRatio": "2:1"})
    members = [Role.ATTENTION, Role.ATTENTION, Role.FFN, *[Role.DECODE] * 4]
    rows = [replace(instance(f"m-{n}"), service="moe", role=role) for n, role in enumerate(members)]
    loop.commit(Changes({"moe": Service("moe", spec)}, {row.instance_id: row for row in rows}))
    step = replace(decision("d", Action.SCALE_IN, of="moe"), delta={Role.ATTENTION: 2, Role.FFN: 1})
    decisions.record([step])
    shown = await stub.GetService(pb.GetServiceRequest(name="moe"))
    assert (shown.ratio, shown.inner_ratio) == (0.5, 2.0)
    found = (await stub.ListDecisions(pb.ListDecisionsRequest(service="moe"))).decisions[0]
    assert (found.attention_delta, found.ffn_delta, found.prefill_delta) == (-2, -1, 0)
    request = pb.ScaleServiceRequest(name="moe", attention=6)
    assert [role.wanted for role in (await stub.ScaleService(request)).roles] == [6, 3, 4]
