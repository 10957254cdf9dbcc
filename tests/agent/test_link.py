"""The stream, against a real gRPC server on loopback that says what each test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest

from heteroscale.convert import duration, seconds, timestamp
from heteroscale.v1 import agent_pb2
from heteroscale.words import Outcome, ScrapeQuality
from heteroscale_agent import wire
from heteroscale_agent.link import HELLO_RESULTS
from heteroscale_agent.model import (
    CommandResult,
    EngineReport,
    GpuReading,
    InstanceEvent,
    LatencyCounters,
    Reinstate,
    Report,
)
from heteroscale_agent.patience import Patience
from heteroscale_agent.serverclock import LinkError, ServerClock
from tests.agent.link_twins import (
    EAGER,
    INVENTORY,
    SERVER_TIME,
    STATUS,
    Agent,
    Coordinator,
    Talk,
    command,
)


@pytest.fixture
async def coordinator() -> AsyncIterator[Coordinator]:
    async with Coordinator().serving() as one:
        yield one


# ---- greeting ---------------------------------------------------------------------------------


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


# ---- commands and leases ----------------------------------------------------------------------


async def test_a_command_is_carried_out_answered_and_its_answer_forgotten_when_committed(
    coordinator: Coordinator,
) -> None:
    agent = Agent(coordinator)
    async with agent.linked():
        talk = await coordinator.greeted()
        talk.say(command=command())
        answer = await talk.hear("command_result")
        assert (answer.command_result.command_id, answer.command_result.message) == (
            "c-1",
            "as asked",
        )
        assert answer.command_result.outcome == agent_pb2.CommandResult.OUTCOME_DONE
        assert answer.command_result.status.instance_id == "i-1"
        (done,) = agent.body.commands
        assert (done.command_id, done.cause, done.epoch) == ("c-1", "d-1", 7)
        assert (done.instance_id, done.expected_generation) == ("i-1", 3)
        assert done.action == Reinstate()

        assert agent.body.acknowledged == []
        talk.say(ack=agent_pb2.Ack(sequence=answer.sequence - 1))
        talk.say(command=command("c-2"))
        second = await talk.hear("command_result")
        assert agent.body.acknowledged == []
        talk.say(ack=agent_pb2.Ack(sequence=second.sequence))
        talk.say(command=command("c-3"))
        await talk.hear("command_result")
        assert agent.body.acknowledged == ["c-1", "c-2"]


async def test_a_command_that_makes_no_sense_is_refused_in_words(coordinator: Coordinator) -> None:
    agent = Agent(coordinator)
    async with agent.linked():
        talk = await coordinator.greeted()
        unknown = command()
        unknown.ClearField("reinstate")
        talk.say(command=unknown)
        answer = (await talk.hear("command_result")).command_result
        assert answer.outcome == agent_pb2.CommandResult.OUTCOME_REFUSED
        assert answer.message == "the command has no action this agent knows; upgrade the agent"
        assert agent.body.commands == []


async def test_a_deadline_is_counted_on_the_servers_clock(coordinator: Coordinator) -> None:
    agent = Agent(coordinator)
    async with agent.linked():
        talk = await coordinator.greeted()
        talk.say(command=command())
        await talk.hear("command_result")
        # It was sent 5 s after the welcome, and took another 3 s: not later than 100 + 5 + 30.
        agent.clock.now = 108.0
        talk.say(command=command("c-2", server_time=timestamp(SERVER_TIME + 5)))
        await talk.hear("command_result")
    assert [one.expires_at for one in agent.body.commands] == [130.0, 135.0]


async def test_leases_are_renewed_on_the_servers_clock(coordinator: Coordinator) -> None:
    agent = Agent(coordinator)
    agent.clock.now = 100.0
    async with agent.linked():
        talk = await coordinator.greeted()
        talk.say(command=command())
        await talk.hear("command_result")
        agent.clock.now = 117.0
        for epoch in (7, 6):
            talk.say(
                lease_renewal=agent_pb2.LeaseRenewal(
                    epoch=epoch,
                    server_time=timestamp(SERVER_TIME + 10),
                    duration=duration(20),
                    instance_ids=["i-1", "i-2"],
                )
            )
        talk.say(command=command("c-2"))
        await talk.hear("command_result")
    # Late by 7 s, so it is shorter by 7 s; and one of an epoch that is over renews nothing.
    assert agent.body.renewals == [(["i-1", "i-2"], 130.0)]


def test_the_servers_clock_is_the_best_of_what_was_heard() -> None:
    clock = ServerClock()
    with pytest.raises(LinkError, match="no server_time"):
        clock.local(5.0)
    clock.stamp(1000.0, 10.5)
    clock.stamp(1001.0, 11.0)
    clock.stamp(1002.0, 19.0)
    assert clock.local(1005.0) == 15.0


def test_a_clock_that_drifts_is_followed_over_a_whole_session() -> None:
    clock, drift = ServerClock(), 50e-6
    week = 7 * 86_400
    for server in range(0, week, 30):
        clock.stamp(float(server), server * (1 + drift))
        # Every other message is late, and none of them may count.
        clock.stamp(float(server), server * (1 + drift) + 5.0)
    now = (week - 30) * (1 + drift)
    assert clock.local(float(week - 30)) == pytest.approx(now, abs=0.01)


def test_what_was_heard_before_a_long_silence_says_nothing_of_the_clock_now() -> None:
    clock = ServerClock()
    clock.stamp(1000.0, 0.0)
    clock.stamp(87_400.0 - 4.0, 86_400.0)
    assert clock.local(87_400.0) == 86_404.0


# ---- what is told -----------------------------------------------------------------------------


def report(at: float, deltas: tuple[int, ...]) -> Report:
    latency = LatencyCounters(at, at, deltas)
    engine = EngineReport("i-1", ScrapeQuality.OK, 0.0, time_between_tokens=latency)
    return Report(at, 1.0, engines=(engine,))


async def test_events_go_before_reports_and_reports_coalesce(coordinator: Coordinator) -> None:
    agent = Agent(coordinator)
    async with agent.linked():
        talk = await coordinator.greeted()
        agent.outbox.put_report(Report(99.0, 1.0))
        await talk.hear("report")
        for at in (98.0, 99.0, 100.0):
            agent.outbox.put_report(report(at, (1, 2)))
        agent.outbox.put(InstanceEvent(STATUS, "c-9"))
        event = await talk.hear()
        assert (event.instance_event.cause, event.instance_event.status.generation) == ("c-9", 3)
        one = await talk.hear()
        assert one.sequence == event.sequence + 1
        assert seconds(one.report.interval) == 3.0
        assert list(one.report.engines[0].time_between_tokens.bucket_deltas) == [3, 6]
        assert talk.heard.empty()


async def test_a_message_that_is_newer_is_left_out(coordinator: Coordinator) -> None:
    agent = Agent(coordinator)
    async with agent.linked():
        talk = await coordinator.greeted()
        talk.say()
        talk.say(command=command())
        await talk.hear("command_result")


# ---- when the stream is lost ------------------------------------------------------------------


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
