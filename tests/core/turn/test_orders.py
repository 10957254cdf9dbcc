"""Orders: sent, refused, too late; soft scale-in and its way back; a part that raises."""

from __future__ import annotations

import pytest

from heteroscale.words import InstanceState as S
from heteroscale.words import Outcome, Role, WithdrawReason
from heteroscale_coordinator.core import evaluate as evaluation
from heteroscale_coordinator.core.events import (
    ApplyService,
    CommandAnswered,
    DrainInstance,
    ReinstateInstance,
    ResumeService,
    ScaleService,
)
from heteroscale_coordinator.core.model import Action, CommandState, Verb
from heteroscale_coordinator.core.policy import ServiceView, decide
from tests.core.turn.rig import SPEC, answer_to, until_withdrawn
from tests.core.world import World


class TestCommands:
    def test_a_refused_launch_is_tried_elsewhere(self, world: World) -> None:
        world.agents["n0"].refuses = world.agents["n1"].refuses = "no such template"
        scale = ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 4})
        assert not answer_to(world, scale).error
        world.run(400)
        assert world.serving(Role.DECODE) == 4
        assert world.serving(Role.PREFILL) == 2
        homes = {i.agent_id for i in world.state.instances.values() if i.state is S.IN_SERVICE}
        assert homes & {"n2", "n3"}

    def test_a_launch_that_is_never_confirmed_fails_and_frees_its_gpus(self, world: World) -> None:
        for agent in world.agents.values():
            agent.silent = True  # deaf: it connects no more, but we do not know it yet
        answer_to(world, ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 4}))
        world.run(10)
        pending = world.instances(Role.DECODE, S.PENDING)
        assert pending
        world.run(120)
        assert all(world.state.instances[i].state is S.FAILED for i in pending)

    def test_a_stale_answer_of_another_agent_is_ignored(self, world: World) -> None:
        instance_id = world.instances(Role.DECODE)[0]
        answer_to(world, DrainInstance("r", instance_id))
        command = next(c for c in world.state.commands.values() if c.verb is Verb.DRAIN)
        other = next(name for name in world.agents if name != command.agent_id)
        world._inbox.clear()
        world.send(CommandAnswered(other, command.command_id, Outcome.DONE))
        world.turn()
        assert world.state.commands[command.command_id].state is CommandState.OPEN


class TestSoftScaleIn:
    @pytest.fixture
    def withdrawn(self, world: World) -> World:
        return until_withdrawn(world)

    def test_it_is_observed_leased_and_then_drained(self, withdrawn: World) -> None:
        world = withdrawn
        out = world.instances(Role.DECODE, S.WITHDRAWN)
        reasons = {world.state.instances[i].reason for i in out}
        assert reasons == {WithdrawReason.SOFT_SCALE_IN}
        world.run(200)
        assert world.instances(Role.DECODE, S.WITHDRAWN) == out, "leases are renewed"
        world.run(200)
        assert all(world.state.instances[i].state is S.TERMINATED for i in out)

    def test_rising_demand_takes_it_back(self, withdrawn: World) -> None:
        world = withdrawn
        out = world.instances(Role.DECODE, S.WITHDRAWN)
        world.traffic.arrivals = 40
        world.run(60)
        assert all(world.state.instances[i].state is S.IN_SERVICE for i in out)
        assert any(d.action is Action.REINSTATE for d in world.decisions)

    def test_what_is_on_its_way_back_is_not_taken_back_again(
        self, withdrawn: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = withdrawn
        world.send(ScaleService("r", "chat", {Role.DECODE: SPEC.roles[Role.DECODE].max}))
        monkeypatch.setattr(world, "_obey", lambda _: None)
        seen = len(world.decisions)
        world.run(10)
        first, second = world.decisions[seen : seen + 2]
        assert (first.action, second.action) == (Action.REINSTATE, Action.HOLD)
        assert first.instance_ids
        assert second.reason.startswith("hold: under way: ")

    def test_what_an_operator_takes_back_stays(self, withdrawn: World) -> None:
        world = withdrawn
        mine = world.instances(Role.DECODE, S.WITHDRAWN)[0]
        before = world.state.services["chat"].memory.wanted[Role.DECODE]
        assert not answer_to(world, ReinstateInstance("r", mine)).error
        assert world.state.services["chat"].memory.wanted[Role.DECODE] == before + 1
        world.run(30)
        assert world.state.instances[mine].state is S.IN_SERVICE

    def test_without_a_coordinator_it_returns_by_itself(self, withdrawn: World) -> None:
        world = withdrawn
        out = world.instances(Role.DECODE, S.WITHDRAWN)
        for _ in range(60):  # time passes for the agents alone
            world.now += 1
            world._agents_live()
        engines = [e for agent in world.agents.values() for e in agent.engines.values()]
        states = {e.fact.state for e in engines if e.fact.instance_id in out}
        assert states == {S.IN_SERVICE}


class TestQuarantine:
    def test_a_service_whose_part_raises_stops_nobody(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.send(ApplyService("r", "second", SPEC, ""))

        def breaks(view: ServiceView) -> object:
            if view.name == "chat":
                raise ZeroDivisionError("a mistake of ours")
            return decide(view)

        monkeypatch.setattr(evaluation, "decide", breaks)
        world.run(60)
        assert "ZeroDivisionError" in world.state.services["chat"].quarantine
        assert world.serving(Role.DECODE) == 4, "the second service came up beside it"
        monkeypatch.undo()
        answer_to(world, ResumeService("r", "chat"))
        assert not world.state.services["chat"].quarantine
