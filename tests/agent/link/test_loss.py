"""A stream that is lost: what is said again, and what outlives it."""

from __future__ import annotations

import grpc
import pytest

from heteroscale_agent.model import (
    InstanceEvent,
    Report,
)
from tests.agent.link_twins import (
    EAGER,
    STATUS,
    Agent,
    Coordinator,
    command,
)


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED]
)
async def test_a_lost_stream_leads_to_a_new_one_with_a_full_hello(
    coordinator: Coordinator, code: grpc.StatusCode
) -> None:
    agent = Agent(coordinator)
    async with agent.linked():
        talk = await coordinator.greeted()
        talk.say(command=command())
        last = await talk.hear("command_result")
        talk.end(code, "leaving")
        again = await (await coordinator.talk()).hear()
    assert again.sequence > last.sequence
    assert [one.instance_id for one in again.hello.instances] == ["i-1"]
    # What was never acknowledged is told again, in the hello and nowhere else.
    assert [one.command_id for one in again.hello.unacknowledged_results] == ["c-1"]
    assert again.hello.highest_epoch == 7


async def test_garbage_in_the_midst_of_a_stream_leads_to_a_new_one(
    coordinator: Coordinator,
) -> None:
    agent = Agent(coordinator)
    async with agent.linked():
        for _ in range(2):
            talk = await coordinator.greeted()
            talk.say(command=command())
            await talk.hear("command_result")
            talk.say_bytes(b"\xff" * 64)
        await coordinator.greeted()


async def test_a_command_outlives_the_stream_it_came_on(coordinator: Coordinator) -> None:
    agent = Agent(coordinator)
    agent.body.may_answer.clear()
    async with agent.linked():
        talk = await coordinator.greeted()
        talk.say(command=command())
        await agent.body.asked.wait()
        talk.end(grpc.StatusCode.UNAVAILABLE, "leaving")
        again = await coordinator.greeted()
        agent.body.may_answer.set()
        assert (await again.hear("command_result")).command_result.command_id == "c-1"
    assert len(agent.body.commands) == 1


async def test_what_waits_for_a_dead_stream_is_said_by_the_next_hello_alone(
    coordinator: Coordinator,
) -> None:
    agent = Agent(coordinator)
    async with agent.linked():
        talk = await coordinator.greeted()
        talk.end(grpc.StatusCode.UNAVAILABLE, "leaving")
        await talk.ended()
        again = await coordinator.talk()
        await again.hear("hello")
        agent.outbox.put_report(Report(100.0, 1.0))
        agent.outbox.put(InstanceEvent(STATUS))
        again.welcome()
        assert (await again.hear()).WhichOneof("body") == "instance_event"
        assert (await again.hear()).WhichOneof("body") == "report"


async def test_a_coordinator_that_comes_back_is_found() -> None:
    coordinator = Coordinator()
    agent = Agent(coordinator)
    async with coordinator.serving():
        pass  # now the port is known, and nobody listens
    async with agent.linked(EAGER):
        for _ in range(2):
            async with coordinator.serving():
                talk = await coordinator.greeted()
                talk.say(command=command())
                await talk.hear("command_result")


async def test_a_fault_of_our_own_ends_the_session_and_not_the_agent(
    coordinator: Coordinator,
) -> None:
    agent = Agent(coordinator)
    unsendable = InstanceEvent(STATUS, "lone surrogate \ud800")
    async with agent.linked():
        await coordinator.greeted()
        agent.outbox.put(unsendable)
        talk = await coordinator.greeted()
        talk.say(command=command())
        await talk.hear("command_result")


async def test_a_link_that_is_cancelled_closes_its_stream(coordinator: Coordinator) -> None:
    async with Agent(coordinator).linked():
        talk = await coordinator.greeted()
    await talk.ended()
