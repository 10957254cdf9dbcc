"""Drains and ends: nothing is stopped that is not known to be quiet; in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.words import GateState, InstanceState, Outcome, ScrapeQuality
from heteroscale_agent.model import EngineScrape, InstanceEvent, Reinstate, Terminate
from tests.agent.body_twins import IDLE, SOFT, World, drain


async def test_a_drain_ends_the_process_once_quiet(world: World) -> None:
    await world.serving()
    await world.do(SOFT)
    command = world.command(drain(settle_time=2.0, quiet_scrapes=3))
    accepted = await world.body.execute(command)
    assert accepted.outcome is Outcome.ACCEPTED
    await world.passes(2)
    assert not world.processes.terminated
    await world.passes(4)
    status = world.status()
    assert (status.state, status.exit_code) == (InstanceState.TERMINATED, 0)
    (result,) = world.results()
    assert (result.command_id, result.outcome) == (command.command_id, Outcome.DONE)
    again = await world.body.execute(command)
    assert again.outcome is Outcome.DONE


@pytest.mark.parametrize(
    ("scrape", "quality"),
    [
        (replace(IDLE, running=1.0), "ok"),
        (replace(IDLE, transferring=1.0), "ok"),
        (EngineScrape(), "ok"),
        (IDLE, "missing"),
        (IDLE, "stale"),
        (None, "ok"),
    ],
)
async def test_nothing_is_stopped_that_is_not_known_to_be_quiet(
    world: World, scrape: EngineScrape | None, quality: str
) -> None:
    await world.serving()
    world.eyes.scrape, world.eyes.quality = scrape, ScrapeQuality(quality)
    await world.do(drain(lease=1000.0))
    await world.passes(300)
    assert world.status().state is InstanceState.DRAINING
    assert not world.processes.terminated
    world.eyes.scrape, world.eyes.quality = IDLE, ScrapeQuality.OK
    await world.passes(2)
    assert world.status().state is InstanceState.TERMINATED


async def test_a_router_that_does_not_confirm_holds_the_drain(world: World) -> None:
    world.gate.places = {"r1": set(), "r2": set()}
    await world.serving()
    world.gate.silent = {"r2"}
    await world.do(drain(lease=1000.0))
    await world.passes(100)
    assert world.status().gate_state is GateState.CLOSING
    assert not world.processes.terminated
    world.gate.silent = set()
    await world.passes(10)
    assert world.status().state is InstanceState.TERMINATED


async def test_a_drain_says_aloud_what_it_waits_for(world: World) -> None:
    await world.serving()
    world.gate.silent = {"r1"}
    await world.do(drain(lease=60.0))
    world.said.clear()
    await world.passes(10)
    waiting = [item.status.message for item in world.said if isinstance(item, InstanceEvent)]
    assert len(waiting) == 2
    assert "router is silent; waiting for every router to confirm the removal" in waiting[1]
    world.said.clear()
    world.gate.silent = set()
    world.eyes.scrape = replace(IDLE, running=3.0)
    await world.passes(10)
    waiting = [item.status.message for item in world.said if isinstance(item, InstanceEvent)]
    assert any("settling" in message for message in waiting)
    assert "3 requests in flight" in waiting[-1]
    world.said.clear()
    world.eyes.scrape = replace(IDLE, running=2.0)
    await world.passes(2)
    assert not world.said


async def test_a_view_from_before_it_was_in_service_confirms_no_drain(world: World) -> None:
    await world.serving()
    await world.do(SOFT)
    await world.passes(3)
    assert world.status().gate_state is GateState.CLOSED
    await world.do(Reinstate())
    await world.do(drain())
    assert world.status().gate_state is GateState.CLOSING


async def test_a_router_that_takes_it_back_in_the_midst_starts_the_wait_anew(world: World) -> None:
    await world.serving()
    await world.do(drain(lease=1000.0, settle_time=10.0))
    await world.passes(9)
    world.gate.places["r1"].add("i1")
    await world.passes(9)
    assert not world.processes.terminated
    await world.passes(8)
    assert world.status().state is InstanceState.TERMINATED


async def test_a_drain_is_reversible_until_term(world: World) -> None:
    await world.serving()
    world.eyes.scrape = replace(IDLE, running=1.0)
    command = world.command(drain(lease=1000.0))
    await world.body.execute(command)
    await world.passes(5)
    assert (await world.do(Reinstate())).outcome is Outcome.DONE
    await world.passes(1)
    assert world.status().state is InstanceState.IN_SERVICE
    assert world.gate.places == {"r1": {"i1"}}
    (result,) = world.results()
    assert (result.command_id, result.outcome) == (command.command_id, Outcome.FAILED)


async def test_a_second_drain_owes_nothing_to_the_first(world: World) -> None:
    await world.serving()
    await world.do(drain(lease=1000.0, settle_time=2.0, quiet_scrapes=8))
    await world.passes(3)
    assert "quiet in" in world.status().message
    await world.do(Reinstate())
    await world.passes(1)
    await world.do(drain(lease=1000.0, settle_time=10.0, quiet_scrapes=1))
    await world.passes(10)
    assert not world.processes.terminated
    await world.passes(2)
    assert world.status().state is InstanceState.TERMINATED


async def test_after_term_there_is_no_way_back(world: World) -> None:
    world.processes.obeys_term = False
    await world.serving()
    await world.do(drain(grace=30.0))
    await world.passes(8)
    assert world.status().terminating
    for action in (Reinstate(), drain(), SOFT):
        result = await world.do(action)
        assert result.outcome is Outcome.REFUSED
    assert "was sent TERM" in (await world.do(Reinstate())).message


async def test_force_after_says_so_aloud(world: World) -> None:
    await world.serving()
    world.eyes.scrape = replace(IDLE, running=3.0)
    await world.do(drain(lease=1000.0, force_after=60.0))
    await world.passes(59)
    assert not world.processes.terminated
    await world.passes(3)
    assert world.status().state is InstanceState.TERMINATED
    assert "FORCED: TERM sent after 60 s though 3 requests in flight" in world.status().message


async def test_whoever_ignores_term_is_killed_after_its_grace(world: World) -> None:
    world.processes.obeys_term = False
    await world.serving()
    await world.do(drain(grace=30.0))
    await world.passes(8)
    ident = world.processes.only
    await world.passes(24)
    assert ident in world.processes.running
    await world.passes(5)
    status = world.status()
    assert (status.state, status.exit_code) == (InstanceState.TERMINATED, -9)
    assert "KILL" in status.message


async def test_an_engine_that_dies_in_a_drain_is_told_as_a_failure(world: World) -> None:
    await world.serving()
    world.eyes.scrape = replace(IDLE, running=3.0)
    await world.do(drain(lease=1000.0))
    await world.passes(3)
    world.processes.end(world.processes.only, 1)
    await world.passes()
    assert world.status().state is InstanceState.FAILED
    (result,) = world.results()
    assert result.outcome is Outcome.FAILED
    assert "may be lost" in result.message


async def test_terminate_closes_the_gate_first_and_waits_for_no_request(world: World) -> None:
    await world.serving()
    world.eyes.scrape = replace(IDLE, running=3.0)
    assert (await world.do(Terminate(5.0))).outcome is Outcome.ACCEPTED
    assert not world.processes.terminated
    await world.passes(2)
    assert world.gate.places == {"r1": set()}
    assert world.status().state is InstanceState.TERMINATED
    assert [result.outcome for result in world.results()] == [Outcome.DONE]
    assert (await world.do(Terminate(5.0))).outcome is Outcome.DONE


async def test_terminate_does_not_wait_for_ever_for_a_dead_router(world: World) -> None:
    await world.serving()
    world.gate.silent = {"r1"}
    await world.do(Terminate(5.0))
    await world.passes(4)
    assert not world.processes.terminated
    await world.passes(3)
    assert world.status().state is InstanceState.TERMINATED


async def test_terminate_in_the_midst_of_a_drain_answers_both(world: World) -> None:
    await world.serving()
    world.eyes.scrape = replace(IDLE, running=3.0)
    await world.do(drain(lease=1000.0))
    await world.passes(3)
    await world.do(Terminate(5.0))
    await world.passes(2)
    assert [(r.command_id, r.outcome) for r in world.results()] == [
        ("c2", Outcome.DONE),
        ("c3", Outcome.DONE),
    ]
