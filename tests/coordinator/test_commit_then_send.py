"""Nothing leaves before its commit: acknowledgements, commands, epochs; and what a failing store does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace

import grpc
import pytest

from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale.words import InstanceState, Outcome, Role
from heteroscale_coordinator.core.events import (
    AgentConnected,
    AgentDisconnected,
    Answer,
    Changes,
    CommandAnswered,
    Event,
    PauseService,
    RankChanged,
    RenewLeases,
    ReportReceived,
)
from heteroscale_coordinator.core.model import Command, CommandState, Rank, Verb
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.answers import LoopUnavailableError
from heteroscale_coordinator.edge.session import MAX_COMMANDS, Limits
from heteroscale_coordinator.edge.store.memory import Backing, MemoryStore
from heteroscale_coordinator.edge.store.port import StoreConflictError, StoreError
from tests.coordinator import values
from tests.coordinator.face import START, Script, face, hello, result, until
from tests.coordinator.http2 import raw_call

CODE = grpc.StatusCode
FULL = StoreError("disk full")


def event(instance_id: str = "i-1", generation: int = 1) -> agent_pb2.InstanceEvent:
    status = types_pb2.InstanceStatus(
        instance_id=instance_id,
        service="chat",
        role=types_pb2.ROLE_DECODE,
        state=types_pb2.INSTANCE_STATE_IN_SERVICE,
        generation=generation,
    )
    return agent_pb2.InstanceEvent(status=status, cause="cmd-1")


def store_each_fact(state: State, events: Sequence[Event], now: float) -> Changes:
    """Write a row for each fact, and issue nothing."""
    changes = Changes()
    for one in events:
        if isinstance(one, RankChanged):
            row = values.instance(one.fact.instance_id, agent=one.agent_id)
            changes.instances[row.instance_id] = replace(row, generation=one.fact.generation)
    return changes


def order(command_id: str = "cmd-1", agent_id: str = "a1", verb: Verb = Verb.LAUNCH) -> Command:
    return Command(command_id, verb, agent_id, "i-1", "chat", "dec-1", 0, START, START + 60.0)


def launching(*orders: Command) -> Script:
    """A step that issues ``orders`` when a wish comes."""

    def answer(state: State, events: Sequence[Event], now: float) -> Changes:
        changes = Changes()
        for one in events:
            if isinstance(one, PauseService):
                changes.services["chat"] = values.service("chat")
                row = values.instance("i-1", Role.PREFILL, InstanceState.PENDING)
                rank = Rank("a1", (2, 3), InstanceState.PENDING)
                changes.instances["i-1"] = replace(row, ranks=(rank,), template="chat-prefill")
                changes.commands |= {one.command_id: one for one in orders}
                changes.effects.append(Answer(one.request_id))
            if isinstance(one, CommandAnswered):
                known = state.commands[one.command_id]
                changes.commands[one.command_id] = replace(known, state=CommandState.DONE)
        return changes

    return Script(answer)


WISH = PauseService("req-1", "chat", "")


class SlowStore(MemoryStore):
    """Commits when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def commit(self, changes: Changes, now: float) -> None:
        self.asked.set()
        assert self.go.wait(10.0)
        super().commit(changes, now)


# ---- acknowledgements --------------------------------------------------------------------------


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


# ---- commands ----------------------------------------------------------------------------------


async def test_a_command_leaves_after_its_commit_with_everything_the_agent_needs() -> None:
    async with face(launching(order())) as it, it.agent(hello(highest_epoch=4)) as agent:
        assert agent.welcome.epoch == 5
        assert (await it.loop.submit(WISH)).error == ""
        command = await agent.read_kind("command")
        assert it.store.load().commands["cmd-1"].state is CommandState.OPEN
        assert (command.command_id, command.cause, command.epoch) == ("cmd-1", "dec-1", 5)
        assert command.server_time.seconds == START
        assert command.deadline.seconds == 60
        launch = command.launch
        assert (launch.service, launch.template, launch.role) == ("chat", "chat-prefill", 1)
        assert list(launch.gpu_indices) == [2, 3]
        assert launch.gate.kind == "sglang-router"
        assert list(launch.gate.routers) == ["http://10.0.0.1:30000"]
        assert launch.startup_timeout.seconds == 600


