"""Wishes of operators: granted, or refused in words."""

from __future__ import annotations

import pytest

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core.events import (
    ApplyService,
    DeleteService,
    DrainInstance,
    Event,
    PauseService,
    RankChanged,
    ReinstateInstance,
    ResumeService,
    ScaleService,
    SwitchInstanceRole,
)
from heteroscale_coordinator.core.model import CommandState, RankFact, Verb
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.turn.rig import SPEC, answer_to, until_withdrawn
from tests.core.world import World


class TestWishes:
    def test_pause_keeps_hands_off_and_resume_acts(self, world: World) -> None:
        assert not answer_to(world, PauseService("r", "chat", "looking")).error
        world.traffic.arrivals = 30
        count = len(world.commands)
        world.run(120)
        assert len(world.commands) == count
        assert world.decisions[-1].advisory
        answer_to(world, ResumeService("r", "chat"))
        world.run(120)
        assert len(world.commands) > count

    @pytest.mark.parametrize(
        ("wish", "says"),
        [
            (PauseService("r", "nope", ""), "no service 'nope'"),
            (ScaleService("r", "chat", {Role.DECODE: 99}), "outside its bounds 2 to 8"),
            (ScaleService("r", "chat", {Role.FFN: 1}), "no role ffn"),
            (DrainInstance("r", "i-nope"), "no instance 'i-nope'"),
            (ReinstateInstance("r", "i-nope"), "no instance 'i-nope'"),
            (SwitchInstanceRole("r", "i-nope", Role.DECODE), "no instance 'i-nope'"),
        ],
    )
    def test_a_wish_that_cannot_be_granted_says_why(
        self, world: World, wish: Event, says: str
    ) -> None:
        assert says in answer_to(world, wish).error

    def test_a_drained_instance_is_replaced(self, world: World) -> None:
        victim = world.instances(Role.DECODE)[0]
        assert not answer_to(world, DrainInstance("r", victim)).error
        world.run(90)
        assert world.state.instances[victim].state is S.TERMINATED
        assert world.serving(Role.DECODE) == 2

    def test_one_that_switched_its_role_counts_where_it_is_and_stays_there(
        self, world: World
    ) -> None:
        answer_to(world, ScaleService("r", "chat", {Role.DECODE: 3}))
        world.run(60)
        answer_to(world, PauseService("r", "chat", "by hand"))
        one = world.instances(Role.DECODE)[0]
        before = {role: len(world.instances(role)) for role in (Role.PREFILL, Role.DECODE)}
        assert not answer_to(world, SwitchInstanceRole("r", one, Role.PREFILL)).error
        world.run(90)
        assert one in world.instances(Role.PREFILL)
        assert len(world.instances(Role.PREFILL)) == before[Role.PREFILL] + 1
        assert len(world.instances(Role.DECODE)) == before[Role.DECODE] - 1
        command = next(c for c in world.state.commands.values() if c.verb is Verb.SWITCH_ROLE)
        assert command.state is CommandState.DONE
        again = answer_to(world, SwitchInstanceRole("r", one, Role.PREFILL))
        assert "is prefill already" in again.error

    @pytest.mark.parametrize("why_not", ["", "it did not want to"])
    def test_nothing_is_launched_for_one_that_switches_or_cannot(
        self, world: World, why_not: str
    ) -> None:
        answer_to(world, ScaleService("r", "chat", {Role.DECODE: 3}))
        world.run(60)
        one, before = world.instances(Role.DECODE)[0], set(world.state.instances)
        for agent in world.agents.values():
            agent.slow_to_switch = True
        assert not answer_to(world, SwitchInstanceRole("r", one, Role.PREFILL)).error
        world.run(40)
        assert world.state.instances[one].state is S.WITHDRAWN
        command = next(c for c in world.state.commands.values() if c.verb is Verb.SWITCH_ROLE)
        assert command.state is CommandState.ACCEPTED
        world.end_switch(command, why_not)
        world.run(90)
        assert set(world.state.instances) == before
        there = world.serving(Role.PREFILL), world.serving(Role.DECODE)
        assert there == ((1, 3) if why_not else (2, 2))

    def test_one_that_dies_while_it_switches_is_replaced_as_what_it_was(self, world: World) -> None:
        answer_to(world, ScaleService("r", "chat", {Role.DECODE: 3}))
        world.run(60)
        one = world.instances(Role.DECODE)[0]
        for agent in world.agents.values():
            agent.slow_to_switch = True
        answer_to(world, SwitchInstanceRole("r", one, Role.PREFILL))
        world.run(10)
        world.kill(one)
        world.run(90)
        assert (world.serving(Role.PREFILL), world.serving(Role.DECODE)) == (1, 3)

    def test_bounds_win_over_a_switch(self, world: World) -> None:
        for role, other, least in ((Role.DECODE, Role.PREFILL, 2), (Role.PREFILL, Role.DECODE, 1)):
            one = world.instances(role)[0]
            error = answer_to(world, SwitchInstanceRole("r", one, other)).error
            assert f"{role} would be below its min {least}" in error

    def test_a_serving_instance_cannot_be_reinstated(self, world: World) -> None:
        victim = world.instances(Role.DECODE)[0]
        assert "nothing to take back" in answer_to(world, ReinstateInstance("r", victim)).error

    def test_delete_with_drain_empties_first(self, world: World) -> None:
        assert not answer_to(world, DeleteService("r", "chat", drain=True)).error
        assert "chat" in world.state.services
        world.run(60)
        assert "chat" not in world.state.services
        assert not any(agent.engines for agent in world.agents.values())

    def test_delete_alone_leaves_instances_running(self, world: World) -> None:
        answer_to(world, DeleteService("r", "chat"))
        world.run(60)
        assert sum(len(agent.engines) for agent in world.agents.values()) == 3

    def test_what_a_service_has_to_keep_is_said(self, world: World) -> None:
        alone = ServiceSpec.model_validate(
            {"roles": {"aggregated": {"template": "whole", "min": 1, "max": 2, "target": 1000}}}
        )
        error = answer_to(world, ApplyService("r", "chat", alone, "")).error
        assert "still has prefill instances" in error or "still has decode instances" in error
        assert world.state.services["chat"].spec == SPEC

    def test_while_it_is_deleted_it_is_not_applied_anew(self, world: World) -> None:
        answer_to(world, DeleteService("r", "chat", drain=True))
        assert "is being deleted" in answer_to(world, ApplyService("r", "chat", SPEC, "")).error

    def test_counts_by_hand_stay_inside_the_budget(self, world: World) -> None:
        tight = SPEC.model_copy(update={"max_gpus": 4})
        answer_to(world, ApplyService("r", "chat", tight, ""))
        found = answer_to(world, ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 4}))
        assert found.error == "6 GPUs are above maxGpus 4"
        assert not answer_to(world, ScaleService("r", "chat", {Role.DECODE: 3})).error


