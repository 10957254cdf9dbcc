"""What is told of who asks for counts, and of who does not follow them; and the documents."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import yaml
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from heteroscale.keda import externalscaler_pb2 as pb
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.model import Action, Decision, Service
from heteroscale_coordinator.core.spec import ServiceDocument
from heteroscale_coordinator.edge import others
from heteroscale_coordinator.edge.explain import explain
from heteroscale_coordinator.edge.keda.trigger import trigger_of
from heteroscale_coordinator.edge.operator_wire import service_message
from heteroscale_coordinator.edge.store.decisions import DecisionLog
from tests.coordinator.face import PATIENCE
from tests.coordinator.keda import DECODE, D, P, Rig, asked
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import NOW, service
from tests.docs import reference

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
