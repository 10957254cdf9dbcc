"""KEDA's external-scaler API on loopback: exact counts, nothing instead of zero, clear refusals."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from heteroscale.channel import ChannelError, open_channel
from heteroscale.keda import externalscaler_pb2 as pb
from heteroscale.keda.externalscaler_pb2_grpc import ExternalScalerStub
from heteroscale.words import Role
from heteroscale_coordinator.config import CoordinatorSpec
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.memory.external import ExternalMemory
from heteroscale_coordinator.core.model import Action, Decision, Service
from heteroscale_coordinator.core.spec import ServiceDocument
from heteroscale_coordinator.edge import others
from heteroscale_coordinator.edge.explain import explain
from heteroscale_coordinator.edge.keda import KedaFace, KedaServer, Polls
from heteroscale_coordinator.edge.keda.trigger import trigger_of
from heteroscale_coordinator.edge.operator_wire import service_message
from heteroscale_coordinator.edge.store.decisions import DecisionLog
from heteroscale_coordinator.edge.trust import Gatekeeper, ServerTls, listen
from tests.coordinator.face import PATIENCE
from tests.coordinator.keda import ScaledObject, dial
from tests.coordinator.test_trust import Authority
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import NOW, service
from tests.docs import reference
from tests.hpa import Hpa

P, D = Role.PREFILL, Role.DECODE
PREFILL = {"service": "chat", "role": "prefill"}
DECODE = {"service": "chat", "role": "decode"}


def asked(prefill: int, decode: int, generation: int = 1, **changes: Any) -> Service:
    """Return a service that others scale, with its counts."""
    plain = service()
    spec = {"actuation": {"by": "external"}} | changes
    counts = {P: prefill, D: decode} if prefill else {}
    external = ExternalMemory(counts, generation, NOW)
    return replace(
        plain,
        spec=type(plain.spec).model_validate(plain.spec.model_dump() | spec),
        memory=replace(plain.memory, external=external),
    )


class Rig:
    """A server on loopback, over a loop that tests drive."""

    def __init__(self, loop: TwinLoop, decisions: DecisionLog, tls: ServerTls) -> None:
        self.loop = loop
        self.registry = CollectorRegistry()
        self.polls = Polls(loop, self.registry)
        gatekeeper = Gatekeeper(mutual=tls.mutual)
        self.face = KedaFace(
            loop, decisions, gatekeeper, self.polls, look_every=0.01, max_streams=2
        )
        self.server = KedaServer(self.face)
        self.port = listen(self.server.grpc, "127.0.0.1:0", tls, insecure=False)
        self.channel = dial(f"127.0.0.1:{self.port}")

    def commit(self, one: Service, *decided: Decision) -> None:
        self.loop.commit(Changes({one.name: one}, decisions=list(decided)))

    def scaled(self, metadata: dict[str, str], **more: Any) -> ScaledObject:
        return ScaledObject(self.channel, metadata, **more)

    def series(self) -> str:
        return generate_latest(self.registry).decode()


@pytest.fixture
async def rig(loop: TwinLoop, decisions: DecisionLog) -> AsyncIterator[Rig]:
    made = Rig(loop, decisions, ServerTls())
    await made.server.start()
    yield made
    await made.channel.close()
    await made.server.stop(0)


# ---- counts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stands", [1, 4, 9, 30])
async def test_an_hpa_arrives_at_exactly_what_is_asked_for(rig: Rig, stands: int) -> None:
    prefill = rig.scaled(PREFILL, replicas=stands)
    decode = rig.scaled(DECODE, replicas=stands)
    for generation, (p, d) in enumerate([(2, 4), (3, 7), (8, 16), (1, 2)], 1):
        rig.commit(asked(p, d, generation))
        await prefill.poll()
        await decode.poll()
        assert (prefill.replicas, decode.replicas) == (p, d)
        assert prefill.generation == decode.generation == str(generation)
    assert prefill.targets == {"s0-heteroscale-prefill-chat": 1.0}
    assert decode.ready
    assert decode.active


async def test_an_hpa_with_its_default_tolerance_leaves_a_tenth(rig: Rig) -> None:
    """The trap of which the documents warn: from 10 to 11 replicas an HPA does nothing."""
    rig.commit(asked(5, 11))
    plain = rig.scaled(DECODE, replicas=10, hpa=Hpa())
    await plain.poll()
    assert plain.replicas == 10
    rig.commit(asked(6, 12, 2))
    await plain.poll()
    assert plain.replicas == 12


async def test_old_clients_read_the_whole_numbers(rig: Rig) -> None:
    rig.commit(asked(3, 6))
    stub = ExternalScalerStub(rig.channel)
    ref = rig.scaled(DECODE).ref
    spec = (await stub.GetMetricSpec(ref, timeout=PATIENCE)).metricSpecs[0]
    request = pb.GetMetricsRequest(scaledObjectRef=ref, metricName=spec.metricName)
    value = (await stub.GetMetrics(request, timeout=PATIENCE)).metricValues[0]
    assert (spec.targetSize, value.metricValue) == (1, 6)
    assert value.metricName == spec.metricName


# ---- unknown is not zero ---------------------------------------------------------------------


async def test_what_is_not_asked_yet_changes_nothing_and_says_why(
    rig: Rig, decisions: DecisionLog
) -> None:
    rig.commit(asked(0, 0))
    decode = rig.scaled(DECODE, replicas=7)
    await decode.poll()
    assert (decode.replicas, decode.ready) == (7, False)
    assert decode.targets, "the HPA is made all the same"
    assert "the first decision comes within a tick" in await decode.told()
    why = "Nothing is asked for yet: no decode is heard."
    decisions.record([Decision("d", "chat", NOW, Action.HOLD, why, "coverage")])
    assert await decode.told() == f"UNAVAILABLE: service 'chat': {why}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"advisory": True}, "UNAVAILABLE: service 'chat' only advises: set `advisory: false`"),
        ({"actuation": {}}, "FAILED_PRECONDITION: service 'chat' is scaled by the coordinator"),
    ],
)
async def test_a_service_that_nobody_else_scales_is_refused(
    rig: Rig, changes: dict[str, Any], said: str
) -> None:
    rig.commit(asked(2, 4, **changes))
    assert (await rig.scaled(DECODE).told()).startswith(said)


async def test_a_service_whose_target_is_learned_is_refused(rig: Rig) -> None:
    roles = asked(2, 4).spec.model_dump()["roles"]
    roles[D]["target"] = "learn"
    rig.commit(asked(2, 4, roles=roles))
    assert "write the number that was learned" in await rig.scaled(DECODE).told()


async def test_a_service_that_failed_or_a_loop_that_hangs_is_no_answer(rig: Rig) -> None:
    decode = rig.scaled(DECODE, replicas=4)
    rig.commit(replace(asked(2, 4), quarantine="KeyError"))
    assert "is left alone after an error: KeyError" in await decode.told()
    rig.commit(asked(2, 4))
    assert await decode.told() == "OK"
    rig.loop.now += 61
    assert "has not been looked at for 61 s" in await decode.told()
    rig.loop.state.turned_at = rig.loop.now
    assert await decode.told() == "OK"
    rig.loop.stuck = "another coordinator leads"
    assert "another coordinator leads" in await decode.told()
    await decode.poll()
    assert decode.replicas == 4


async def test_a_full_disk_holds_the_counts(rig: Rig) -> None:
    rig.commit(asked(2, 4))
    rig.loop.not_ready = ("disk full",)
    assert await rig.scaled(DECODE).told() == "OK"


# ---- garbage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "INVALID_ARGUMENT: metadata `service` is missing: write the name of a service"),
        ({"service": " "}, "metadata `service` is empty"),
        ({"Service": "chat"}, "metadata `service` is missing; `Service` is there"),
        ({"servce": "chat", "role": "decode"}, "metadata `service` is missing; `servce` is there"),
        ({"service": "chat"}, "metadata `role` is missing: write `prefill` or `decode`"),
        ({"service": "chat", "roles": "decode"}, "metadata `role` is missing; `roles` is there"),
        ({"service": "chat", "role": "DECODE"}, "'DECODE' is no role of service 'chat': write one"),
        ({"service": "chat", "role": "x" * 9000}, "write one of prefill, decode"),
        ({"service": "chta", "role": "decode"}, "NOT_FOUND: metadata `service`: no service 'chta'"),
        ({"service": "chta", "role": "decode"}, "here: it knows chat"),
        ({"service": "a\n\x00b", "role": "decode"}, "no service 'a  b' here"),
    ],
)
async def test_garbage_is_refused_with_the_field_and_the_fix(
    rig: Rig, metadata: dict[str, str], said: str
) -> None:
    rig.commit(asked(2, 4))
    scaled = rig.scaled(metadata, replicas=3)
    assert said in await scaled.told()
    await scaled.poll()
    assert (scaled.replicas, scaled.ready, scaled.targets) == (3, False, {})


async def test_where_nothing_is_applied_that_is_said(rig: Rig) -> None:
    assert "none is applied yet (`heteroscale apply`)" in await rig.scaled(DECODE).told()
    for number in range(7):
        rig.commit(replace(asked(2, 4), name=f"s{number}"))
    assert "it knows s0, s1, s2, s3, s4 and 2 more" in await rig.scaled(DECODE).told()


async def test_a_metric_of_another_role_is_refused(rig: Rig) -> None:
    rig.commit(asked(2, 4))
    with pytest.raises(grpc.aio.AioRpcError, match="is not 'heteroscale-decode-chat'"):
        await rig.scaled(DECODE).metric("s0-heteroscale-prefill-chat")


async def test_bytes_that_are_no_message_and_messages_too_large_end_only_their_call(
    rig: Rig,
) -> None:
    rig.commit(asked(2, 4))
    raw: Any = rig.channel.unary_unary("/externalscaler.ExternalScaler/GetMetrics")
    with pytest.raises(grpc.aio.AioRpcError):
        await raw(b"\xff\xff\xff\xff", timeout=PATIENCE)
    large = rig.scaled(DECODE | {"note": "x" * 100_000})
    assert (await large.told()).startswith("RESOURCE_EXHAUSTED")
    assert await rig.scaled(DECODE).told() == "OK"


async def test_a_failure_of_ours_is_a_status_and_is_counted(rig: Rig) -> None:
    broken = asked(2, 4)
    rig.commit(replace(broken, memory=replace(broken.memory, external=None)))  # type: ignore[arg-type]
    assert (await rig.scaled(DECODE).told()).startswith("INTERNAL: AttributeError")
    assert 'heteroscale_keda_calls_total{code="INTERNAL",method="GetMetrics"} 1.0' in rig.series()


# ---- streams ---------------------------------------------------------------------------------


async def first(call: Any) -> bool:
    async with asyncio.timeout(PATIENCE):
        answer = await call.read()
        assert isinstance(answer, pb.IsActiveResponse)
        return answer.result


async def ending(call: Any) -> tuple[grpc.StatusCode, str]:
    async with asyncio.timeout(PATIENCE):
        return await call.code(), await call.details()


async def test_a_stream_tells_at_once_and_ends_where_nothing_is_known(rig: Rig) -> None:
    """As KEDA does: the end of a stream is no scale-in, and the next one is opened."""
    rig.commit(asked(2, 4))
    stub, ref = ExternalScalerStub(rig.channel), rig.scaled(DECODE).ref
    call = stub.StreamIsActive(ref)
    assert await first(call)
    rig.commit(asked(0, 0))
    assert (await ending(call))[0] is grpc.StatusCode.UNAVAILABLE
    rig.commit(asked(2, 4, 2))
    again = stub.StreamIsActive(ref)
    assert await first(again)
    again.cancel()


async def test_a_change_of_activity_is_pushed(rig: Rig) -> None:
    known = asked(1, 2)
    rig.commit(known)
    call = ExternalScalerStub(rig.channel).StreamIsActive(rig.scaled(DECODE).ref)
    assert await first(call)
    external = replace(known.memory.external, counts={P: 0, D: 0}, generation=2)
    rig.commit(replace(known, memory=replace(known.memory, external=external)))
    assert not await first(call)
    call.cancel()


async def test_streams_are_bounded_and_given_back(rig: Rig) -> None:
    rig.commit(asked(2, 4))
    stub, ref = ExternalScalerStub(rig.channel), rig.scaled(DECODE).ref
    calls = [stub.StreamIsActive(ref) for _ in range(2)]
    assert [await first(call) for call in calls] == [True, True]
    code, text = await ending(stub.StreamIsActive(ref))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "use type `external`, which polls" in text
    assert "heteroscale_keda_streams 2.0" in rig.series()
    for call in calls:
        call.cancel()
    async with asyncio.timeout(PATIENCE):
        while rig.polls.streams:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


async def test_an_orderly_end_ends_streams_with_a_word(rig: Rig) -> None:
    rig.commit(asked(2, 4))
    call = ExternalScalerStub(rig.channel).StreamIsActive(rig.scaled(DECODE).ref)
    assert await first(call)
    await rig.server.stop(PATIENCE)
    assert await ending(call) == (grpc.StatusCode.UNAVAILABLE, "the coordinator is stopping")


async def test_streamed_targets_are_not_served_as_keda_expects_it_said(rig: Rig) -> None:
    call = ExternalScalerStub(rig.channel).StreamMetricSpec(rig.scaled(DECODE).ref)
    assert (await ending(call))[0] is grpc.StatusCode.UNIMPLEMENTED


async def test_its_health_is_served(rig: Rig) -> None:
    request = health_pb2.HealthCheckRequest(service="externalscaler.ExternalScaler")
    stub: Any = health_pb2_grpc.HealthStub(rig.channel)
    answer = await stub.Check(request, timeout=PATIENCE)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


# ---- who asks --------------------------------------------------------------------------------


async def test_who_asks_is_said_once_and_two_of_one_role_are_warned_of(rig: Rig) -> None:
    rig.commit(asked(2, 4))
    with capture_logs() as lines:
        for _ in range(3):
            for name in ("chat-decode", "chat-decode-copy"):
                await rig.scaled(DECODE, name=name).poll()
            await rig.scaled({"service": "chat"}, name="chat-prefill").told()
    assert [(line["event"], line["by"]) for line in lines] == [
        ("keda asks", "serving/chat-decode"),
        ("keda rivals", "serving/chat-decode-copy"),
        ("keda refused", "serving/chat-prefill"),
    ]


async def test_the_age_of_a_poll_is_told_of_services_that_are_there(rig: Rig) -> None:
    rig.commit(asked(2, 4))
    await rig.scaled(DECODE).poll()
    rig.loop.now += 12
    age = 'heteroscale_keda_poll_age_seconds{role="decode",service="chat"} 12.0'
    assert age in rig.series()
    rig.loop.commit(Changes({"chat": None}))
    assert "keda_poll_age_seconds{" not in rig.series()


async def test_a_refusal_in_which_only_numbers_change_is_said_once(rig: Rig) -> None:
    rig.commit(asked(2, 4))
    with capture_logs() as lines:
        for _ in range(3):
            rig.loop.now += 61
            assert "the coordinator hangs" in await rig.scaled(DECODE).told()
    assert [line["event"] for line in lines] == ["keda refused"]


async def test_what_is_remembered_of_refusals_is_bounded(rig: Rig) -> None:
    ref = pb.ScaledObjectRef
    for number in range(1_200):
        rig.polls.refused(ref(name=f"s{number}"), "no")
    assert len(rig.polls._refused) == 1_000


# ---- trust -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("heteroscale-keda", "OK"),
        ("heteroscale-operator", "OK"),
        ("heteroscale-agent", "PERMISSION_DENIED"),
    ],
)
async def test_with_a_client_ca_the_certificate_says_who_may_ask(
    loop: TwinLoop, decisions: DecisionLog, tmp_path: Path, unit: str, said: str
) -> None:
    authority = Authority(trustme.CA(), tmp_path)
    rig = Rig(loop, decisions, authority.server(mutual=True))
    await rig.server.start()
    rig.commit(asked(2, 4))
    async with open_channel(f"127.0.0.1:{rig.port}", authority.client("keda", unit)) as channel:
        scaled = ScaledObject(channel, DECODE)
        assert (await scaled.told()).startswith(said)
        call = ExternalScalerStub(channel).StreamIsActive(scaled.ref)
        if said == "OK":
            assert await first(call)
        else:
            assert (await ending(call))[0] is grpc.StatusCode.PERMISSION_DENIED
        call.cancel()
    await rig.channel.close()
    await rig.server.stop(0)


def test_beyond_loopback_counts_are_not_served_plain_without_a_word() -> None:
    spec = CoordinatorSpec.model_validate({"keda": {"listen": "0.0.0.0:7072"}})
    with pytest.raises(ChannelError, match=r"--keda-insecure \(keda.insecure: true\)"):
        spec.check_trust()
    told = CoordinatorSpec.model_validate({"keda": {"listen": "0.0.0.0:7072", "insecure": True}})
    told.check_trust()


# ---- what is told of others ------------------------------------------------------------------


def late(why: str) -> Decision:
    inputs = {"not followed": why} if why else {}
    return Decision("d", "chat", NOW, Action.HOLD, "hold", "demand", inputs=inputs)


async def test_counts_and_who_does_not_follow_them_are_said_once(loop: TwinLoop) -> None:
    telling = asyncio.create_task(others.tell_others(loop))
    await asyncio.sleep(0)
    with capture_logs() as lines:
        for generation, why in enumerate(["", "asked for 4", "asked for 4, still", ""], 1):
            counted = asked(2, min(generation, 2) + 2, min(generation, 2))
            loop.commit(Changes({"chat": counted}, decisions=[late(why)]))
        loop.commit(Changes({"chat": service()}))
        loop.commit(Changes({"chat": None}))
        loop.feed.close()
        async with asyncio.timeout(PATIENCE):
            await telling
    assert [line["event"] for line in lines] == [
        *("asked for", "asked for", "not followed", "followed again"),
    ]
    assert (lines[1]["generation"], lines[1]["decode"]) == (2, 4)


async def test_a_lag_of_the_feed_is_gone_over(loop: TwinLoop) -> None:
    telling = asyncio.create_task(others.tell_others(loop))
    await asyncio.sleep(0)
    for _ in range(1_500):
        loop.commit(Changes({"chat": asked(2, 4)}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    loop.feed.close()
    async with asyncio.timeout(PATIENCE):
        await telling


def test_what_is_asked_for_is_in_the_metrics(loop: TwinLoop) -> None:
    registry = CollectorRegistry()
    registry.register(others.AskedCollector(loop))
    loop.commit(Changes({"chat": asked(0, 0)}))
    assert b"asked_instances{" not in generate_latest(registry)
    counted = asked(2, 4, 7)
    external = replace(counted.memory.external, there={P: 2, D: 3}, apart={D: NOW - 400})
    loop.commit(
        Changes({"chat": replace(counted, memory=replace(counted.memory, external=external))})
    )
    told = generate_latest(registry).decode()
    assert 'heteroscale_asked_instances{role="decode",service="chat"} 4.0' in told
    assert 'heteroscale_asked_generation{service="chat"} 7.0' in told
    assert 'heteroscale_unfollowed{role="decode",service="chat"} 1.0' in told
    assert 'heteroscale_unfollowed{role="prefill",service="chat"} 0.0' in told


async def test_explain_says_what_is_asked_for_and_who_does_not_follow(
    rig: Rig, decisions: DecisionLog
) -> None:
    def told() -> str:
        one = rig.loop.state.services["chat"]
        shown = service_message(one, rig.loop.state, None)
        return "\n".join(explain(one, shown, None, rig.loop.now))

    rig.commit(asked(0, 0))
    assert "others scale it (actuation.by: external): nothing is asked for yet" in told()
    counted = asked(2, 4, 7)
    external = replace(counted.memory.external, there={P: 2, D: 3}, apart={D: NOW - 400})
    rig.commit(replace(counted, memory=replace(counted.memory, external=external)))
    assert "2 prefill, 4 decode asked for, generation 7, since 15:06:40 UTC" in told()
    assert "asked for 4 decode, 3 stand for 400 s (maxReplicaCount, quota" in told()


def test_the_scaled_objects_of_the_documents_fit_the_service_beside_them(loop: TwinLoop) -> None:
    text = (reference.DOCS / "keda.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    documents = [one for block in blocks for one in yaml.safe_load_all(block)]
    (written,) = [one for one in documents if one["kind"] == "Service"]
    spec = ServiceDocument.model_validate(written).spec
    loop.commit(Changes({"chat": Service("chat", spec)}))
    roles = []
    for one in (one["spec"] for one in documents if one["kind"] == "ScaledObject"):
        (trigger,) = one["triggers"]
        found = trigger_of(trigger["metadata"], loop)
        bounds = spec.roles[found.role]
        assert (one["minReplicaCount"], one["maxReplicaCount"]) == (bounds.min, bounds.max)
        assert (trigger["type"], trigger["metricType"]) == ("external", "AverageValue")
        behavior = one["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert [behavior[way]["tolerance"] for way in ("scaleUp", "scaleDown")] == [0, 0]
        roles.append(found.role)
    assert roles == [P, D]
