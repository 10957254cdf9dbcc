"""The operators' face, over real gRPC on loopback, before a loop driven by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
import pytest
import yaml

from heteroscale.convert import to_wire
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1.operator_pb2_grpc import (
    OperatorServiceStub,
    add_OperatorServiceServicer_to_server,
)
from heteroscale.words import InstanceState, Role, ScrapeQuality, WithdrawReason
from heteroscale_coordinator.core import events
from heteroscale_coordinator.core.devices import GpuSample, KnownDevices, NicSample
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.model import Action, EngineSample
from heteroscale_coordinator.core.track import Track
from heteroscale_coordinator.edge import guard
from heteroscale_coordinator.edge.feed import Subscription
from heteroscale_coordinator.edge.operator import OperatorFace
from heteroscale_coordinator.edge.store.decisions import DecisionLog
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import CHAT, NOW, decision, instance, service

if TYPE_CHECKING:
    from heteroscale.v1.operator_pb2_grpc import OperatorServiceAsyncStub

OTHER = CHAT.replace("name: chat", "name: other")
S = grpc.StatusCode


@pytest.fixture
def loop() -> TwinLoop:
    return TwinLoop()


@pytest.fixture
def decisions() -> DecisionLog:
    return DecisionLog(None)


@pytest.fixture
async def stub(loop: TwinLoop, decisions: DecisionLog) -> AsyncIterator[OperatorServiceAsyncStub]:
    server = grpc.aio.server()
    face = OperatorFace(loop, decisions, write_timeout=0.3)
    add_OperatorServiceServicer_to_server(face, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield OperatorServiceStub(channel)
    await server.stop(None)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


# ---- apply -----------------------------------------------------------------------------------


def text(*documents: str, check: bool = False) -> pb.ApplyServicesRequest:
    joined = "---\n".join(documents)
    return pb.ApplyServicesRequest(document=joined, file_name="x.yaml", validate_only=check)


def said(answer: pb.ApplyServicesResponse) -> dict[str, str]:
    return {result.name: result.change for result in answer.results}


async def test_apply_creates_configures_and_leaves_what_is_equal(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    assert said(await stub.ApplyServices(text(CHAT, OTHER))) == {
        "chat": "created",
        "other": "created",
    }
    changed = OTHER.replace("max: 16", "max: 20")
    assert said(await stub.ApplyServices(text(CHAT, changed))) == {
        "chat": "unchanged",
        "other": "configured",
    }
    assert len(loop.wishes) == 3
    assert loop.state.services["other"].spec.roles[Role.DECODE].max == 20


async def test_the_document_kept_is_canonical_and_means_the_same(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    await stub.ApplyServices(text("# a comment\n" + CHAT))
    kept = (await stub.GetService(pb.GetServiceRequest(name="chat"))).document
    assert "comment" not in kept
    assert yaml.safe_load(kept)["spec"]["policy"] == {"observation": "2m"}
    assert said(await stub.ApplyServices(text(kept))) == {"chat": "unchanged"}


async def test_violations_of_all_documents_come_line_by_line_and_nothing_is_taken(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    wrong = OTHER.replace("max: 16", "max: 1").replace("tbt:", "tbtt:")
    code, details = await refused(stub.ApplyServices(text(CHAT, wrong)))
    assert code is S.INVALID_ARGUMENT
    assert details.splitlines() == [
        "x.yaml:21: spec.roles.decode: min 2 is above max 1",
        "x.yaml:23: spec.slo.tbtt: unknown field; did you mean `tbt`?",
    ]
    assert not loop.state.services


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("", "holds no document"),
        ("a: [", "not YAML"),
        (CHAT + "---\n" + CHAT, "'chat' is in this text twice"),
        (CHAT.replace("kind: Service", "kind: Fleet"), "x.yaml:2: kind"),
        ("x" * (1024 * 1024 + 1), "longer than"),
    ],
)
async def test_what_is_no_service_is_refused(
    stub: OperatorServiceAsyncStub, document: str, complaint: str
) -> None:
    code, details = await refused(stub.ApplyServices(text(document)))
    assert code is S.INVALID_ARGUMENT
    assert complaint in details


async def test_a_thousand_violations_still_fit_into_a_status(
    stub: OperatorServiceAsyncStub,
) -> None:
    keys = "\n".join(f"  unbekannt_ä_{n}: 1" for n in range(1000))
    code, details = await refused(stub.ApplyServices(text(CHAT + keys)))
    assert code is S.INVALID_ARGUMENT
    assert details.splitlines()[-1].startswith("… and ")


async def test_validate_only_changes_nothing(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    assert said(await stub.ApplyServices(text(CHAT, check=True))) == {"chat": "created"}
    assert not loop.wishes


async def test_a_service_being_deleted_refuses_the_whole_text(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.commit(Changes({"other": replace(service("other"), deleting=True)}))
    code, details = await refused(stub.ApplyServices(text(CHAT, OTHER)))
    assert code is S.FAILED_PRECONDITION
    assert "other is being deleted" in details
    assert set(loop.state.services) == {"other"}


async def test_a_store_that_cannot_commit_is_said_and_nothing_was_taken(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.trouble[""] = "the store cannot commit: disk full"
    code, details = await refused(stub.ApplyServices(text(CHAT)))
    assert code is S.UNAVAILABLE
    assert details == "chat: not taken: the store cannot commit: disk full"


async def test_if_one_of_two_is_not_taken_each_is_named(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.trouble["other"] = "disk full"
    code, details = await refused(stub.ApplyServices(text(CHAT, OTHER)))
    assert code is S.ABORTED
    assert details.splitlines() == ["other: not taken: disk full", "chat: taken"]


# ---- read ------------------------------------------------------------------------------------


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
    assert "scale-out: demand above 8800 tokens/s (1.10 × supply 8000) over 15s" in everything
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


# ---- wishes ----------------------------------------------------------------------------------


async def test_pause_resume_and_scale_answer_with_the_service(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    request = pb.PauseServiceRequest(name="chat", reason="load\x07 test\n" + "x" * 9999)
    assert (await stub.PauseService(request)).paused
    assert loop.state.services["chat"].paused.startswith("load  test")
    assert len(loop.state.services["chat"].paused) <= guard.MAX_WORDS
    assert not (await stub.ResumeService(pb.ResumeServiceRequest(name="chat"))).paused
    scaled = await stub.ScaleService(pb.ScaleServiceRequest(name="chat", prefill=3, decode=6))
    assert [role.wanted for role in scaled.roles] == [3, 6]
    code, details = await refused(stub.ScaleService(pb.ScaleServiceRequest(name="chat", decode=99)))
    assert code is S.FAILED_PRECONDITION
    assert "bounds 2 to 16" in details
    code, _ = await refused(stub.ScaleService(pb.ScaleServiceRequest(name="chat")))
    assert code is S.INVALID_ARGUMENT


async def test_drain_and_reinstate_answer_with_the_instance(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    soft = instance("i-2", state=InstanceState.WITHDRAWN, reason=WithdrawReason.SOFT_SCALE_IN)
    loop.commit(Changes(instances={"i-2": soft}))
    drained = await stub.DrainInstance(pb.DrainInstanceRequest(instance_id="i-1", reason="disk"))
    assert drained.instance_id == "i-1"
    back = await stub.ReinstateInstance(pb.ReinstateInstanceRequest(instance_id="i-2"))
    assert back.withdraw_reason == to_wire(WithdrawReason.SOFT_SCALE_IN)
    assert [type(wish) for wish in loop.wishes] == [
        events.DrainInstance,
        events.ReinstateInstance,
    ]
    code, _ = await refused(stub.DrainInstance(pb.DrainInstanceRequest(instance_id="i-1")))
    assert code is S.FAILED_PRECONDITION


async def test_delete_forgets(stub: OperatorServiceAsyncStub, loop: TwinLoop) -> None:
    loop.populate()
    await stub.DeleteService(pb.DeleteServiceRequest(name="chat"))
    assert not loop.state.services


async def test_an_error_of_our_own_is_internal_and_named(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()

    def broken(_: events.Wish) -> None:
        raise ZeroDivisionError("of our own")

    loop.before = broken
    code, details = await refused(stub.ResumeService(pb.ResumeServiceRequest(name="chat")))
    assert code is S.INTERNAL
    assert details == "ZeroDivisionError: of our own"


async def test_a_loop_that_never_answers_meets_the_deadline(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.populate()
    monkeypatch.setattr(guard, "DEADLINE_S", 0.05)

    async def never(_: events.Wish) -> events.Answer:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(loop, "submit", never)
    code, _ = await refused(stub.ResumeService(pb.ResumeServiceRequest(name="chat")))
    assert code is S.DEADLINE_EXCEEDED


# ---- watch -----------------------------------------------------------------------------------


class Watcher:
    def __init__(self, stub: OperatorServiceAsyncStub, name: str = "") -> None:
        self.call = stub.Watch(pb.WatchRequest(service=name))

    async def next(self) -> tuple[str, Any]:
        async with asyncio.timeout(10):
            response = cast("pb.WatchResponse", await self.call.read())
        kind = response.WhichOneof("event")
        assert kind is not None
        return kind, getattr(response, kind)

    async def until_synced(self) -> list[tuple[str, Any]]:
        seen = []
        while (item := await self.next())[0] != "synced":
            seen.append(item)
        return seen


async def test_a_watch_begins_with_the_state_and_goes_on_with_changes(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, decisions: DecisionLog
) -> None:
    loop.populate()
    decisions.record([decision("d-1")])
    watcher = Watcher(stub)
    kinds = [kind for kind, _ in await watcher.until_synced()]
    assert kinds == ["service", "instance", "instance", "instance", "node", "node", "decision"]
    moved = replace(instance("i-1"), state=InstanceState.WITHDRAWN)
    loop.commit(Changes(instances={"i-1": moved}, decisions=[decision("d-2", at=NOW + 5)]))
    kind, shown = await watcher.next()
    assert (kind, shown.state) == ("instance", to_wire(InstanceState.WITHDRAWN))
    kind, shown = await watcher.next()
    assert (kind, shown.decision_id, shown.repeat_count) == ("decision", "d-1", 2)
    kind, shown = await watcher.next()
    assert (kind, shown.roles[1].withdrawn) == ("service", 1)
    watcher.call.cancel()


async def test_a_watcher_is_told_what_is_gone(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    watcher = Watcher(stub, "chat")
    await watcher.until_synced()
    loop.commit(Changes({"chat": None}, {"i-1": None}))
    kind, shown = await watcher.next()
    assert (kind, shown.instance_id) == ("instance", "i-1")
    assert shown.state == to_wire(InstanceState.TERMINATED)
    kind, shown = await watcher.next()
    assert (kind, shown.name, shown.condition) == ("service", "chat", "deleted")
    watcher.call.cancel()


async def test_a_watch_of_one_service_hears_of_no_other(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    loop.commit(Changes({"other": service("other")}, {"o-1": instance("o-1", of="other")}))
    watcher = Watcher(stub, "chat")
    seen = await watcher.until_synced()
    assert {item.name for kind, item in seen if kind == "service"} == {"chat"}
    assert {item.service for kind, item in seen if kind == "instance"} == {"chat"}
    loop.commit(Changes({"other": service("other", paused="x")}))
    loop.commit(Changes({"chat": service(paused="y")}))
    _, shown = await watcher.next()
    assert shown.name == "chat"
    watcher.call.cancel()


async def test_a_watcher_that_does_not_read_is_dropped_and_told(
    stub: OperatorServiceAsyncStub, loop: TwinLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.populate()
    slow, quick = Watcher(stub), Watcher(stub, "chat")
    await slow.until_synced()
    await quick.until_synced()
    dropped = asyncio.Event()
    forget = loop.feed.drop

    def drop(subscription: Subscription) -> bool:
        dropped.set()
        return forget(subscription)

    monkeypatch.setattr(loop.feed, "drop", drop)
    for n in range(400):
        loop.commit(Changes({"other": replace(service("other"), document=f"{n:060000}")}))
    loop.commit(Changes({"chat": service(paused="still heard")}))
    assert (await quick.next())[1].paused

    await dropped.wait()

    async def read_on() -> None:
        async with asyncio.timeout(20):
            while True:
                await slow.call.read()

    code, details = await refused(read_on())
    assert code is S.RESOURCE_EXHAUSTED
    assert "too slowly" in details
    quick.call.cancel()


async def test_when_the_loop_stops_watchers_are_told_to_come_again(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    watcher = Watcher(stub)
    await watcher.until_synced()
    loop.feed.close()
    code, details = await refused(watcher.next())
    assert code is S.UNAVAILABLE
    assert "stopping" in details
