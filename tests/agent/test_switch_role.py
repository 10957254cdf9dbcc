"""switch_role: out of the routers, quiet, asked, verified, and in under the new role; or as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heteroscale.words import InstanceState, Outcome, Role, WithdrawReason
from heteroscale_agent.config import Template
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.hands.port import RoleAnswer
from heteroscale_agent.model import (
    Action,
    EngineScrape,
    Gate,
    Reinstate,
    SwitchRole,
    Terminate,
    Withdraw,
)
from heteroscale_agent.switching import LEARN_TRIES
from tests.agent.body_twins import FakeGate, World, drain, launch

TO_PREFILL = SwitchRole(Role.PREFILL)
BUSY = EngineScrape(running=1.0, waiting=0.0, transferring=0.0, kv_usage=0.1)
_S = InstanceState


class RoleGate(FakeGate):
    """Notes the role under which an instance was asked in."""

    def __init__(self) -> None:
        super().__init__()
        self.roles: list[tuple[Role, bool]] = []

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        if not self.roles or self.roles[-1] != (member.role, wanted_in):
            self.roles.append((member.role, wanted_in))
        return await super().reconcile(member, wanted_in=wanted_in)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    made.gate = RoleGate()
    made.gates.update({"none": made.gate, "sglang-router": made.gate})
    await made.body.start()
    await made.serving(template="either", parameters={})
    yield made
    await made.body.close()


def ends(world: World) -> list[tuple[str, Outcome]]:
    return [(result.command_id, result.outcome) for result in world.results()]


async def test_it_leaves_is_quiet_switches_and_comes_back(world: World) -> None:
    command = world.command(TO_PREFILL)
    before = world.status().generation
    accepted = await world.body.execute(command)
    assert accepted.outcome is Outcome.ACCEPTED
    assert (world.status().state, world.status().role) == (_S.WITHDRAWN, Role.DECODE)
    assert world.status().withdraw_reason is WithdrawReason.MAINTENANCE
    world.eyes.scrape = BUSY
    await world.passes(10)
    assert world.roles.asked == []
    assert "1 requests in flight" in world.status().message
    world.eyes.scrape = EngineScrape(running=0.0, waiting=0.0, transferring=0.0, kv_usage=0.1)
    await world.passes(6)
    assert world.roles.asked == [(Role.PREFILL, {})]
    status = world.status()
    assert (status.state, status.role) == (_S.IN_SERVICE, Role.PREFILL)
    assert status.generation == before + 2
    assert status.message == "switched from decode to prefill"
    assert ends(world) == [(command.command_id, Outcome.DONE)]
    assert isinstance(world.gate, RoleGate)
    assert world.gate.roles == [(Role.DECODE, True), (Role.DECODE, False), (Role.PREFILL, True)]
    assert world.gate.places == {"r1": {"i1"}}
    # And back, with what its template says of decode.
    await world.do(SwitchRole(Role.DECODE))
    await world.passes(6)
    assert world.status().role is Role.DECODE
    assert world.roles.asked[-1] == (Role.DECODE, {"decode_cuda_graph_memory_gb": 1.5})
    assert world.processes.spawned == 1


async def test_a_router_that_is_silent_keeps_it_from_being_asked(world: World) -> None:
    world.gate.silent.add("r1")
    await world.do(TO_PREFILL)
    await world.passes(30)
    assert world.roles.asked == []
    assert "every router to confirm" in world.status().message
    await world.passes(40)
    assert (world.status().state, world.status().role) == (_S.IN_SERVICE, Role.DECODE)
    assert [outcome for _, outcome in ends(world)] == [Outcome.FAILED]
    assert world.roles.asked == []


@pytest.mark.parametrize(
    ("action", "changes", "said"),
    [
        (SwitchRole(Role.FFN), {}, "no engine switches to ffn"),
        (TO_PREFILL, {"template": "decode", "parameters": {"model": "x"}}, "has no roleSwitch"),
        (TO_PREFILL, {"rank_count": 2}, "several ranks"),
    ],
)
async def test_what_cannot_switch_is_refused_and_serves_on(
    world: World, action: Action, changes: dict[str, Any], said: str
) -> None:
    told: dict[str, Any] = {"template": "either", "parameters": {}, "gpu_indices": (1,), **changes}
    await world.do(replace(launch(), **told), "i2")
    await world.passes(2)
    result = await world.do(action, "i2")
    assert (result.outcome, world.status("i2").state) == (Outcome.REFUSED, _S.IN_SERVICE)
    assert said in result.message


async def test_one_that_has_the_role_already_is_done_at_once(world: World) -> None:
    result = await world.do(SwitchRole(Role.DECODE))
    assert result.outcome is Outcome.DONE
    assert world.status().state is _S.IN_SERVICE
    assert world.roles.asked == []


async def test_what_is_refused_by_an_engine_that_is_fit_goes_back_as_it_was(world: World) -> None:
    world.roles.answers = [RoleAnswer(done=False, message="the backend cannot", intact=True)]
    await world.do(TO_PREFILL)
    await world.passes(8)
    status = world.status()
    assert (status.state, status.role) == (_S.IN_SERVICE, Role.DECODE)
    assert "the backend cannot" in status.message
    assert [outcome for _, outcome in ends(world)] == [Outcome.FAILED]
    assert world.gate.places == {"r1": {"i1"}}


async def test_an_engine_that_broke_is_stopped_and_counts_as_failed(world: World) -> None:
    broke = RoleAnswer(done=False, message="unhealthy, restart required", intact=False)
    world.roles.answers, world.roles.live = [broke], None
    await world.do(TO_PREFILL)
    await world.passes(8)
    assert world.status().state is _S.FAILED
    assert "unhealthy, restart required" in world.status().message
    assert [outcome for _, outcome in ends(world)] == [Outcome.FAILED]
    assert world.gate.places == {"r1": set()}


async def test_an_engine_that_is_busy_after_all_is_asked_again(world: World) -> None:
    world.roles.answers = [RoleAnswer(done=False, message="not idle", later=True)] * 3
    await world.do(TO_PREFILL)
    await world.passes(12)
    assert len(world.roles.asked) == 4
    assert world.status().role is Role.PREFILL


async def test_an_answer_that_was_lost_is_settled_by_the_engines_own_word(world: World) -> None:
    world.roles.answers = [RoleAnswer(done=False, message="no answer", later=True)]
    world.roles.obeys_silently = True
    await world.do(TO_PREFILL)
    await world.passes(8)
    assert (world.status().state, world.status().role) == (_S.IN_SERVICE, Role.PREFILL)
    assert [outcome for _, outcome in ends(world)] == [Outcome.DONE]


async def test_one_whose_role_nobody_can_tell_is_never_let_in(world: World) -> None:
    world.roles.answers = [RoleAnswer(done=False, message="no answer", later=True)] * 100
    world.roles.live = None
    await world.do(TO_PREFILL)
    await world.passes(50)
    assert world.status().state is _S.WITHDRAWN
    await world.passes(20)
    assert world.status().state is _S.FAILED
    assert "of no known role" in world.status().message
    assert world.gate.places == {"r1": set()}


async def test_one_that_is_still_at_it_is_not_let_in_as_what_it_was(world: World) -> None:
    under_way = RoleAnswer(done=False, message="in progress", intact=False, later=True)
    world.roles.answers = [under_way] * 100
    await world.do(TO_PREFILL)
    await world.passes(70)
    assert world.status().state is _S.FAILED
    assert world.gate.places == {"r1": set()}


@pytest.mark.parametrize("reason", [WithdrawReason.SICK, WithdrawReason.OPERATOR])
async def test_what_is_kept_out_is_not_let_in_by_a_switch(
    world: World, reason: WithdrawReason
) -> None:
    await world.do(Withdraw(reason, None))
    result = await world.do(TO_PREFILL)
    assert (result.outcome, world.status().state) == (Outcome.REFUSED, _S.WITHDRAWN)
    assert "reinstate it first" in result.message
    assert world.status().withdraw_reason is reason


async def test_one_that_is_never_ready_to_switch_goes_back_as_what_it_says(world: World) -> None:
    world.roles.answers = [RoleAnswer(done=False, message="not idle", later=True)] * 100
    await world.do(TO_PREFILL)
    await world.passes(70)
    assert (world.status().state, world.status().role) == (_S.IN_SERVICE, Role.DECODE)
    assert [outcome for _, outcome in ends(world)] == [Outcome.FAILED]


@pytest.mark.parametrize("live", [Role.PREFILL, Role.DECODE])
async def test_a_crash_in_the_midst_is_settled_by_the_engines_own_word(
    world: World, live: Role
) -> None:
    world.roles.block = asyncio.Event()
    command = world.command(TO_PREFILL)
    await world.body.execute(command)
    passing = asyncio.create_task(world.passes(8))
    await asyncio.wait_for(world.roles.heard.wait(), 20)
    passing.cancel()
    await world.restart()
    assert world.status().state is _S.WITHDRAWN
    world.roles.block, world.roles.live = None, live
    await world.passes(4)
    assert (world.status().state, world.status().role) == (_S.IN_SERVICE, Role.PREFILL)
    assert ends(world)[-1] == (command.command_id, Outcome.DONE)
    await world.restart()
    assert world.status().role is Role.PREFILL


async def test_a_crash_before_it_was_asked_waits_for_quiet_anew(world: World) -> None:
    world.eyes.scrape = BUSY
    await world.do(TO_PREFILL)
    await world.passes(4)
    await world.restart()
    await world.passes(4)
    assert world.roles.asked == []
    world.eyes.scrape = EngineScrape(running=0.0, waiting=0.0, transferring=0.0, kv_usage=0.0)
    await world.passes(8)
    assert world.status().role is Role.PREFILL


async def test_commands_in_the_midst(world: World) -> None:
    world.eyes.scrape = BUSY
    first = world.command(TO_PREFILL)
    await world.body.execute(first)
    soft = Withdraw(WithdrawReason.SOFT_SCALE_IN, 20.0)
    for action in (soft, drain(), SwitchRole(Role.DECODE)):
        result = await world.do(action)
        assert (result.outcome, "is switching to prefill" in result.message) == (
            Outcome.REFUSED,
            True,
        )
    assert (await world.do(Reinstate())).outcome is Outcome.DONE
    assert world.status().state is _S.IN_SERVICE
    assert ends(world) == [(first.command_id, Outcome.FAILED)]
    await world.passes(10)
    assert world.roles.asked == []


async def test_a_terminate_does_not_wait_for_an_engine_that_is_asked(world: World) -> None:
    world.roles.block = asyncio.Event()
    switch = world.command(TO_PREFILL)
    await world.body.execute(switch)
    passing = asyncio.create_task(world.passes(8))
    await asyncio.wait_for(world.roles.heard.wait(), 20)
    passing.cancel()
    assert (await world.do(Reinstate())).outcome is Outcome.REFUSED
    end = world.command(Terminate(1.0))
    assert (await world.body.execute(end)).outcome is Outcome.ACCEPTED
    assert ends(world) == [(switch.command_id, Outcome.FAILED)]
    world.roles.block.set()
    await world.passes(8)
    assert world.status().state is _S.TERMINATED
    assert ends(world)[-1] == (end.command_id, Outcome.DONE)


async def test_an_engine_that_dies_in_the_midst_fails_the_switch(world: World) -> None:
    world.eyes.scrape = BUSY
    await world.do(TO_PREFILL)
    world.processes.end(world.processes.only, -11)
    await world.passes(1)
    assert world.status().state is _S.FAILED
    assert [outcome for _, outcome in ends(world)] == [Outcome.FAILED]


async def _lost_journal(world: World) -> None:
    await world.die()
    for path in world.folder.glob("journal*"):
        path.unlink()
    await world.restart()


async def test_a_stray_that_has_switched_is_let_in_as_what_it_is_now(world: World) -> None:
    await world.do(TO_PREFILL)
    await world.passes(8)
    await _lost_journal(world)
    assert world.status().role is Role.DECODE
    assert isinstance(world.gate, RoleGate)
    world.gate.roles.clear()
    await world.passes(4)
    assert (world.status().state, world.status().role) == (_S.IN_SERVICE, Role.PREFILL)
    assert world.gate.roles == [(Role.PREFILL, True)]


async def test_a_stray_that_never_says_its_role_is_not_left_out_for_ever(world: World) -> None:
    world.roles.live = None
    await _lost_journal(world)
    await world.passes(10)
    assert world.status().state is _S.LAUNCHING
    await world.passes(LEARN_TRIES + 5)
    assert (world.status().state, world.status().role) == (_S.IN_SERVICE, Role.DECODE)


async def test_a_gate_that_left_the_configuration_is_unknown_and_said(world: World) -> None:
    complaining = replace(launch(), template="either", parameters={}, gpu_indices=(1,))
    await world.do(complaining, "i2")
    await world.passes(2)
    instance = world.body._registry.instances["i2"]
    gone = replace(instance.record.launch, gate=Gate("none", options={"complaint": "no upstream"}))
    instance.record = replace(instance.record, launch=gone)
    asked = world.gate.asked
    await world.body._gatekeeper.check(instance)
    assert world.gate.asked == asked
    assert instance.view is not None
    assert (instance.view.places, instance.view.message) == ({"gate": None}, "no upstream")


def test_only_prefill_and_decode_switch() -> None:
    told = {"command": ["x"], "role": "aggregated", "roleSwitch": {}}
    with pytest.raises(ValueError, match="roleSwitch is for prefill and decode"):
        Template.model_validate(told)
