"""The policy within the turn: what it asks for is carried out, on what serves and for whom it may."""

from __future__ import annotations

from typing import Any

import pytest

from heteroscale.words import GateState, Role, WithdrawReason
from heteroscale.words import InstanceState as S
from heteroscale_coordinator.core.events import (
    ApplyService,
    DrainInstance,
    RankChanged,
    ScaleService,
)
from heteroscale_coordinator.core.memory import SoftScaleIn
from heteroscale_coordinator.core.model import RankFact, Verb
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.policy.build import PLAIN
from tests.core.toy import Engine
from tests.core.world import World


def spec_of(**changes: Any) -> ServiceSpec:
    base: dict[str, Any] = {
        "roles": {
            "prefill": {"template": "prefill", "min": 1, "max": 4, "target": 5000},
            "decode": {"template": "decode", "min": 2, "max": 8, "target": 1000},
        },
        "ratio": "1:2",
        "policy": PLAIN,
    }
    return ServiceSpec.model_validate({**base, **changes})


def world_of(spec: ServiceSpec, agents: int = 6, **traffic: float) -> World:
    """Return a world in which the service is up."""
    world = World()
    for index in range(agents):
        world.join(f"n{index}", {"s1": f"pod-{index // 2}"}, ["H20"] * 4)
    world.send(ApplyService("r", "chat", spec, ""))
    world.run(60)
    for name, value in traffic.items():
        setattr(world.traffic, name, value)
    world.run(300)
    return world


def least_serving(world: World, seconds: int) -> dict[Role, int]:
    """Let time pass; return the fewest of each role that were in service."""
    fewest = {role: world.serving(role) for role in (Role.PREFILL, Role.DECODE)}
    for _ in range(seconds):
        world.run(1)
        for role, n in fewest.items():
            fewest[role] = min(n, world.serving(role))
    return fewest


class TestWhileOthersStart:
    """A scale-in never withdraws what serves for the sake of what is still starting."""

    @pytest.fixture
    def growing(self) -> World:
        world = world_of(spec_of(), prefill_capacity=20000.0, arrivals=9.3)
        world.startup = 300.0
        world.send(ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 4}))
        world.run(15)
        assert len(world.instances(Role.DECODE, S.LAUNCHING)) == 2
        return world

    def test_a_maximum_lowered_meanwhile_is_reached_later(self, growing: World) -> None:
        spec = spec_of(
            roles={
                "prefill": {"template": "prefill", "min": 1, "max": 1, "target": 5000},
                "decode": {"template": "decode", "min": 2, "max": 2, "target": 1000},
            }
        )
        growing.send(ApplyService("r", "chat", spec, ""))
        assert least_serving(growing, 700) == {Role.PREFILL: 1, Role.DECODE: 2}
        assert (growing.serving(Role.PREFILL), growing.serving(Role.DECODE)) == (1, 2)
        assert len(growing.instances(Role.DECODE, S.TERMINATED)) == 2

    def test_a_scale_by_hand_taken_back_is_reached_later(self, growing: World) -> None:
        growing.send(ScaleService("r", "chat", {Role.PREFILL: 1, Role.DECODE: 2}))
        fewest = least_serving(growing, 1500)
        assert fewest == {Role.PREFILL: 1, Role.DECODE: 2}

    def test_who_returns_stays_until_what_replaced_it_serves(self) -> None:
        world = world_of(spec_of(), 8, prefill_capacity=20000.0, arrivals=9.3)
        world.startup = 400.0
        home = world.state.instances[world.instances(Role.PREFILL, S.IN_SERVICE)[0]].agent_id
        world.agents[home].silent = True
        world.run(140)
        assert world.instances(Role.PREFILL, S.LOST)
        world.agents[home].silent = False
        world.hello(world.agents[home])
        world.run(5)
        assert least_serving(world, 1000)[Role.PREFILL] == 1


def test_a_scale_by_hand_is_a_change_that_the_law_waits_for() -> None:
    world = world_of(spec_of(), arrivals=2.0)
    world.run(700)
    world.send(ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 4}))
    world.run(500)
    assert (world.serving(Role.PREFILL), world.serving(Role.DECODE)) == (2, 4)
    world.run(200)
    assert world.instances(Role.DECODE, S.WITHDRAWN), "after the cooldown it follows demand"


