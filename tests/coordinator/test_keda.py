"""KEDA's external-scaler API on loopback: exact counts, nothing instead of zero, clear refusals."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from heteroscale.channel import ChannelError, open_channel
from heteroscale.keda import externalscaler_pb2 as pb
from heteroscale.keda.externalscaler_pb2_grpc import ExternalScalerStub
from heteroscale_coordinator.config import CoordinatorSpec
from heteroscale_coordinator.core.model import Action, Decision
from heteroscale_coordinator.edge.store.decisions import DecisionLog
from tests.coordinator.face import PATIENCE
from tests.coordinator.keda import DECODE, PREFILL, D, P, Rig, ScaledObject, asked, ending, first
from tests.coordinator.test_trust import Authority
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import NOW
from tests.hpa import Hpa

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