class TestWishesForOneInstance:
    def test_one_order_at_a_time(self, world: World) -> None:
        one = world.instances(Role.DECODE)[0]
        silent = world.agents[world.state.instances[one].agent_id]
        silent.silent = True  # the first order stays open
        answer_to(world, ScaleService("r", "chat", {Role.DECODE: 3}))
        assert not answer_to(world, DrainInstance("r", one)).error
        for wish in (DrainInstance("s", one), SwitchInstanceRole("s", one, Role.PREFILL)):
            assert "has an order under way" in answer_to(world, wish).error

    def test_a_withdrawn_one_is_taken_back_and_wanted_once(self, world: World) -> None:
        one = until_withdrawn(world).instances(Role.DECODE, S.WITHDRAWN)[0]
        agent = world.agents[world.state.instances[one].agent_id]
        before = world.state.services["chat"].memory.wanted[Role.DECODE]
        agent.silent = True
        assert not answer_to(world, ReinstateInstance("r", one)).error
        assert world.state.services["chat"].memory.wanted[Role.DECODE] == before + 1
        assert "has an order under way" in answer_to(world, ReinstateInstance("s", one)).error
        assert world.state.services["chat"].memory.wanted[Role.DECODE] == before + 1

    def test_what_is_not_running_is_not_drained_and_switches_no_role(self, world: World) -> None:
        answer_to(world, ScaleService("r", "chat", {Role.DECODE: 3}))
        world.run(5)
        (new,) = world.instances(Role.DECODE, S.LAUNCHING)
        assert "only a running instance" in answer_to(world, DrainInstance("r", new)).error
        switch = SwitchInstanceRole("r", new, Role.PREFILL)
        assert "only one in service switches" in answer_to(world, switch).error

    def test_what_another_owns_is_left_to_it(self, world: World) -> None:
        mine = world.state.instances[world.instances(Role.DECODE)[0]]
        fact = RankFact(
            "i-theirs", "chat", Role.DECODE, S.IN_SERVICE, 1, gpu_indices=(3,), origin="kubernetes"
        )
        world.send(RankChanged(mine.agent_id, fact))
        world.turn()
        assert "belongs to kubernetes" in answer_to(world, DrainInstance("r", "i-theirs")).error
        switch = SwitchInstanceRole("r", "i-theirs", Role.PREFILL)
        assert "it has an owner" in answer_to(world, switch).error

    def test_a_switch_keeps_to_roles_and_maxima(self, world: World) -> None:
        answer_to(world, ScaleService("r", "chat", {Role.PREFILL: 4, Role.DECODE: 8}))
        world.run(60)
        one = world.instances(Role.DECODE)[0]
        switch = SwitchInstanceRole("r", one, Role.PREFILL)
        assert "prefill would be above its max 4" in answer_to(world, switch).error
        nowhere = SwitchInstanceRole("r", one, Role.FFN)
        assert "has no role ffn to switch to" in answer_to(world, nowhere).error

    def test_one_that_was_sent_term_does_not_come_back(self, world: World) -> None:
        one = world.state.instances[world.instances(Role.DECODE)[0]]
        fact = RankFact(
            one.instance_id, "chat", Role.DECODE, S.DRAINING, 9, gpu_indices=(0,), terminating=True
        )
        world.send(RankChanged(one.agent_id, fact))
        world.turn()
        wish = ReinstateInstance("r", one.instance_id)
        assert "has been sent TERM" in answer_to(world, wish).error
