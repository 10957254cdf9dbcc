"""A stream that stands: commands, leases, the server's clock, and what is told."""

from __future__ import annotations

import pytest

from heteroscale.convert import duration, seconds, timestamp
from heteroscale.v1 import agent_pb2
from heteroscale.words import ScrapeQuality
from heteroscale_agent.model import (
    EngineReport,
    InstanceEvent,
    LatencyCounters,
    Reinstate,
    Report,
)
from heteroscale_agent.serverclock import LinkError, ServerClock
from tests.agent.link_twins import (
    SERVER_TIME,
    STATUS,
    Agent,
    Coordinator,
    command,
)

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