def test_static_engines_above_a_maximum_hold_up_nothing() -> None:
    world = World()
    for index in range(6):
        agent = world.join(f"n{index}", {"s1": "pod"}, ["H20"] * 4)
        if index < 3:
            fact = RankFact(
                f"static-{index}", "chat", Role.DECODE, S.IN_SERVICE, 1, gpu_indices=(3,),
                origin="config", startup_time=1.0, gate_state=GateState.OPEN,
            )  # fmt: skip
            agent.engines[fact.instance_id] = Engine(fact, 0)
            world.send(RankChanged(agent.agent_id, fact))
    world.turn()
    roles = {
        "prefill": {"template": "prefill", "min": 1, "max": 6, "target": 5000},
        "decode": {"template": "decode", "min": 1, "max": 2, "target": 1000},
    }
    spec = spec_of(roles=roles, ratio={"min": 0.5, "max": 3}, slo={"ttft": "1s"})
    world.traffic.arrivals = 14
    world.send(ApplyService("r", "chat", spec, ""))
    world.run(600)
    assert world.serving(Role.PREFILL) >= 3
    assert world.serving(Role.DECODE) == 3
    assert not [c for c in world.commands if c.instance_id.startswith("static")]


class TestDrains:
    """A drain that lasts, because requests in flight do."""

    @pytest.fixture
    def slow(self) -> World:
        quick = {"cooldownIn": "10s", "cooldownOut": "10s", "observation": "60s"}
        world = world_of(spec_of(policy=quick, maxGpus=12), 3, arrivals=14.0)
        world.run(200)
        lives = world._engine_lives
        world._engine_lives = (  # type: ignore[method-assign]
            lambda agent, engine: None if engine.fact.state is S.DRAINING else lives(agent, engine)
        )
        return world

    def test_what_drains_for_a_scale_in_comes_back_before_anything_is_launched(
        self, slow: World
    ) -> None:
        world = slow
        world.traffic.arrivals = 2
        while not world.instances(Role.DECODE, S.DRAINING):
            world.run(1)
        leaving = [
            *world.instances(Role.PREFILL, S.DRAINING),
            *world.instances(Role.DECODE, S.DRAINING),
        ]
        asked, world.traffic.arrivals = len(world.commands), 30
        world.run(60)
        orders = [(c.verb, c.instance_id) for c in world.commands[asked:]]
        assert [i for verb, i in orders[: len(leaving)]] == sorted(leaving)
        assert {verb for verb, _ in orders[: len(leaving)]} == {Verb.REINSTATE}
        assert all(world.state.instances[i].state is S.IN_SERVICE for i in leaving)
        world.run(200)
        assert not world.instances(Role.DECODE, S.DRAINING)

    def test_what_an_operator_drains_is_replaced_not_called_back(self, slow: World) -> None:
        world = slow
        victim = world.instances(Role.DECODE, S.IN_SERVICE)[0]
        before = world.serving(Role.DECODE)
        world.send(DrainInstance("r", victim, "maintenance"))
        world.run(60)
        assert world.state.instances[victim].state is S.DRAINING
        assert world.serving(Role.DECODE) == before


def test_a_stray_comes_back_and_nobody_observes_it() -> None:
    """Withdrawn for a scale-in that no coordinator remembers: taken back, and counted as it serves."""
    world = world_of(spec_of(), arrivals=9.0)
    fact = RankFact(
        "i-stray", "chat", Role.DECODE, S.WITHDRAWN, 5, gpu_indices=(3,),
        reason=WithdrawReason.SOFT_SCALE_IN,
    )  # fmt: skip
    world.agents["n5"].engines["i-stray"] = Engine(fact, 0)
    world.send(RankChanged("n5", fact))
    watched: list[SoftScaleIn | None] = []
    world.on_turn = lambda world: watched.append(world.state.services["chat"].memory.soft)
    world.run(10)
    assert world.state.instances["i-stray"].state is S.IN_SERVICE
    assert set(watched) == {None}
