"""An instance from launch to its end, on twins and in virtual time; with everything that goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heteroscale.words import GateState, InstanceState, Outcome, ScrapeQuality, WithdrawReason
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.hands.process import Ident, Order, SpawnError
from heteroscale_agent.journal import Journal
from heteroscale_agent.ledger import instance_entry
from heteroscale_agent.model import (
    Command,
    EngineScrape,
    InstanceEvent,
    Reinstate,
    Terminate,
    Withdraw,
)
from tests.agent.body_twins import IDLE, SPEC, FakeGate, World, drain, launch


class DeafGate(FakeGate):
    """Routers that answer, and do nothing of what they are asked."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.deaf = True
        self.wishes: list[bool] = []

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        self.wishes.append(wanted_in)
        view = await super().reconcile(member, wanted_in=wanted_in)
        if self.deaf:
            for ids in self.places.values():
                ids.clear()
        return view


SOFT = Withdraw(WithdrawReason.SOFT_SCALE_IN, lease=20.0)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.body.start()
    yield made
    await made.body.close()


# ---- coming into service ----


async def test_from_launch_into_service(world: World) -> None:
    world.probe.answer = False
    await world.do(launch())
    await world.passes(10)
    assert world.status().state is InstanceState.LAUNCHING
    assert not world.eyes.targets
    assert not world.gate.asked
    world.probe.answer = True
    await world.passes(3)
    status = world.status()
    assert (status.state, status.gate_state) == (InstanceState.IN_SERVICE, GateState.OPEN)
    assert status.startup_time == pytest.approx(10.5, abs=1.1)
    assert world.states() == ["launching", "warming", "in_service"]
    assert [target.url for target in world.eyes.targets] == [status.endpoint + "/metrics"]


async def test_one_router_is_enough_to_serve_and_all_to_be_open(world: World) -> None:
    world.gate.places = {"r1": set(), "r2": set()}
    world.gate.silent = {"r2"}
    await world.serving()
    assert world.status().state is InstanceState.IN_SERVICE
    assert world.status().gate_state is GateState.OPENING
    assert "router is silent" in world.status().message
    world.gate.silent = set()
    await world.passes(5)
    assert world.status().gate_state is GateState.OPEN


async def test_without_any_router_it_stays_warming(world: World) -> None:
    world.gate.silent = {"r1"}
    await world.serving()
    await world.passes(30)
    assert world.status().state is InstanceState.WARMING


