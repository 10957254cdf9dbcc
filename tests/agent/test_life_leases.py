"""What goes back into service by itself, and what stays out; in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.words import InstanceState, Outcome, WithdrawReason
from heteroscale_agent.model import Withdraw
from tests.agent.body_twins import IDLE, SOFT, World, drain


async def test_a_soft_scale_in_heals_without_a_coordinator(world: World) -> None:
    await world.serving()
    await world.do(SOFT)
    generation = world.status().generation
    await world.passes(15)
    assert world.status().lease_remaining == pytest.approx(5.0)
    await world.passes(6)
    status = world.status()
    assert (status.state, status.generation) == (InstanceState.IN_SERVICE, generation + 1)
    assert "lease" in status.message
    await world.passes(1)
    assert world.gate.places == {"r1": {"i1"}}


async def test_renewals_extend_and_never_shorten(world: World) -> None:
    await world.serving()
    await world.do(SOFT)
    for _ in range(5):
        await world.passes(15)
        world.body.renew(["i1", "unknown"], world.clock.now + 20)
    world.body.renew(["i1"], world.clock.now + 1)
    await world.passes(15)
    assert world.status().state is InstanceState.WITHDRAWN
    await world.passes(6)
    assert world.status().state is InstanceState.IN_SERVICE


@pytest.mark.parametrize(
    "reason", [WithdrawReason.OPERATOR, WithdrawReason.MAINTENANCE, WithdrawReason.SICK]
)
async def test_what_people_took_out_stays_out(world: World, reason: WithdrawReason) -> None:
    await world.serving()
    await world.do(Withdraw(reason))
    await world.passes(600, step=5)
    await world.restart()
    await world.passes(600, step=5)
    assert world.status().withdraw_reason is reason


async def test_a_drain_without_word_goes_back_before_term(world: World) -> None:
    await world.serving()
    world.eyes.scrape = replace(IDLE, running=2.0)
    command = world.command(drain(lease=20.0))
    await world.body.execute(command)
    await world.passes(19)
    assert world.status().state is InstanceState.DRAINING
    assert "2 requests in flight" in world.status().message
    await world.passes(3)
    assert world.status().state is InstanceState.IN_SERVICE
    assert world.gate.places == {"r1": {"i1"}}
    (result,) = world.results()
    assert (result.command_id, result.outcome) == (command.command_id, Outcome.FAILED)
    assert not world.processes.terminated


async def test_an_agent_that_slept_through_a_lease_does_not_stop_the_engine(world: World) -> None:
    await world.serving()
    await world.do(drain(settle_time=0.0, quiet_scrapes=2))
    await world.passes(0.5)
    world.clock.now += 3600
    await world.passes(0.25)
    assert world.status().state is InstanceState.IN_SERVICE
    assert not world.processes.terminated
