"""Pods come, serve, are ended and go: a body, and an API server over TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from heteroscale.words import GateState, InstanceState, Outcome, Role, WithdrawReason
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.config.places import KubernetesAccess
from heteroscale_agent.discovery.pods import sightings
from heteroscale_agent.discovery.procs import Look
from heteroscale_agent.discovery.sighting import Sighting
from heteroscale_agent.probes.kube import KubernetesApi, within
from heteroscale_agent.probes.source import SourceError
from tests.agent.body_twins import drain, launch
from tests.agent.found_world import FoundWorld
from tests.agent.kube_twin import KubeTwin, kube_twin, pod

S = InstanceState
LABELS = {"heteroscale.io/service": "chat", "heteroscale.io/role": "decode"}
CHAT = "pod/serving/chat-0"


@pytest.fixture
async def twin(tmp_path: Path) -> AsyncIterator[KubeTwin]:
    async with kube_twin(tmp_path) as running:
        yield running


def world_of(twin: KubeTwin, folder: Path, cluster: str = "", **spec: Any) -> FoundWorld:
    access = {**twin.access, "cluster": cluster}
    discovery = {"kubernetes": {"every": "20ms", "timeout": "20s"}, "startupTimeout": "60s"}
    return FoundWorld(folder / "state", discovery, kubernetes=access, **spec)


@pytest.fixture
async def world(twin: KubeTwin, tmp_path: Path) -> AsyncIterator[FoundWorld]:
    running = world_of(twin, tmp_path)
    await running.body.start()
    yield running
    await running.body.close()


async def serving(twin: KubeTwin, world: FoundWorld, **more: Any) -> str:
    """Run one pod until it is in service, and return its instance's id."""
    twin.pods = [
        pod("chat-0", labels={**LABELS, "heteroscale.io/port": "8000"}, ip="10.9.9.9", **more)
    ]
    await world.until(lambda: world.found() and world.found()[CHAT].state is S.IN_SERVICE)
    return world.found()[CHAT].instance_id


async def test_a_pod_that_is_ready_is_in_service(twin: KubeTwin, world: FoundWorld) -> None:
    instance_id = await serving(twin, world)
    status = world.status(instance_id)
    assert (status.service, status.role, status.endpoint) == (
        "chat",
        Role.DECODE,
        "http://10.9.9.9:8000",
    )
    assert (status.origin, status.gate_state, status.pid) == (CHAT, GateState.OPEN, 0)
    assert world.states(instance_id) == ["in_service"]
    (target,) = world.eyes.targets
    assert (target.instance_id, target.url) == (instance_id, "http://10.9.9.9:8000/metrics")


async def test_nothing_is_ever_done_to_it(twin: KubeTwin, world: FoundWorld) -> None:
    instance_id = await serving(twin, world)
    result = await world.do(drain(), instance_id)
    assert result.outcome is Outcome.REFUSED
    assert "not for this agent to command" in result.message
    assert world.processes.terminated == []


async def test_its_life(twin: KubeTwin, world: FoundWorld) -> None:
    twin.pods = [pod("chat-0", labels=LABELS, ready=False)]
    await world.until(world.found)
    instance_id = world.found()[CHAT].instance_id
    assert world.status(instance_id).state is S.WARMING
    life: list[tuple[dict[str, Any], InstanceState]] = [
        ({"ready": True}, S.IN_SERVICE),
        ({"ready": False}, S.WITHDRAWN),
        ({"ready": True}, S.IN_SERVICE),
        ({"ready": False, "leaving": True}, S.DRAINING),
        ({"ready": False}, S.WITHDRAWN),
        ({"ready": False, "leaving": True}, S.DRAINING),
    ]
    for changes, state in life:
        twin.pods = [pod("chat-0", labels=LABELS, **changes)]
        await world.until_state(instance_id, state)
    assert world.status(instance_id).gate_state is GateState.CLOSED
    twin.pods = []
    await world.until(lambda: world.status(instance_id).state is S.TERMINATED)
    assert world.status(instance_id).message == "its pod is gone"
    assert world.states(instance_id) == [
        *("warming", "in_service", "withdrawn", "in_service", "draining"),
        *("withdrawn", "draining", "terminated"),
    ]


