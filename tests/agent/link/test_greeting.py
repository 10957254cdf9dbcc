"""The stream's beginning, against a real gRPC server on loopback that says what each test wants."""

from __future__ import annotations

from dataclasses import replace

import grpc
import pytest

from heteroscale.convert import seconds
from heteroscale.v1 import agent_pb2
from heteroscale.words import Outcome
from heteroscale_agent import wire
from heteroscale_agent.link import HELLO_RESULTS
from heteroscale_agent.model import (
    CommandResult,
    GpuReading,
    Report,
)
from heteroscale_agent.patience import Patience
from tests.agent.link_twins import (
    INVENTORY,
    Agent,
    Coordinator,
    Talk,
    command,
)


async def test_a_hello_says_everything(coordinator: Coordinator) -> None:
    agent = Agent(coordinator)
    agent.eyes.reports = [Report(90.0, 1.0, gpus=(GpuReading(),)), Report(98.0, 1.0)]
    agent.body.owed = [CommandResult("c-0", Outcome.DONE)]
    async with agent.linked():
        message = await (await coordinator.talk()).hear()
    hello = message.hello
    assert message.sequence == 1
    assert (hello.agent_id, hello.incarnation, hello.process_token) == ("agent-1", 5, "token-1")
    assert (hello.boot_id, hello.hostname, hello.agent_version) == ("boot-1", "host-1", "1.2.3")
    assert (hello.cluster_id, hello.highest_epoch, hello.advertise_host) == ("east", 3, "10.0.0.7")
    assert hello.inventory_hash == wire.inventory_message(INVENTORY).inventory_hash
    assert [one.instance_id for one in hello.instances] == ["i-1"]
    assert [one.command_id for one in hello.unacknowledged_results] == ["c-0"]
    assert [seconds(one.sampled_ago) for one in hello.history] == [10.0, 2.0]
    assert not hello.history[0].HasField("gpus")


async def test_results_beyond_what_a_hello_takes_follow_the_welcome(
    coordinator: Coordinator,
) -> None:
    agent = Agent(coordinator)
    ids = [f"c-{n}" for n in range(HELLO_RESULTS + 3)]
    agent.body.owed = [CommandResult(one, Outcome.DONE) for one in ids]
    async with agent.linked():
        talk = await coordinator.talk()
        hello = await talk.hear("hello")
        told = [one.command_id for one in hello.hello.unacknowledged_results]
        assert told == ids[:HELLO_RESULTS]
        talk.welcome()
        talk.say(ack=agent_pb2.Ack(sequence=hello.sequence))
        rest = [await talk.hear("command_result") for _ in range(3)]
        assert [one.command_result.command_id for one in rest] == ids[HELLO_RESULTS:]
        talk.say(ack=agent_pb2.Ack(sequence=rest[1].sequence))
        talk.say(command=command())
        await talk.hear("command_result")
    assert agent.body.acknowledged == ids[:-1]


async def test_the_inventory_is_sent_when_its_hash_is_not_known(coordinator: Coordinator) -> None:
    async with Agent(coordinator).linked():
        talk = await coordinator.greeted(inventory_wanted=True)
        assert (await talk.hear()).inventory == wire.inventory_message(INVENTORY)


async def test_an_inventory_that_changes_goes_before_the_first_report_in_its_order(
    coordinator: Coordinator,
) -> None:
    agent = Agent(coordinator)
    async with agent.linked():
        talk = await coordinator.greeted()
        agent.outbox.put_report(Report(100.0, 1.0))
        assert (await talk.hear()).WhichOneof("body") == "report"
        agent.eyes.sees = replace(INVENTORY, gpus=())
        agent.outbox.put_report(Report(101.0, 1.0))
        told, report = await talk.hear(), await talk.hear()
        assert told.inventory == wire.inventory_message(agent.eyes.sees)
        assert told.inventory.inventory_hash != wire.inventory_message(INVENTORY).inventory_hash
        assert report.WhichOneof("body") == "report"
        agent.outbox.put_report(Report(102.0, 1.0))
        assert (await talk.hear()).WhichOneof("body") == "report", "it is told once"


async def test_an_inventory_that_changes_before_the_welcome_is_sent_too(
    coordinator: Coordinator,
) -> None:
    agent = Agent(coordinator)
    async with agent.linked():
        talk = await coordinator.talk()
        await talk.hear("hello")
        agent.eyes.sees = replace(INVENTORY, gpus=())
        talk.welcome()
        agent.outbox.put_report(Report(100.0, 1.0))
        assert (await talk.hear()).inventory == wire.inventory_message(agent.eyes.sees)
        assert (await talk.hear()).WhichOneof("body") == "report"


async def test_a_welcome_sets_the_pace_and_the_epoch(coordinator: Coordinator) -> None:
    agent = Agent(coordinator)
    async with agent.linked():
        talk = await coordinator.greeted()
        agent.outbox.put_report(Report(100.0, 1.0))
        await talk.hear("report")
    assert agent.intervals == [5.0]
    assert agent.body.epoch == 7


@pytest.mark.parametrize("wrong", [{"cluster_id": "west"}, {"epoch": 2}])
async def test_a_coordinator_that_is_not_ours_is_not_obeyed(
    coordinator: Coordinator, wrong: dict[str, object]
) -> None:
    agent = Agent(coordinator)
    async with agent.linked():
        talk = await coordinator.talk()
        await talk.hear("hello")
        talk.welcome(**wrong)
        talk.say(command=command())
        await talk.ended()
        assert agent.body.commands == []
        assert agent.body.epoch == 3
        assert agent.intervals == []
        # It is asked again, for it may be replaced by the right one.
        await coordinator.greeted()


async def test_an_agent_of_no_cluster_takes_any(coordinator: Coordinator) -> None:
    agent = Agent(coordinator, cluster_id="")
    async with agent.linked():
        talk = await coordinator.greeted(cluster_id="west")
        talk.say(command=command())
        await talk.hear("command_result")


async def test_the_same_epoch_again_is_fine(coordinator: Coordinator) -> None:
    agent = Agent(coordinator)
    agent.body.epoch = 7
    async with agent.linked():
        talk = await coordinator.greeted(epoch=7)
        talk.say(command=command())
        await talk.hear("command_result")


async def test_without_a_welcome_the_agent_tries_again(coordinator: Coordinator) -> None:
    hasty = Patience(welcome=0.05, first_backoff=0.01, max_backoff=0.02, pause=0.01)
    async with Agent(coordinator).linked(hasty):
        for _ in range(3):
            talk = await coordinator.talk()
            await talk.hear("hello")
            await talk.ended()


async def say_an_ack_first(talk: Talk) -> None:
    talk.say(ack=agent_pb2.Ack(sequence=1))


async def say_something_newer_first(talk: Talk) -> None:
    talk.say()


async def end_politely(talk: Talk) -> None:
    talk.end()


async def refuse(talk: Talk) -> None:
    talk.end(grpc.StatusCode.ALREADY_EXISTS, "agent id 'agent-1' is taken by a live process")


async def say_no_message(talk: Talk) -> None:
    talk.say_bytes(b"\xff\xff\xff\xff")


@pytest.mark.parametrize(
    "answer", [say_an_ack_first, say_something_newer_first, end_politely, refuse, say_no_message]
)
async def test_any_other_answer_to_a_hello_leads_to_another_try(
    coordinator: Coordinator, answer: object
) -> None:
    assert callable(answer)
    async with Agent(coordinator).linked():
        talk = await coordinator.talk()
        await talk.hear("hello")
        await answer(talk)
        again = await coordinator.talk()
        assert (await again.hear()).hello.agent_id == "agent-1"
