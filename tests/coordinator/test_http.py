"""Metrics and health over real sockets, and clients that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from heteroscale.words import WITHIN, GpuHealth, InstanceState, Role
from heteroscale_coordinator.core import sites
from heteroscale_coordinator.core.devices import GpuFact, GpuSample, KnownDevices, NicSample
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.memory.stability import Breaker
from heteroscale_coordinator.core.model import Action, CommandState, Inventory, Service
from heteroscale_coordinator.core.placement import ClassChange
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.state import Agent
from heteroscale_coordinator.core.topology import SubgroupClass
from heteroscale_coordinator.edge.http import HttpFace, HttpLimits
from heteroscale_coordinator.edge.metrics import Metrics
from heteroscale_coordinator.edge.store.decisions import DecisionLog
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import NOW, decision, instance, inventory, order, service


@pytest.fixture
def loop() -> TwinLoop:
    return TwinLoop()


@pytest.fixture
def metrics(loop: TwinLoop) -> Metrics:
    return Metrics()


LIMITS = HttpLimits(request=0.3, response=5.0, header_bytes=4096, connections=8)


@pytest.fixture
async def port(loop: TwinLoop, metrics: Metrics) -> AsyncIterator[int]:
    face = HttpFace(loop, metrics, LIMITS)
    yield await face.start("127.0.0.1", 0)
    await face.close()


async def get(port: int, path: str, method: str = "GET", accept: str = "*/*") -> httpx.Response:
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        url = f"http://127.0.0.1:{port}{path}"
        return await client.request(method, url, headers={"accept": accept})


def series(text: str) -> Callable[..., float | None]:
    """Return a look-up of one sample by name and labels; None when there is no such series."""
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return lambda name, **labels: samples.get((f"heteroscale_{name}", frozenset(labels.items())))


def filled(loop: TwinLoop, metrics: Metrics) -> DecisionLog:
    log = DecisionLog(None)
    metrics.watch(loop, log)
    loop.populate()
    loop.commit(
        Changes(
            instances={
                "p-1": instance("p-1", Role.PREFILL),
                "d-9": instance("d-9", state=InstanceState.WITHDRAWN),
            }
        )
    )
    loop.state.agents["agent-2"].silent = True
    log.record([decision()])
    return log


async def test_metrics_tell_the_fleet_as_it_is(port: int, loop: TwinLoop, metrics: Metrics) -> None:
    filled(loop, metrics)
    answer = await get(port, "/metrics")
    value = series(answer.text)
    assert answer.headers["content-type"].startswith("text/plain")
    chat = {"service": "chat"}
    assert value("wanted_instances", **chat, role="decode") == 4
    assert value("instances", **chat, role="decode", state="in_service") == 3
    assert value("instances", **chat, role="decode", state="withdrawn") == 1
    assert value("instances", **chat, role="decode", state="lost") == 0
    assert value("ratio", **chat) == pytest.approx(1 / 3)
    assert value("demand_tokens_per_second", **chat, role="decode") == 7000
    assert value("supply_tokens_per_second", **chat, role="decode") == 8000
    assert value("signal", **chat, signal="decode_demand", unit="tokens/s") == 7000
    assert value("agents", state="connected") == 1
    assert value("agents", state="silent") == 1
    assert value("quarantined", **chat) == 0
    assert value("ready") == 1
    assert value("epoch") == 3


async def test_metrics_tell_of_flapping_and_of_launches_that_fail(
    port: int, loop: TwinLoop, metrics: Metrics
) -> None:
    filled(loop, metrics)
    loop.commit(Changes({"chat": service(rich=True)}))
    loop.state.turned_at = NOW
    value = series((await get(port, "/metrics")).text)
    chat = {"service": "chat"}
    assert value("reversals_total", **chat) == 9
    assert value("cooldown_factor", **chat, cooldown="in") == 2.0
    assert value("cooldown_factor", **chat, cooldown="out") == 1.5
    assert value("launch_failures", **chat) == 2
    assert value("launch_breakers", **chat, kind="node", state="open") == 1
    assert value("launch_breakers", **chat, kind="gpu_type", state="half_open") == 1
    assert value("unplaced_instances", **chat, role="decode") == 2
    assert value("unplaced_instances", **chat, role="prefill") == 0
    assert value("given_gpus", **chat) == 3


async def test_metrics_count_devices_over_the_fleet(
    port: int, loop: TwinLoop, metrics: Metrics
) -> None:
    filled(loop, metrics)
    sick = [GpuSample(health=GpuHealth.OK), GpuSample(health=GpuHealth.LOST)]
    for name in ("agent-1", "agent-2"):
        # agent-2 is silent: what it said is no longer known.
        agent = loop.state.agents[name]
        agent.inventory = inventory()
        agent.devices = KnownDevices(sick, [NicSample(active=True), NicSample(active=False)])
    value = series((await get(port, "/metrics")).text)
    gpus = {state: value("gpus", type="H20", state=state) for state in ("ok", "sick", "unknown")}
    ports = {state: value("rdma_ports", state=state) for state in ("active", "down", "unknown")}
    assert gpus == {"ok": 1, "sick": 1, "unknown": 2}
    assert ports == {"active": 1, "down": 1, "unknown": 2}


async def test_metrics_tell_what_is_free_and_how_much_of_it_no_whole_node_could_use(
    port: int, loop: TwinLoop, metrics: Metrics
) -> None:
    filled(loop, metrics)
    loop.state.apply(Changes(instances=dict.fromkeys(loop.state.instances)))
    for name, seen in (("agent-1", GpuSample()), ("agent-3", GpuSample(ecc_uncorrected=1))):
        agent = loop.state.agents.setdefault(name, Agent(name))
        agent.connected, agent.silent = True, False
        gpus = (GpuFact(0, "H20"), GpuFact(1, "H20"))
        agent.inventory = Inventory(gpus=gpus, topology={"s1": name})
        agent.devices = KnownDevices([seen, GpuSample()])
    unread = series((await get(port, "/metrics")).text)
    assert unread("gpus_free", type="H20") is None, "unknown is not zero"
    draft = Draft(loop.state, 0.0, str)
    sites.view(draft)
    sites.settle(draft)
    value = series((await get(port, "/metrics")).text)
    assert value("gpus_free", type="H20") == 3
    for whole in ("node", "s1"):
        share = value("gpus_free_fragmented", type="H20", whole=whole)
        assert share == pytest.approx(1 / 3)


async def test_metrics_tell_for_how_many_services_a_sub_cluster_is_left_out(
    port: int, loop: TwinLoop, metrics: Metrics
) -> None:
    filled(loop, metrics)
    value = series((await get(port, "/metrics")).text)
    assert value("sub_cluster_left_out", sub_cluster="", reason="silent") is None, "there is one"
    for name, site in (("agent-1", "east"), ("agent-2", "west")):
        agent = loop.state.agents[name]
        levels = {**agent.inventory.topology, "physical_cluster": site}
        agent.inventory = replace(agent.inventory, topology=levels)
    chat = loop.state.services["chat"]
    breakers = {"west": Breaker(3, NOW, 1, loop.state.turned_at + 60.0)}
    kept = replace(chat.memory.stability, sub_clusters=breakers)
    loop.state.services["chat"] = replace(chat, memory=replace(chat.memory, stability=kept))
    loop.state.silent_sub_clusters = {"east": "silent: 1 of 1 agents are not heard"}
    value = series((await get(port, "/metrics")).text)
    found = {
        (site, why): value("sub_cluster_left_out", sub_cluster=site, reason=why)
        for site in ("east", "west")
        for why in ("silent", "refusing")
    }
    many = len(loop.state.services)
    assert found == {
        ("east", "silent"): many,
        ("east", "refusing"): 0,
        ("west", "silent"): 0,
        ("west", "refusing"): 1,
    }


async def test_metrics_count_a_gpu_once_that_a_node_and_an_agent_within_it_tell_of(
    port: int, loop: TwinLoop, metrics: Metrics
) -> None:
    filled(loop, metrics)
    gpus = (GpuFact(0, "H20"), GpuFact(1, "H20"))
    place = {"physical_cluster": "zone-a"}
    agents = loop.state.agents
    agents.clear()
    agents["east/n0"] = Agent("east/n0", inventory=Inventory(gpus=(*gpus, GpuFact(2, "L20"))))
    agents["a-0"] = Agent(
        "a-0",
        inventory=Inventory(gpus=gpus, topology=place, labels={WITHIN: "east/n0"}),
        devices=KnownDevices((GpuSample(GpuHealth.OK), GpuSample(GpuHealth.ERROR))),
    )
    value = series((await get(port, "/metrics")).text)
    found = {
        (kind, state): value("gpus", type=kind, state=state)
        for kind in ("H20", "L20")
        for state in ("ok", "sick", "unknown")
    }
    assert found == {
        ("H20", "ok"): 1,
        ("H20", "sick"): 1,
        ("H20", "unknown"): 0,
        ("L20", "ok"): 0,
        ("L20", "sick"): 0,
        ("L20", "unknown"): 1,
    }
    assert value("sub_cluster_left_out", sub_cluster="zone-a", reason="silent") is None


async def test_metrics_count_changes_of_rdma_class_from_zero(
    port: int, loop: TwinLoop, metrics: Metrics
) -> None:
    filled(loop, metrics)
    seen = loop.state.seen
    low, high = SubgroupClass.LOW, SubgroupClass.HIGH
    changes = [ClassChange(name, low, high, ("a",)) for name in ("pod-1", "pod-2")]
    seen.note(NOW, changes)
    value = series((await get(port, "/metrics")).text)
    assert value("rdma_class_changes_total", before="low", after="high") == 0, "all is new yet"
    seen.whole = True
    seen.note(NOW, changes)
    value = series((await get(port, "/metrics")).text)
    assert value("rdma_class_changes_total", before="low", after="high") == 2
    assert value("rdma_class_changes_total", before="high", after="low") == 0
    assert value("rdma_class_changes_total", before="low", after="low") is None


async def test_a_split_prefill_has_both_its_ratios(
    port: int, loop: TwinLoop, metrics: Metrics
) -> None:
    metrics.watch(loop, DecisionLog(None))
    roles = {name: {"template": name, "max": 8} for name in ("attention", "ffn", "decode")}
    spec = ServiceSpec.model_validate({"roles": roles, "innerRatio": "3:2"})
    members = [*[Role.ATTENTION] * 3, *[Role.FFN] * 2, *[Role.DECODE] * 6]
    rows = [replace(instance(f"m-{n}"), service="moe", role=role) for n, role in enumerate(members)]
    loop.commit(Changes({"moe": Service("moe", spec)}, {row.instance_id: row for row in rows}))
    value = series((await get(port, "/metrics")).text)
    assert value("ratio", service="moe") == pytest.approx(0.5)
    assert value("inner_ratio", service="moe") == pytest.approx(1.5)


async def test_what_is_unknown_has_no_series(port: int, loop: TwinLoop, metrics: Metrics) -> None:
    filled(loop, metrics)
    loop.commit(Changes({"new": replace(service("new"), quarantine="boom")}))
    value = series((await get(port, "/metrics")).text)
    assert value("signal", service="chat", signal="decode_tbt", unit="s") is None
    assert value("ratio", service="new") is None
    assert value("inner_ratio", service="chat") is None
    assert value("demand_tokens_per_second", service="new", role="decode") is None
    assert value("quarantined", service="new") == 1


async def test_what_the_loop_tells_is_counted(port: int, metrics: Metrics) -> None:
    metrics.turn(0.004)
    metrics.commit(0.003)
    metrics.commit(0.5, failed=True)
    metrics.reports([0.0004] * 9 + [0.012, 0.05], 1)
    metrics.reports([], 0)
    metrics.reports([7.0], 0)
    advice = replace(decision("d-2", Action.SCALE_OUT), advisory=True)
    metrics.committed(Changes(commands={"c": order()}, decisions=[decision(), advice]))
    metrics.committed(Changes(commands={"c": order(state=CommandState.DONE), "old": None}))
    value = series((await get(port, "/metrics")).text)
    assert value("turn_seconds_bucket", le="0.005") == 1
    assert value("turn_seconds_bucket", le="0.0025") == 0
    assert value("store_commit_seconds_count") == 2
    assert value("store_commit_failures_total") == 1
    assert value("reports_received_total") == 13
    assert value("reports_coalesced_total") == 1
    assert value("report_delay_seconds_bucket", le="0.001") == 9
    assert value("report_delay_seconds_bucket", le="0.015") == 10
    assert value("report_delay_seconds_bucket", le="0.05") == 11
    assert value("report_delay_seconds_bucket", le="1.0") == 11
    assert value("report_delay_seconds_count") == 12
    assert value("report_delay_seconds_sum") == pytest.approx(7.0656)
    assert value("decisions_total", service="chat", action="hold", acted="yes") == 1
    assert value("decisions_total", service="chat", action="scale_out", acted="no") == 1
    assert value("commands_total", verb="withdraw", outcome="open") == 1
    assert value("commands_total", verb="withdraw", outcome="done") == 1
    metrics.committed(Changes({"chat": None}))
    value = series((await get(port, "/metrics")).text)
    assert value("decisions_total", service="chat", action="hold", acted="yes") is None


async def test_openmetrics_is_spoken_when_asked_for(port: int) -> None:
    answer = await get(port, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_readiness_says_why_not(port: int, loop: TwinLoop) -> None:
    assert (await get(port, "/readyz")).text == "ready\n"
    loop.not_ready = ("the store cannot commit: disk full",)
    answer = await get(port, "/readyz")
    assert answer.status_code == 503
    assert answer.text == "not ready: the store cannot commit: disk full\n"
    assert (await get(port, "/healthz")).status_code == 200
    loop.stuck = "another coordinator leads"
    answer = await get(port, "/healthz?verbose")
    assert answer.status_code == 503
    assert "another coordinator leads" in answer.text


async def test_other_paths_and_methods_are_refused(port: int) -> None:
    missing = await get(port, "/admin")
    assert missing.status_code == 404
    assert "/readyz" in missing.text
    assert (await get(port, "/healthz", "DELETE")).status_code == 405
    head = await get(port, "/healthz", "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == "6"


async def answered(port: int, sent: bytes) -> bytes:
    """Send, and read until the server hangs up; empty also when it cut us off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