async def test_an_engine_that_no_router_takes_in_fails_and_says_where_to_look(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.gates["sglang-router"] = gate = DeafGate(places={"r1": set(), "r2": set()}, silent={"r2"})
    await world.body.start()
    await world.do(launch())
    await world.passes(58)
    assert world.status().state is InstanceState.WARMING
    await world.passes(15)
    status = world.status()
    assert status.state is InstanceState.FAILED
    assert f"ready, but r1 did not take {status.endpoint} in for 60 s" in status.message
    assert "advertiseHost" in status.message
    assert not world.processes.running
    assert gate.wishes[-1] is False
    assert (await world.do(launch(), "i2")).outcome is Outcome.DONE
    await world.body.close()


async def test_silent_routers_are_waited_for_and_then_given_their_time(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.gates["sglang-router"] = gate = DeafGate()
    await world.body.start()
    await world.do(launch())
    await world.passes(30)
    gate.silent = {"r1"}
    await world.passes(600, step=5)
    gate.silent = set()
    await world.passes(20)
    assert world.status().state is InstanceState.WARMING
    gate.deaf = False
    await world.passes(5)
    assert world.status().state is InstanceState.IN_SERVICE
    await world.body.close()


async def test_what_is_given_up_takes_no_orders_but_to_end(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.gates["sglang-router"] = DeafGate()
    await world.body.start()
    world.processes.obeys_term = world.processes.obeys_kill = False
    await world.do(launch())
    await world.passes(75)
    assert world.status().terminating
    for action in (SOFT, drain(), Reinstate()):
        assert (await world.do(action)).outcome is Outcome.REFUSED
    assert (await world.do(Terminate(1.0))).outcome is Outcome.ACCEPTED
    world.processes.end(world.processes.only, 0)
    await world.passes(1)
    assert world.status().state is InstanceState.FAILED
    await world.body.close()


async def test_never_ready_is_killed_and_failed(world: World) -> None:
    world.probe.answer = False
    world.processes.obeys_term = False
    await world.do(launch(startup_timeout=60.0))
    await world.passes(60)
    assert world.status().state is InstanceState.LAUNCHING
    await world.passes(2)
    status = world.status()
    assert status.state is InstanceState.FAILED
    assert "not ready after 60 s" in status.message
    assert "last words" in status.message
    assert not world.processes.running


async def test_an_engine_that_exits_at_once_has_failed_with_its_last_words(world: World) -> None:
    await world.do(launch())
    world.processes.end(world.processes.only, 3)
    await world.passes()
    status = world.status()
    assert (status.state, status.exit_code) == (InstanceState.FAILED, 3)
    assert status.message == "exited with code 3; log: last words"


async def test_an_engine_that_dies_in_service_leaves_the_routers_at_once(world: World) -> None:
    await world.serving()
    assert world.gate.places == {"r1": {"i1"}}
    world.processes.end(world.processes.only, -9)
    await world.passes(0.5)
    assert world.status().state is InstanceState.FAILED
    assert "killed by SIGKILL" in world.status().message
    assert world.gate.places == {"r1": set()}
    assert not world.eyes.targets
    # What its leader left behind is killed: it would hold GPU memory.
    assert len(world.processes.killed) == 1


async def test_a_ratio_hold_waits_and_comes_back_at_its_deadline(world: World) -> None:
    await world.do(launch(ratio_hold=30.0))
    await world.passes(2)
    status = world.status()
    assert status.withdraw_reason is WithdrawReason.RATIO_HOLD
    assert world.gate.places == {"r1": set()}
    world.body.renew(["i1"], world.clock.now + 500)
    await world.passes(28)
    assert world.status().state is InstanceState.WITHDRAWN
    await world.passes(3)
    assert world.status().state is InstanceState.IN_SERVICE
    assert world.states() == ["launching", "warming", "withdrawn", "in_service"]


async def test_ranks_above_zero_have_neither_gate_nor_metrics(world: World) -> None:
    await world.do(launch(rank=1, rank_count=2, leader_host="10.0.0.1"))
    await world.passes(2)
    assert world.status().state is InstanceState.IN_SERVICE
    assert world.status().endpoint == ""
    assert not world.gate.asked
    assert not world.probe.asked
    assert not world.eyes.targets
    # A drain waits for its leader, whose end it follows.
    command = world.command(drain())
    await world.body.execute(command)
    await world.passes(15)
    assert not world.processes.terminated
    world.processes.end(world.processes.only, 1)
    await world.passes()
    assert world.status().state is InstanceState.TERMINATED
    assert [(r.command_id, r.outcome) for r in world.results()] == [
        (command.command_id, Outcome.DONE)
    ]


@pytest.mark.parametrize(
    ("code", "state"), [(0, InstanceState.TERMINATED), (1, InstanceState.FAILED)]
)
async def test_a_rank_above_zero_ends_with_its_leader(
    world: World, code: int, state: InstanceState
) -> None:
    await world.do(launch(rank=1, rank_count=2, leader_host="10.0.0.1"))
    await world.passes(2)
    # Its leader was drained elsewhere; the word of it has not come yet.
    world.processes.end(world.processes.only, code)
    await world.passes()
    assert world.status().state is state


@pytest.mark.parametrize("rank", [0, 1])
async def test_an_engine_that_ends_before_it_was_ready_has_failed(world: World, rank: int) -> None:
    await world.do(launch(rank=rank, rank_count=2, leader_host="10.0.0.1"))
    world.processes.end(world.processes.only, 0)
    await world.passes()
    assert world.status().state is InstanceState.FAILED


# ---- leases ----


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


# ---- draining ----


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


# ---- gates are level-triggered ----


async def test_a_restarted_router_is_told_again(world: World) -> None:
    await world.serving()
    world.gate.places["r1"].clear()
    await world.passes(3)
    assert world.gate.places == {"r1": {"i1"}}
    await world.do(SOFT)
    await world.passes(2)
    world.gate.places["r1"].add("i1")
    await world.passes(3)
    assert world.gate.places == {"r1": set()}
    assert world.status().state is InstanceState.WITHDRAWN


def narrow(folder: Path, ports: int) -> World:
    """Return a host with few ports, of which each engine draws one."""
    template = {**SPEC["templates"]["decode"], "ports": 1}
    there = {"first": 21000, "last": 21000 + ports - 1}
    return World(folder, ports=there, templates={"decode": template})


class SharedGate(FakeGate):
    """Routers that know workers by where they serve, as real ones do."""

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        return await super().reconcile(
            replace(member, instance_id=member.endpoint), wanted_in=wanted_in
        )


@pytest.mark.parametrize("journal_knows_it_is_out", [True, False])
async def test_an_ended_instance_never_takes_out_the_next_one_on_its_port(
    tmp_path: Path, *, journal_knows_it_is_out: bool
) -> None:
    world = narrow(tmp_path, 1)
    world.gates["sglang-router"] = gate = SharedGate()
    await world.body.start()
    await world.serving()
    await world.do(Terminate(1.0))
    await world.passes(5)
    await world.serving("i2")
    endpoint = world.status("i2").endpoint
    assert world.status().endpoint == endpoint
    await world.die()
    journal = Journal(tmp_path, wall=world.wall)
    ended = journal.records()["i1"]
    assert ended["gate_out"] is True
    journal.append([instance_entry("i1", {**ended, "gate_out": journal_knows_it_is_out})])
    journal.close()
    await world.restart()
    for _ in range(20):
        await world.passes(0.5)
        assert gate.places == {"r1": {endpoint}}
    assert world.status("i2").gate_state is GateState.OPEN
    if journal_knows_it_is_out:
        asked = gate.asked
        world.processes.end(world.processes.only, 1)
        await world.passes(30)
        # Only the second is taken out, once and for ever.
        assert gate.places == {"r1": set()}
        assert 1 <= gate.asked - asked <= 3
    await world.body.close()


async def test_ports_of_an_ended_instance_are_held_until_no_router_has_them(tmp_path: Path) -> None:
    world = narrow(tmp_path, 1)
    await world.body.start()
    await world.serving()
    world.processes.end(world.processes.only, 1)
    world.gate.silent = {"r1"}
    await world.passes(5)
    assert "no 1 free ports" in (await world.do(launch(), "i2")).message
    world.gate.silent = set()
    await world.passes(10)
    assert (await world.do(launch(), "i3")).outcome is Outcome.DONE
    await world.body.close()


async def test_ports_of_an_ended_instance_are_the_last_choice(tmp_path: Path) -> None:
    world = narrow(tmp_path, 3)
    await world.body.start()
    drawn = []
    for name in ("i1", "i2", "i3", "i4"):
        await world.serving(name)
        drawn.append(world.status(name).endpoint)
        world.processes.end(world.processes.only, 1)
        await world.passes(5)
    assert len(set(drawn[:3])) == 3
    assert drawn[3] in drawn[:3]
    await world.body.close()


async def test_an_agreed_gate_is_looked_at_only_now_and_then(world: World) -> None:
    await world.serving()
    before = world.gate.asked
    await world.passes(20)
    assert 8 <= world.gate.asked - before <= 12


# ---- the agent dies and comes back ----


async def test_adoption_goes_on_where_it_was(world: World) -> None:
    await world.serving()
    before = world.status()
    await world.restart()
    status = world.status()
    assert status.adopted
    assert (status.pid, status.generation, status.endpoint) == (
        before.pid,
        before.generation,
        before.endpoint,
    )
    assert status.state is InstanceState.IN_SERVICE
    # Gates are read again before they are believed.
    assert status.gate_state is GateState.OPENING
    await world.passes(1)
    assert world.status().gate_state is GateState.OPEN
    assert world.eyes.targets
    assert world.processes.spawned == 1


async def test_a_drain_goes_on_after_a_restart_with_its_lease_anew(world: World) -> None:
    await world.serving()
    world.eyes.scrape = replace(IDLE, running=1.0)
    command = world.command(drain(lease=20.0))
    await world.body.execute(command)
    await world.passes(15)
    await world.restart()
    await world.passes(15)
    assert world.status().state is InstanceState.DRAINING
    world.eyes.scrape = IDLE
    await world.passes(4)
    assert world.status().state is InstanceState.TERMINATED
    (result,) = world.results()
    assert (result.command_id, result.outcome) == (command.command_id, Outcome.DONE)


async def test_leases_end_also_after_a_restart(world: World) -> None:
    await world.serving()
    await world.do(SOFT)
    await world.restart()
    await world.passes(19)
    assert world.status().state is InstanceState.WITHDRAWN
    await world.passes(2)
    assert world.status().state is InstanceState.IN_SERVICE


async def test_an_engine_that_ended_meanwhile_is_told_with_what_it_owed(world: World) -> None:
    await world.serving()
    await world.do(drain(lease=1000.0))
    await world.passes(1)
    world.processes.running.clear()
    world.processes.ended.clear()
    await world.restart()
    status = world.status()
    assert (status.state, status.exit_code) == (InstanceState.FAILED, None)
    owed = [r for r in world.body.unacknowledged() if r.command_id == "c2"]
    assert [result.outcome for result in owed] == [Outcome.ACCEPTED, Outcome.FAILED]
    await world.passes(1)
    assert world.gate.places == {"r1": set()}


async def test_a_reboot_ends_everything_and_kills_nobody_by_mistake(world: World) -> None:
    await world.serving()
    ident = world.processes.only
    # The same pid and start time after a reboot is another process.
    world.processes.running[ident] = Order("", ["sh"], {})
    world.boot_id = "boot-2"
    world.clock.now = 5.0
    await world.restart()
    assert world.status().state is InstanceState.FAILED
    assert ident in world.processes.running
    assert not world.processes.killed


async def test_a_launch_cut_short_is_adopted_by_its_tag(world: World) -> None:
    command = await cut_short(world, spawned=True)
    await world.restart()
    status = world.status()
    assert (status.state, status.adopted) == (InstanceState.LAUNCHING, True)
    assert status.pid == world.processes.only.pid
    assert (await world.body.execute(command)).outcome is Outcome.DONE
    assert world.processes.spawned == 1
    await world.passes(2)
    assert world.status().state is InstanceState.IN_SERVICE


async def test_a_launch_cut_short_without_a_trace_is_unknown(world: World) -> None:
    command = await cut_short(world, spawned=False)
    await world.restart()
    assert world.status().state is InstanceState.FAILED
    answer = await world.body.execute(command)
    assert answer.outcome is Outcome.UNKNOWN
    assert [r.outcome for r in world.body.unacknowledged()] == [Outcome.UNKNOWN]
    assert world.processes.spawned == 0


async def cut_short(world: World, *, spawned: bool) -> Command:
    """Let the agent die between the intent of a launch and its outcome."""
    command = world.command(launch())
    real = world.processes.spawn

    def dies(order: Order) -> Ident:
        if spawned:
            real(order)
        # From here on nothing reaches the disk, as when the process is gone.
        world.write_fails = True
        raise SpawnError("cut short")

    world.processes.spawn = dies  # type: ignore[method-assign]
    await world.body.execute(command)
    await world.die()
    world.processes.spawn = real  # type: ignore[method-assign]
    return command


async def test_ended_instances_are_forgotten_after_an_hour(world: World) -> None:
    await world.serving()
    world.processes.end(world.processes.only, 1)
    await world.passes(3000, step=60)
    assert world.status().state is InstanceState.FAILED
    await world.passes(900, step=60)
    assert world.body.statuses() == []
    await world.restart()
    assert world.body.statuses() == []


async def test_logs_of_the_newest_ended_are_kept_and_older_ones_removed(tmp_path: Path) -> None:
    world = World(tmp_path, keep_logs=2)
    await world.body.start()
    for number in range(5):
        await world.serving(f"i{number}")
        world.processes.end(world.processes.only, 1)
        await world.passes(5)
    # Those still told of keep theirs.
    assert world.processes.dropped == []
    await world.serving("alive")
    await world.passes(4000, step=60)
    assert world.processes.dropped == ["i0", "i1", "i2"]
    await world.restart()
    world.processes.end(world.processes.only, 1)
    await world.passes(5)
    assert world.processes.dropped == ["i0", "i1", "i2", "i3"]
    await world.body.close()


async def test_trouble_with_one_instance_is_its_own(world: World) -> None:
    await world.serving()
    await world.do(launch(gpu_indices=(1,)), "i2")

    class Broken(FakeGate):
        async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
            if member.instance_id == "i1":
                raise RuntimeError("boom")
            return await super().reconcile(member, wanted_in=wanted_in)

    world.gates["sglang-router"] = Broken()
    for _ in range(12):
        world.clock.now += 0.5
        with contextlib.suppress(RuntimeError):
            await world.body.tick()
        # A tick that fails does not wait for what it began for the others.
        if begun := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(begun)
    assert world.status("i2").state is InstanceState.IN_SERVICE
