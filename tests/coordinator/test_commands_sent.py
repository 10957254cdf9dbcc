"""No command leaves before its commit; none is lost or sent twice when a stream or the store fails."""

from __future__ import annotations

import asyncio

import pytest

from heteroscale_coordinator.core.events import (
    AgentConnected,
    AgentDisconnected,
)
from heteroscale_coordinator.core.model import CommandState, Verb
from heteroscale_coordinator.edge.answers import LoopUnavailableError
from heteroscale_coordinator.edge.session import MAX_COMMANDS, Limits
from heteroscale_coordinator.edge.store.memory import Backing, MemoryStore
from tests.coordinator.face import START, Script, face, hello, result, until
from tests.coordinator.http2 import raw_call
from tests.coordinator.scripts import (
    FULL,
    WISH,
    event,
    launching,
    order,
    store_each_fact,
)


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
