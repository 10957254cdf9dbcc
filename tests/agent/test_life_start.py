"""An instance from its launch into service, and all that keeps it from there; in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heteroscale.words import GateState, InstanceState, Outcome, WithdrawReason
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.model import Reinstate, Terminate
from tests.agent.body_twins import SOFT, FakeGate, World, drain, launch


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