async def test_one_that_never_gets_ready_is_no_supply_for_ever(
    twin: KubeTwin, world: FoundWorld
) -> None:
    twin.pods = [pod("chat-0", labels=LABELS, ready=False)]
    await world.until(world.found)
    world.clock.now += 61
    await world.until(lambda: world.found()[CHAT].state is S.WITHDRAWN)
    assert world.found()[CHAT].withdraw_reason is WithdrawReason.SICK
    assert world.found()[CHAT].message == f"{CHAT} is not ready"


async def test_a_source_that_fails_keeps_what_it_had(twin: KubeTwin, world: FoundWorld) -> None:
    instance_id = await serving(twin, world)
    twin.failing = web.Response(status=500)
    await world.until(lambda: "no word of its pod" in world.status(instance_id).message)
    assert world.status(instance_id).state is S.IN_SERVICE
    twin.failing = None
    await world.until(lambda: "no word" not in world.status(instance_id).message)
    assert world.states(instance_id) == ["in_service"], "no alarms for a failing API server"


async def test_an_agents_restart_loses_nothing(twin: KubeTwin, world: FoundWorld) -> None:
    instance_id = await serving(twin, world)
    generation = world.status(instance_id).generation
    twin.failing = web.Response(status=500)
    await world.restart()
    status = world.status(instance_id)  # before any source has answered: the first hello
    assert (status.state, status.generation) == (S.IN_SERVICE, generation)
    asked = len(twin.requests)
    await world.until(lambda: len(twin.requests) > asked + 2)
    assert world.status(instance_id).state is S.IN_SERVICE
    twin.failing, twin.pods = None, []
    await world.until(lambda: world.status(instance_id).state is S.TERMINATED)


async def test_a_port_that_only_its_process_tells_is_waited_for(
    twin: KubeTwin, tmp_path: Path
) -> None:
    world = world_of(twin, tmp_path)
    finder, uid = world.body._finder, "00000000-0000-4000-8000-000000000001"
    seen = Sighting(f"pod:{uid}", CHAT, host="10.9.9.9", service="chat", ready=True)
    assert finder._pods is not None
    finder._pods.answer = [seen]
    await finder.step()
    assert world.found() == {}, "another port would be another instance"
    finder._processes.answer = Look((replace(seen, origin="pod/x", port=9000, pid=4242),))
    await finder.step()
    assert world.found()[CHAT].endpoint == "http://10.9.9.9:9000"
    assert world.ended() == []
    await world.body.close()


async def test_switched_off_discovery_ends_what_it_found(twin: KubeTwin, world: FoundWorld) -> None:
    instance_id = await serving(twin, world)
    world.spec = AgentSpec.model_validate({**world.spec.model_dump(), "discovery": {}})
    await world.restart()
    assert world.status(instance_id).state is S.TERMINATED


async def test_one_that_loses_its_label_and_gets_it_back(twin: KubeTwin, world: FoundWorld) -> None:
    first = await serving(twin, world, uid="u-1")
    twin.pods = [pod("chat-0", uid="u-1")]
    await world.until(world.ended)
    second = await serving(twin, world, uid="u-1")
    assert second == f"{first}_2", "an id that has ended is never used again"
    await world.passes(5)
    assert world.found()[CHAT].instance_id == second


async def test_a_pod_of_another_service_is_another_instance(
    twin: KubeTwin, world: FoundWorld
) -> None:
    first = await serving(twin, world, uid="u-1")
    labels = {**LABELS, "heteroscale.io/service": "mail", "heteroscale.io/port": "8000"}
    twin.pods = [pod("chat-0", labels=labels, ip="10.9.9.9", uid="u-1")]
    await world.until(lambda: world.ended() and world.found())
    assert world.found()[CHAT].service == "mail"
    assert [one.instance_id for one in world.ended()] == [first]


async def test_whose_gpus_are_not_known_keeps_others_from_starting(
    twin: KubeTwin, world: FoundWorld
) -> None:
    await serving(twin, world)
    refused = await world.do(launch(), "mine")
    assert refused.outcome is Outcome.REFUSED
    assert "pod-" in refused.message
    twin.pods = []
    await world.until(world.ended)
    assert (await world.do(launch(), "mine-2")).outcome is Outcome.DONE


