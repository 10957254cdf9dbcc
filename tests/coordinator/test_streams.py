"""What an agent's stream may and may not do: hello, rivals, garbage, size, silence, admission."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from heteroscale.taints import parse_taint
from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale_coordinator.core.devices import GpuFact
from heteroscale_coordinator.core.events import (
    AgentConnected,
    AgentDisconnected,
    InventoryLearned,
    RankChanged,
    ReportReceived,
)
from heteroscale_coordinator.core.model import Inventory
from heteroscale_coordinator.edge.admission import Admission
from heteroscale_coordinator.edge.service import MAX_REPORT_BYTES
from heteroscale_coordinator.edge.session import Limits
from heteroscale_coordinator.edge.store.memory import MemoryStore
from tests.coordinator.face import Clock, face, hello
from tests.coordinator.http2 import data_frame, raw_call

CODE = grpc.StatusCode


def inventory(inventory_hash: str = "h1") -> agent_pb2.Inventory:
    return agent_pb2.Inventory(
        inventory_hash=inventory_hash, gpus=[agent_pb2.Gpu(index=0, type="H20")]
    )


async def test_hello_is_welcomed_with_epoch_time_interval_and_a_wish_for_the_inventory() -> None:
    async with face() as it, it.agent(hello(advertise_host="10.0.0.7")) as agent:
        welcome = agent.welcome
        assert (welcome.cluster_id, welcome.epoch, welcome.coordinator_id) == ("main", 1, "c1")
        assert welcome.server_time.seconds == 1_000_000
        assert welcome.report_interval.seconds == 5
        assert welcome.inventory_wanted
        connected = await it.script.see(AgentConnected)
        assert (connected.agent_id, connected.hostname) == ("a1", "host-1")
        assert connected.advertise_host == "10.0.0.7"


async def test_a_known_inventory_is_not_asked_for_again_and_is_told_before_the_agent() -> None:
    async with face() as it:
        async with it.agent(hello()) as agent:
            assert (await agent.send(inventory=inventory())) == 2
            await it.script.see(InventoryLearned)
            await agent.read_kind("ack")
        await it.script.see(AgentDisconnected)
        async with it.agent(hello(process="t2", incarnation=2)) as agent:
            assert not agent.welcome.inventory_wanted
            learned = await it.script.see(InventoryLearned)
            assert learned.inventory.gpus[0].type == "H20"
            await it.script.see(AgentConnected)
    async with face(store=it.store) as again, again.agent(hello()) as agent:
        assert not agent.welcome.inventory_wanted, "a restarted coordinator reads it from its store"


async def test_an_inventory_of_which_an_older_coordinator_read_less_is_asked_for_anew() -> None:
    """Its hash is right, but what stands in the store lacks what the older one did not know of."""
    whole = agent_pb2.Inventory(
        inventory_hash="h1",
        gpus=[agent_pb2.Gpu(index=0, type="H20", numa_node=1, nvlink_group=3)],
        taints=["dedicated=train:NoSchedule", "of a newer version"],
    )
    store = MemoryStore()
    store.save_inventory("a1", Inventory("h1", (GpuFact(0, "H20"),)))
    async with face(store=store) as it, it.agent(hello()) as agent:
        assert agent.welcome.inventory_wanted
        await agent.send(inventory=whole)
        learned = await it.script.see(InventoryLearned)
        (gpu,) = learned.inventory.gpus
        assert (gpu.numa_node, gpu.nvlink_group) == (1, 3)
        assert learned.inventory.taints == (parse_taint("dedicated=train:NoSchedule"),)
        await agent.read_kind("ack")
    async with face(store=it.store) as again, again.agent(hello()) as agent:
        assert not agent.welcome.inventory_wanted
        kept = await again.script.see(InventoryLearned)
        assert kept.inventory == learned.inventory, "all of it outlives a restart"


async def test_first_message_must_be_a_hello() -> None:
    async with face() as it, it.agent() as agent:
        await agent.send(report=agent_pb2.Report())
        assert await agent.status() == (
            CODE.INVALID_ARGUMENT,
            "the first message must be a hello",
        )


async def test_no_hello_in_time_ends_the_stream() -> None:
    async with face(limits=Limits(hello=0.05)) as it, it.agent() as agent:
        code, text = await agent.status()
        assert code is CODE.DEADLINE_EXCEEDED
        assert "no hello within 0.05 s" in text


async def test_a_stream_closed_before_its_hello_is_told_so() -> None:
    async with face() as it, it.agent() as agent:
        await agent.call.done_writing()
        assert (await agent.status())[0] is CODE.INVALID_ARGUMENT


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64])
@pytest.mark.parametrize("greeted", [True, False])
async def test_garbage_ends_that_stream_only(raw: bytes, greeted: bool) -> None:
    async with face() as it, it.agent(hello("good")) as good:
        async with it.agent(hello("bad") if greeted else None) as bad:
            await bad.send_bytes(raw)
            assert (await bad.status())[0] is CODE.INVALID_ARGUMENT
        sequence = await good.send(report=agent_pb2.Report())
        while (seen := await it.script.see(ReportReceived)).agent_id != "good":
            pass
        assert seen.sequence == sequence


async def test_a_message_above_the_channels_limit_ends_that_stream_only() -> None:
    async with face() as it, it.agent(hello("good")) as good, it.agent(hello("bad")) as bad:
        await bad.send_bytes(bytes(5 * 1024 * 1024))
        assert (await bad.status())[0] is CODE.RESOURCE_EXHAUSTED
        await good.send(report=agent_pb2.Report())
        await it.script.see(ReportReceived)


async def test_an_oversized_report_ends_the_stream() -> None:
    async with face() as it, it.agent(hello()) as agent:
        engine = agent_pb2.EngineReading(instance_id="x" * MAX_REPORT_BYTES)
        await agent.send(report=agent_pb2.Report(engines=[engine]))
        code, text = await agent.status()
        assert code is CODE.INVALID_ARGUMENT
        assert "a report of" in text


async def test_messages_of_a_newer_agent_are_passed_over() -> None:
    async with face() as it, it.agent(hello()) as agent:
        # Field 15 of a newer protocol, and an event that names no state we know.
        await agent.send_bytes(
            agent_pb2.ConnectRequest(sequence=2).SerializeToString() + b"\x7a\x00"
        )
        agent.sequence = 2
        status = types_pb2.InstanceStatus(instance_id="i-1", role=types_pb2.ROLE_PREFILL)
        status.MergeFromString(b"\x38\x63")
        await agent.send(instance_event=agent_pb2.InstanceEvent(status=status))
        await agent.send(report=agent_pb2.Report())
        await it.script.see(ReportReceived)
        assert it.service.counts.dropped == 2
        assert not [event for event in it.script.events if isinstance(event, RankChanged)]


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"agent_id": ""}, CODE.INVALID_ARGUMENT, "agent id"),
        ({"agent_id": "a b"}, CODE.INVALID_ARGUMENT, "agent id"),
        ({"agent_id": "x" * 300}, CODE.INVALID_ARGUMENT, "agent id"),
        ({"process": ""}, CODE.INVALID_ARGUMENT, "process token"),
        ({"cluster_id": "other"}, CODE.FAILED_PRECONDITION, "this is cluster 'main'"),
        ({"highest_epoch": 1 << 60}, CODE.INVALID_ARGUMENT, "epoch"),
    ],
)
async def test_hellos_that_are_refused(fields: dict[str, Any], code: CODE, words: str) -> None:
    async with face() as it, it.agent() as agent:
        await agent.send(hello=hello(**{"agent_id": "a1", **fields}))
        got, text = await agent.status()
        assert got is code
        assert words in text
        assert it.service.counts.refused == {code.name: 1}


async def test_a_second_hello_is_refused() -> None:
    async with face() as it, it.agent(hello()) as agent:
        await agent.send(hello=hello())
        assert (await agent.status())[0] is CODE.INVALID_ARGUMENT


async def test_a_second_live_process_of_one_id_is_refused_and_the_first_stays() -> None:
    async with face() as it, it.agent(hello(hostname="first-host")) as first:
        it.clock.now += 4.0
        async with it.agent() as second:
            await second.send(hello=hello(process="t2", hostname="copy", incarnation=2))
            code, text = await second.status()
        assert code is CODE.ALREADY_EXISTS
        assert "'a1'" in text
        assert "'first-host'" in text
        assert "last heard 4.0 s ago" in text
        await first.send(report=agent_pb2.Report())
        await it.script.see(ReportReceived)


async def test_a_silent_stream_gives_way_to_a_new_process() -> None:
    async with face() as it, it.agent(hello()) as first:
        it.clock.now += 10.5
        async with it.agent(hello(process="t2", incarnation=2)) as second:
            code, text = await first.status()
            assert code is CODE.ABORTED
            assert "took over" in text
            await second.send(report=agent_pb2.Report())
            assert (await it.script.see(ReportReceived)).incarnation == 2
        left = await it.script.see(AgentDisconnected)
        assert left.incarnation == 2, "the replaced stream is no disconnection"


async def test_the_same_process_replaces_its_own_stream_at_once() -> None:
    async with face() as it, it.agent(hello()) as first, it.agent(hello()) as second:
        assert (await first.status())[0] is CODE.ABORTED
        await second.send(report=agent_pb2.Report())
        await it.script.see(ReportReceived)
        assert len(it.sessions) == 1


@pytest.mark.parametrize("alive", [True, False])
async def test_a_lower_incarnation_is_refused(alive: bool) -> None:
    async with face() as it:
        async with it.agent(hello(incarnation=7)):
            await it.script.see(AgentConnected)
            if alive:
                it.clock.now += 60.0
                async with it.agent() as old:
                    await old.send(hello=hello(incarnation=6, process="t0"))
                    assert (await old.status())[0] is CODE.FAILED_PRECONDITION
        await it.script.see(AgentDisconnected)
        async with it.agent() as old:
            await old.send(hello=hello(incarnation=6, process="t0"))
            code, text = await old.status()
        assert code is CODE.FAILED_PRECONDITION
        assert "incarnation 6, but 7 has been heard" in text


async def test_old_incarnations_are_forgotten_after_a_while() -> None:
    async with face() as it:
        async with it.agent(hello(incarnation=7)):
            await it.script.see(AgentConnected)
        await it.script.see(AgentDisconnected)
        it.clock.now += 4000.0
        it.service.sweep()
        async with it.agent(hello(incarnation=1, process="new")) as agent:
            assert agent.welcome.epoch == 1


async def test_idle_streams_are_ended_and_busy_ones_are_not() -> None:
    async with (
        face(limits=Limits(idle=60.0, stuck=1e9)) as it,
        it.agent(hello("idle")) as idle,
        it.agent(hello("busy")) as busy,
    ):
        await it.script.see(AgentConnected)
        await it.script.see(AgentConnected)
        it.pass_time(40)
        await busy.send(report=agent_pb2.Report())
        await it.script.see(ReportReceived)
        it.pass_time(21)
        code, text = await idle.status()
        assert code is CODE.DEADLINE_EXCEEDED
        assert "no whole message for 61 s" in text
        assert it.sessions.get("busy") is not None


async def test_our_own_absence_is_not_held_against_agents() -> None:
    async with face(limits=Limits(idle=60.0, stuck=1e9)) as it, it.agent(hello()) as agent:
        await it.script.see(AgentConnected)
        it.clock.now += 20_000.0  # stopped and continued: the sweep finds that it was away itself
        it.service.sweep()
        await agent.send(report=agent_pb2.Report())
        await it.script.see(ReportReceived)


async def test_a_dripped_message_does_not_count_as_heard() -> None:
    """A frame that never ends keeps its connection open for ever, if nobody minds."""
    async with face(limits=Limits(idle=60.0, stuck=1e9)) as it:
        _, writer = await asyncio.open_connection(*it.address.split(":"))
        writer.write(raw_call(hello("drip")))
        await writer.drain()
        await it.script.see(AgentConnected)
        for _ in range(61):
            writer.write(data_frame(1, b"\x00"))  # one more byte of a message of 65,536
            await writer.drain()
            it.pass_time(1)
        assert "no whole message for 61 s" in (await it.script.see(AgentDisconnected)).why
        writer.close()
        await writer.wait_closed()


async def test_hellos_beyond_the_rate_wait_in_line() -> None:
    clock, slept = Clock(), list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    line = Admission(10.0, 2, clock, sleep)
    async with face(admission=line) as it:
        for number in range(5):
            async with it.agent(hello(f"a{number}")) as agent:
                assert agent.welcome.epoch == 1
    assert slept == pytest.approx([0.1, 0.2, 0.3])


async def test_admission_saves_up_no_more_than_its_burst() -> None:
    clock, slept = Clock(), list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    line = Admission(10.0, 2, clock, sleep)
    clock.now += 1_000.0
    waits = [await line.enter() for _ in range(4)]
    assert waits == pytest.approx([0.0, 0.0, 0.1, 0.2])


async def test_an_agent_that_leaves_the_line_is_forgotten() -> None:
    async def never(_seconds: float) -> None:
        await asyncio.Event().wait()

    clock = Clock()
    async with face(admission=Admission(1.0, 1, clock, never)) as it, it.agent(hello("first")):
        async with it.agent() as second:
            second.call.cancel()
        assert len(it.sessions) == 1