async def test_nothing_is_sent_when_the_commit_fails_and_the_wish_is_refused() -> None:
    store = MemoryStore()
    async with face(launching(order()), store=store) as it, it.agent(hello()) as agent:
        await agent.read_kind("ack")
        store.fail("commit", FULL)
        with pytest.raises(LoopUnavailableError, match="disk full"):
            await it.loop.submit(WISH)
        assert it.loop.status().not_ready == ("the store cannot commit: disk full",)
        assert it.loop.state.commands == {}
        session = it.sessions.get("a1")
        assert session is not None
        assert not session._commands
        with pytest.raises(LoopUnavailableError, match="disk full"):
            await it.loop.submit(WISH)
        store.heal()
        await until(lambda: not it.loop.status().not_ready)
        await it.loop.submit(WISH)
        assert (await agent.read_kind("command")).command_id == "cmd-1"


async def test_events_outlive_a_failing_store_and_reports_do_not_pile_up() -> None:
    store = MemoryStore()
    async with face(Script(store_each_fact), store=store) as it, it.agent(hello()) as agent:
        await agent.read_kind("ack")
        store.fail("commit", FULL, times=3)
        first = await agent.send(instance_event=event("i-1"))
        second = await agent.send(instance_event=event("i-2"))
        async with asyncio.timeout(10):
            while (await agent.read_kind("ack")).sequence < second:
                pass
        assert first < second
        assert set(it.store.load().instances) == {"i-1", "i-2"}
        assert it.loop.status().not_ready == ()


async def test_open_commands_are_sent_again_to_an_agent_that_comes_back() -> None:
    async with face(launching(order())) as it:
        await it.loop.submit(WISH)
        async with it.agent(hello()) as agent:
            assert (await agent.read_kind("command")).command_id == "cmd-1"
        it.clock.now += 20.0
        async with it.agent(hello()) as agent:
            command = await agent.read_kind("command")
            assert command.command_id == "cmd-1"
            assert command.deadline.seconds == 40
            sequence = await agent.send(command_result=result("cmd-1", 1))
            async with asyncio.timeout(10):
                while (await agent.read_kind("ack")).sequence < sequence:
                    pass
        async with it.agent(hello()) as agent:
            assert (await agent.read()).WhichOneof("body") == "ack", "answered: not sent again"


async def test_expired_commands_are_not_sent_again() -> None:
    async with face(launching(order())) as it:
        await it.loop.submit(WISH)
        it.clock.now += 61.0
        async with it.agent(hello()) as agent:
            assert (await agent.read()).WhichOneof("body") == "ack"


async def test_a_restarted_coordinator_sends_what_its_forerunner_left_open() -> None:
    backing = Backing()
    async with face(launching(order()), store=MemoryStore(backing)) as it:
        await it.loop.submit(WISH)
    async with face(store=MemoryStore(backing)) as again, again.agent(hello()) as agent:
        command = await agent.read_kind("command")
        assert (command.command_id, command.epoch) == ("cmd-1", 2)


async def test_commands_keep_their_order() -> None:
    orders = [order(f"cmd-{n}", verb=Verb.TERMINATE) for n in range(100)]
    async with face(launching(*orders)) as it, it.agent(hello()) as agent:
        await it.loop.submit(WISH)
        got = [(await agent.read_kind("command")).command_id for _ in range(100)]
        assert got == [one.command_id for one in orders]


async def test_an_agent_that_does_not_read_loses_its_stream_and_gets_its_commands_later() -> None:
    many = [order(f"cmd-{n}") for n in range(300)]
    async with face(launching(*many), limits=Limits(stuck=30.0, idle=1e6)) as it:
        _, writer = await asyncio.open_connection(*it.address.split(":"))
        writer.write(raw_call(hello()))
        await it.script.see(AgentConnected)
        await it.loop.submit(WISH)
        session = it.sessions.get("a1")
        assert session is not None
        # 64 KB, the least of HTTP/2's windows, are full of what nobody reads.
        await until(lambda: session.writing_since is not None and len(session._commands) < 250)
        it.pass_time(31)
        assert (await it.script.see(AgentDisconnected)).why == "the agent does not read"
        writer.close()
        async with it.agent(hello(process="t2")) as agent:
            got = {(await agent.read_kind("command")).command_id for _ in many}
            assert got == {one.command_id for one in many}