GARBAGE = {
    "binary": (bytes(range(256)) * 8, b" 400 "),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 300, b" 400 "),
    "bad version": (b"GET / HTTP/9.9\r\nhost: x\r\n\r\n", b" 4"),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", b" 400 "),
    "two lengths": (
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b" 400 ",
    ),
    "slow drip": (b"GET /healthz HT", b""),
    "nothing": (b"", b""),
}


@pytest.mark.parametrize("case", GARBAGE)
async def test_garbage_and_slow_drip_end_with_the_connection(port: int, case: str) -> None:
    sent, expected = GARBAGE[case]
    answer = await answered(port, sent)
    assert expected in answer.partition(b"\r\n")[0] if expected else answer == b""
    assert (await get(port, "/healthz")).status_code == 200


async def test_an_endless_header_is_cut_off(port: int) -> None:
    answer = await answered(port, b"GET / HTTP/1.1\r\n" + b"x-a: b\r\n" * 5000)
    assert answer == b"" or b" 431 " in answer
    assert (await get(port, "/healthz")).status_code == 200


@pytest.fixture
def noted() -> Iterator[list[asyncio.StreamWriter]]:
    writers: list[asyncio.StreamWriter] = []
    yield writers
    for writer in writers:
        writer.close()


async def test_beyond_the_limit_connections_are_cut_until_the_idle_ones_time_out(
    port: int, noted: list[asyncio.StreamWriter]
) -> None:
    readers = []
    for _ in range(LIMITS.connections):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        noted.append(writer)
        readers.append(reader)
    assert await answered(port, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n") == b""
    for reader in readers:
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    assert (await get(port, "/healthz")).status_code == 200


async def test_closing_does_not_wait_for_idle_clients(loop: TwinLoop, metrics: Metrics) -> None:
    face = HttpFace(loop, metrics, HttpLimits(request=3600))
    port = await face.start("127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        await face.close()
    writer.close()
