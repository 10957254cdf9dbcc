"""Nothing is acknowledged before its commit."""

from __future__ import annotations

import asyncio

from heteroscale.v1 import agent_pb2
from heteroscale.words import Outcome
from heteroscale_coordinator.core.events import (
    AgentConnected,
    CommandAnswered,
    RankChanged,
    ReportReceived,
)
from tests.coordinator.face import Script, face, hello, result, until
from tests.coordinator.scripts import (
    SlowStore,
    event,
    store_each_fact,
)


async def test_events_are_acknowledged_after_their_commit_only() -> None:
    store = SlowStore()
    async with face(Script(store_each_fact), store=store) as it, it.agent(hello()) as agent:
        assert (await agent.read_kind("ack")).sequence == 1
        store.go.clear()
        sequence = await agent.send(instance_event=event())
        await it.script.see(RankChanged)
        read = asyncio.create_task(agent.read_kind("ack"))
        await agent.send(report=agent_pb2.Report())
        done, _ = await asyncio.wait({read}, timeout=0.05)
        assert not done, "acknowledged before the commit"
        assert "i-1" not in it.store.load().instances
        store.go.set()
        async with asyncio.timeout(10):
            ack = await read
        assert ack.sequence >= sequence
        assert "i-1" in it.store.load().instances


async def test_a_later_report_does_not_acknowledge_an_event_that_waits() -> None:
    store = SlowStore()
    async with face(Script(store_each_fact), store=store) as it, it.agent(hello()) as agent:
        await agent.read_kind("ack")
        store.go.clear()
        waiting = await agent.send(instance_event=event())
        last = 0
        for _ in range(50):
            last = await agent.send(report=agent_pb2.Report())
        session = it.sessions.get("a1")
        assert session is not None
        await until(lambda: session._sequence >= last)
        # Everything before the event may be said; nothing from it on.
        assert (session._next() or agent_pb2.ConnectResponse()).ack.sequence < waiting
        store.go.set()
        async with asyncio.timeout(10):
            while (await agent.read_kind("ack")).sequence < last:
                pass


async def test_reports_are_acknowledged_by_the_score() -> None:
    async with face() as it, it.agent(hello()) as agent:
        assert (await agent.read_kind("ack")).sequence == 1
        for _ in range(40):
            await agent.send(report=agent_pb2.Report())
            await it.script.see(ReportReceived)
        assert [(await agent.read_kind("ack")).sequence for _ in range(2)] == [21, 41]


async def test_a_flood_of_reports_is_acknowledged_by_the_score_too() -> None:
    async with face() as it, it.agent(hello()) as agent:
        last = 0
        for _ in range(400):
            last = await agent.send(report=agent_pb2.Report())
        acks = [(await agent.read_kind("ack")).sequence]
        while acks[-1] < last:
            acks.append((await agent.read_kind("ack")).sequence)
            if len(acks) == 20:  # 400 reports; the last ones may wait for their score
                break
        assert len(acks) <= 21
        assert acks[-1] > last - 40


async def test_results_of_a_hello_become_answers_behind_it() -> None:
    results = [
        result("cmd-9", 1),
        result("cmd-8", 99),
        result("cmd-7", 4),
    ]
    async with face() as it, it.agent(hello(unacknowledged_results=results)) as agent:
        assert (await agent.read_kind("ack")).sequence == 1
        kinds = [type(one) for one in it.script.events]
        assert kinds == [AgentConnected, CommandAnswered, CommandAnswered]
        outcomes = [one.outcome for one in it.script.events if isinstance(one, CommandAnswered)]
        assert outcomes == [Outcome.DONE, Outcome.UNKNOWN]