async def test_what_the_configuration_names_is_not_found_twice(
    twin: KubeTwin, tmp_path: Path
) -> None:
    engine = {"instanceId": "named", "service": "chat", "role": "decode"}
    engines = [{**engine, "endpoint": "http://10.9.9.9:8000"}]
    world = world_of(twin, tmp_path, engines=engines)
    await world.body.start()
    labels = {**LABELS, "heteroscale.io/port": "8000"}
    twin.pods = [
        pod("chat-0", labels=labels, ip="10.9.9.9"),
        pod("chat-1", labels=labels, ip="10.9.9.8"),
    ]
    await world.until(world.found)
    assert list(world.found()) == ["pod/serving/chat-1"]
    await world.body.close()


async def test_only_this_nodes_pods_page_by_page(twin: KubeTwin) -> None:
    twin.pods = [pod(f"p-{n}", labels=LABELS, uid=f"u-{n}") for n in range(120)]
    twin.pods.append(pod("elsewhere", labels=LABELS, node="node-2"))
    twin.pods.append(pod("other", labels=LABELS, namespace="other", uid="u-other"))
    document = {
        "coordinator": "127.0.0.1:1",
        "kubernetes": twin.access,
        "discovery": {"kubernetes": {"namespace": "serving", "timeout": "20s"}},
    }
    spec = AgentSpec.model_validate(document)
    api, wanted = KubernetesApi(spec.kubernetes, {}), spec.discovery.kubernetes
    assert wanted is not None
    found = await sightings(api, wanted)
    assert [one.owner for one in found] == [f"pod:u-{n}" for n in range(120)]
    assert len(twin.requests) == 3
    selector = "heteroscale.io/service=mail"
    assert await sightings(api, wanted.model_copy(update={"selector": selector})) == []
    twin.hangs = True
    with pytest.raises(SourceError, match="within"):
        await sightings(api, wanted.model_copy(update={"timeout": 0.05}))
    api.close()


BOUND = {**LABELS, "heteroscale.io/port": "8000", "heteroscale.io/instance": "i-short"}


async def test_of_a_pod_that_an_adapter_launched_nothing_is_told_it_is_measured(
    twin: KubeTwin, world: FoundWorld
) -> None:
    whole = {"heteroscale.io/instance": "i-the-whole-name"}
    twin.pods = [
        pod("chat-0", labels=BOUND, ip="10.9.9.9"),
        pod("chat-1", labels=BOUND, annotations=whole, ip="10.9.9.8"),
        pod("chat-2", labels={**BOUND, "heteroscale.io/rank": "1"}, ip="10.9.9.7"),
    ]
    await world.until(lambda: world.eyes.targets)
    assert {(one.instance_id, one.url) for one in world.eyes.targets} == {
        ("i-short", "http://10.9.9.9:8000/metrics"),
        ("i-the-whole-name", "http://10.9.9.8:8000/metrics"),
    }
    assert world.body.statuses() == []
    twin.pods = []
    await world.until(lambda: not world.eyes.targets)


async def test_in_a_cluster_that_an_adapter_drives_every_pod_is_the_adapters(
    twin: KubeTwin, tmp_path: Path
) -> None:
    world = world_of(twin, tmp_path)
    await world.body.start()
    await serving(twin, world)
    await world.body.close()
    world = world_of(twin, tmp_path, "east")
    await world.body.start()
    labels = {**LABELS, "heteroscale.io/port": "8000"}
    twin.pods = [pod("chat-0", labels=labels, ip="10.9.9.9", uid="u-1")]
    await world.until(world.ended)  # what it told of before, it tells of no more
    assert world.found() == {}
    assert [one.instance_id for one in world.eyes.targets] == ["pod-u-1"]
    await world.body.close()


async def test_a_process_of_a_pod_waits_until_its_pod_is_told(
    twin: KubeTwin, tmp_path: Path
) -> None:
    world = world_of(twin, tmp_path, "east")
    await world.body.start()
    seen = Sighting("pod:u-9", "process/9", "10.9.9.9", 8000, "chat", Role.DECODE)
    finder = world.body._finder
    finder._processes.answer = Look((seen,))
    assert finder.engines() == []
    finder._processes.answer = Look((replace(seen, owner="pid:9.1"),))
    assert [one.seen.origin for one in finder.engines()] == ["process/9"]
    await world.body.close()


def test_an_agent_says_in_which_node_of_an_adapters_cluster_it_stands() -> None:
    assert within(KubernetesAccess(), {"NODE_NAME": "n1"}) == {}
    said = within(KubernetesAccess(cluster="east"), {"NODE_NAME": "n1"})
    assert said == {"heteroscale.io/within": "east/n1"}