async def test_more_commands_than_a_stream_may_hold_end_it() -> None:
    many = [order(f"cmd-{n}") for n in range(MAX_COMMANDS + 300)]
    async with face(launching(*many), limits=Limits(idle=1e6)) as it:
        _, writer = await asyncio.open_connection(*it.address.split(":"))
        writer.write(raw_call(hello()))
        await it.script.see(AgentConnected)
        await it.loop.submit(WISH)
        assert (
            await it.script.see(AgentDisconnected)
        ).why == "the agent does not read its commands"
        writer.close()


# ---- epochs ------------------------------------------------------------------------------------


async def test_an_epoch_above_the_highest_heard_is_committed_before_the_welcome() -> None:
    store = MemoryStore()
    async with face(store=store) as it:
        assert store.load().epoch == it.loop.epoch == 1
        async with it.agent(hello("a1", highest_epoch=1)) as agent:
            # 1 is ours, but a1 cannot have it from us: another coordinator led with it.
            assert agent.welcome.epoch == 2
        async with it.agent(hello("a1", highest_epoch=2)) as agent:
            assert agent.welcome.epoch == 2, "our own: no need of a higher one"
        async with it.agent(hello("a2", highest_epoch=41)) as agent:
            assert agent.welcome.epoch == 42
            assert store.load().epoch == 42
        async with it.agent(hello("a3", highest_epoch=7)) as agent:
            assert agent.welcome.epoch == 42


async def test_agents_that_hear_a_raised_epoch_with_their_commands_do_not_raise_it_again() -> None:
    async with (
        face() as it,
        it.agent(hello("a1")),
        it.agent(hello("a2", highest_epoch=41)),
        it.agent(hello("a1", highest_epoch=42)) as again,
    ):
        assert again.welcome.epoch == 42


async def test_an_epoch_that_cannot_be_committed_is_not_led_with() -> None:
    store = MemoryStore()
    async with face(store=store) as it:
        store.fail("set_epoch", FULL)
        async with it.agent() as agent:
            await agent.send(hello=hello(highest_epoch=9))
            code, text = await agent.status()
        assert code is CODE.UNAVAILABLE
        assert "disk full" in text
        assert it.loop.epoch == 1
        async with it.agent(hello("a2")) as agent:
            assert agent.welcome.epoch == 1, "others are led as before"


async def test_a_coordinator_that_another_replaced_ends() -> None:
    backing = Backing()
    async with face(store=MemoryStore(backing), running=False) as it:
        rival = MemoryStore(backing)
        rival.load()
        rival.set_epoch(10)
        with pytest.raises(StoreConflictError):
            await it.loop.run()
        assert "another coordinator leads" in it.loop.status().stuck


# ---- leases ------------------------------------------------------------------------------------


async def test_leases_are_renewed_also_while_the_store_fails() -> None:
    store = SlowStore()
    leases = [RenewLeases("a1", {"i-1": 30.0, "i-2": 30.0, "i-3": 12.0}), RenewLeases("gone", {})]
    async with (
        face(Script(store_each_fact), store=store, renewals=lambda *_: leases) as it,
        it.agent(hello()) as agent,
    ):
        it.clock.now += 3.0
        renewal = await agent.read_kind("lease_renewal")
        assert renewal.epoch == 1
        store.fail("commit", FULL)
        await agent.send(instance_event=event())
        await until(lambda: bool(it.loop.status().not_ready))
        seen: dict[str, float] = {}
        for _ in range(10):
            it.clock.now += 3.0
            renewal = await agent.read_kind("lease_renewal")
            seen |= dict.fromkeys(renewal.instance_ids, renewal.duration.seconds)
        assert seen == {"i-1": 30, "i-2": 30, "i-3": 12}


async def test_a_hanging_store_makes_the_loop_unready_and_leases_go_on() -> None:
    store = SlowStore()
    leases = [RenewLeases("a1", {"i-1": 30.0})]
    rules = State().rules.model_copy(update={"tick": 0.02})
    async with (
        face(Script(store_each_fact), store=store, rules=rules, renewals=lambda *_: leases) as it,
        it.agent(hello()) as agent,
    ):
        await agent.read_kind("ack")
        store.go.clear()
        await agent.send(instance_event=event())
        await it.script.see(RankChanged)
        for _ in range(3):
            assert list((await agent.read_kind("lease_renewal")).instance_ids) == ["i-1"]
        assert "has not answered for" in it.loop.status().not_ready[0]
        with pytest.raises(LoopUnavailableError, match="has not answered"):
            await it.loop.submit(WISH)
        store.go.set()
        await agent.read_kind("ack")
        await until(lambda: not it.loop.status().not_ready)
