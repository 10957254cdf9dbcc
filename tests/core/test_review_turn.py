"""Stories that a review told: silence that never ends, ranks that disagree, endpoints used anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.words import GpuHealth, Outcome, Role
from heteroscale.words import InstanceState as S
from heteroscale_coordinator.core import silence
from heteroscale_coordinator.core.command import issue
from heteroscale_coordinator.core.devices import (
    NO_DEVICES,
    GpuSample,
    KnownDevices,
    NicFact,
    NicSample,
)
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import (
    ApplyService,
    CommandAnswered,
    DeleteService,
    ForgetAgent,
    InventoryLearned,
    PauseService,
    RankChanged,
    ReportReceived,
)
from heteroscale_coordinator.core.model import Instance, Rank, RankFact, Verb
from heteroscale_coordinator.core.sites import nodes
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.step import renewals
from tests.core.turn.rig import SPEC, answer_to, removals, until_withdrawn, up
from tests.core.world import World


@pytest.fixture
def world() -> World:
    """Ten agents in two domains, and a service that is up at its least."""
    return up(10, pods=2)


def empty_agents(world: World) -> list[str]:
    return [name for name, agent in world.agents.items() if not agent.engines]


class TestPartition:
    def test_nodes_that_are_gone_do_not_freeze_the_others(self, world: World) -> None:
        for name in empty_agents(world)[:3]:
            world.agents[name].silent = True
        world.run(600)
        world.kill(world.instances(Role.DECODE, S.IN_SERVICE)[0])
        world.run(60)
        assert world.serving(Role.DECODE) == 2, "the engine that died elsewhere was replaced"

    def test_deaths_far_apart_in_time_are_no_partition(self, world: World) -> None:
        for name in empty_agents(world)[:3]:
            world.agents[name].silent = True
            world.run(2 * world.state.rules.lost_after + 60)
            assert not world.state.partition

    def test_a_domain_that_falls_silent_at_once_is_one(self, world: World) -> None:
        agents = list(world.state.agents.values())
        for agent in agents[:2]:
            agent.silent = True
        found = silence.cut_off(world.state, agents[:2])
        assert set(found) == {"n0", "n1"}
        assert "2 of 5 agents of s1=pod-0" in found["n0"]

    def test_an_operator_ends_a_partition_that_is_none(self, world: World) -> None:
        instances = [world.state.instances[i] for i in world.instances(Role.DECODE)]
        victims = {instance.agent_id for instance in instances}
        others = set(list(world.agents)[:5]) - victims
        for name in victims | others:
            world.agents[name].silent = True
        world.run(400)
        assert world.state.partition
        assert world.serving(Role.DECODE) == 0
        heard = next(name for name in world.agents if not world.agents[name].silent)
        assert "is heard" in answer_to(world, ForgetAgent("r", heard)).error
        for name in victims:
            assert not answer_to(world, ForgetAgent("r", name)).error
        world.run(120)
        assert world.serving(Role.DECODE) == 2

    def test_the_forgotten_leave_no_agent_behind(self, world: World) -> None:
        gone = empty_agents(world)[0]
        world.agents[gone].silent = True
        world.run(world.state.rules.forget_after + 60)
        assert gone not in world.state.agents

    @pytest.mark.parametrize("heard_first", ["report", "fact"])
    def test_a_host_that_only_slept_is_known_again(self, world: World, heard_first: str) -> None:
        """Its stream lived on: it sends no hello by itself, and a report lists no instances."""
        asleep = world.state.instances[world.instances(Role.DECODE)[0]].agent_id
        agent = world.agents[asleep]
        agent.silent = True
        world.run(world.state.rules.silent_after + 5)
        assert not answer_to(world, ForgetAgent("r", asleep)).error
        world.run(600)
        agent.silent = False
        if heard_first == "fact":
            world.send(RankChanged(asleep, next(iter(agent.engines.values())).fact))
        world.run(600)
        assert world.state.agents[asleep].incarnation == agent.incarnation
        ended = (S.TERMINATED, S.FAILED, S.LOST)
        known = {i.instance_id for i in world.state.instances.values() if i.state not in ended}
        assert known == {key for each in world.agents.values() for key in each.engines}


class TestRestart:
    def test_one_dead_node_does_not_keep_a_new_coordinator_blind(self, world: World) -> None:
        victim = world.state.instances[world.instances(Role.DECODE)[0]]
        world.agents[victim.agent_id].silent = True
        world.run(300)
        kept = (world.state.services, world.state.instances, world.state.commands)
        fresh = World(start=world.now)
        fresh._ids = world._ids
        fresh.state.services, fresh.state.instances, fresh.state.commands = kept
        fresh.state.begin(world.now)
        fresh.agents = world.agents
        for agent in fresh.agents.values():
            if not agent.silent:
                fresh.hello(agent)
        fresh.traffic.arrivals = 40
        fresh.run(200)
        assert fresh.serving(Role.DECODE) > 2, "it grows with demand"

    def test_a_replaced_instance_is_known_as_such_by_its_first_word(self) -> None:
        world = World()
        world.join("n0", {}, ["H20"])
        world.turn()
        rank = Rank("n0", (0,), S.IN_SERVICE, 3)
        world.state.instances["i"] = Instance(
            *("i", "chat", Role.DECODE, (rank,), S.LOST, 3, world.now, world.now),
            silent_from=S.IN_SERVICE,
        )
        world.send(RankChanged("n0", RankFact("i", "chat", Role.DECODE, S.IN_SERVICE, 3)))
        world.turn()
        assert world.state.instances["i"].replaced


class TestRanks:
    def two(self, world: World, *states: S) -> Instance:
        for number, state in enumerate(states):
            fact = RankFact(*("i-two", "chat", Role.DECODE, state, 2, number, 2), gpu_indices=(3,))
            world.send(RankChanged(f"n{number}", fact))
        world.turn()
        return world.state.instances["i-two"]

    def test_a_refused_rank_fails_the_instance_for_good(self, world: World) -> None:
        self.two(world, S.LAUNCHING, S.LAUNCHING)
        instance = world.state.instances["i-two"]
        ranks = (replace(instance.ranks[0], state=S.PENDING, generation=0), instance.ranks[1])
        world.state.instances["i-two"] = replace(instance, ranks=ranks, state=S.PENDING)
        draft = Draft(world.state, world.now, world._mint)
        from_launch = _launch_of(draft, world.state.instances["i-two"])
        world.state.apply(draft.changes)
        world.send(CommandAnswered("n0", from_launch, Outcome.REFUSED, "no room"))
        world.turn()
        assert world.state.instances["i-two"].state is S.FAILED
        fact = RankFact("i-two", "chat", Role.DECODE, S.LAUNCHING, 2, 1, 2, gpu_indices=(3,))
        world.send(RankChanged("n1", fact))
        world.turn()
        assert world.state.instances["i-two"].state is S.FAILED, "one rank's word undoes nothing"

    def test_a_rank_that_left_by_itself_fails_the_instance(self, world: World) -> None:
        assert self.two(world, S.IN_SERVICE, S.TERMINATED).state is S.FAILED

    def test_a_live_rank_of_a_failed_instance_holds_its_gpus(self, world: World) -> None:
        self.two(world, S.FAILED, S.IN_SERVICE)
        draft = Draft(world.state, world.now, world._mint)
        view = {node.agent_id: node for node in nodes(draft)}
        assert 3 not in view["n1"].free
        assert 3 in view["n0"].free

    def test_one_rank_heard_does_not_hide_another_that_is_silent(self, world: World) -> None:
        self.two(world, S.IN_SERVICE, S.IN_SERVICE)
        world.agents["n1"].silent = True
        world.run(30)
        assert world.state.instances["i-two"].state is S.UNKNOWN
        world.send(RankChanged("n0", RankFact("i-two", "chat", Role.DECODE, S.IN_SERVICE, 3, 0, 2)))
        world.turn()
        assert world.state.instances["i-two"].state is S.UNKNOWN
        world.run(200)
        assert world.instances(Role.DECODE, S.LOST) == ["i-two"]

    def test_a_rank_without_its_first_is_stopped(self, world: World) -> None:
        fact = RankFact("i-late", "chat", Role.DECODE, S.IN_SERVICE, 2, 1, 2, gpu_indices=(2,))
        world.send(RankChanged("n4", fact))
        world.run(200)
        stops = [c for c in world.commands if c.verb is Verb.TERMINATE]
        assert {(c.instance_id, c.rank, c.agent_id) for c in stops} == {("i-late", 1, "n4")}


class TestEndpoints:
    def test_a_live_instance_on_a_lost_ones_endpoint_is_left_alone(self, world: World) -> None:
        victim = world.instances(Role.DECODE)[0]
        lost = world.state.instances[victim]
        world.agents[lost.agent_id].silent = True
        world.run(400)
        assert removals(world)
        fact = RankFact("i-new", "chat", Role.DECODE, S.IN_SERVICE, 1, endpoint=lost.endpoint)
        world.send(RankChanged("n9", fact))
        world.turn()
        assert lost.endpoint not in {removal.endpoint for removal in removals(world)}

    def test_an_advisory_service_touches_no_router(self, world: World) -> None:
        victim = world.instances(Role.DECODE)[0]
        world.agents[world.state.instances[victim].agent_id].silent = True
        world.run(400)
        assert removals(world)
        advisory = SPEC.model_copy(update={"advisory": True})
        world.send(ApplyService("r", "chat", advisory, ""))
        world.turn()
        assert not removals(world)


class TestUnwatched:
    @pytest.fixture
    def observed(self, world: World) -> World:
        return until_withdrawn(world)

    def test_a_paused_service_takes_back_what_it_watched(self, observed: World) -> None:
        out = observed.instances(Role.DECODE, S.WITHDRAWN)
        assert renewals(observed.state, observed.now)
        answer_to(observed, PauseService("r", "chat", "lunch"))
        assert not renewals(observed.state, observed.now)
        observed.run(60)
        assert all(observed.state.instances[i].state is S.IN_SERVICE for i in out)

    def test_while_the_policy_is_blind_leases_end(self, observed: World) -> None:
        for agent in observed.agents.values():
            agent.blind = True
        observed.run(90)
        assert not observed.instances(Role.DECODE, S.WITHDRAWN)


class TestDeleting:
    def test_a_configured_engine_does_not_hold_up_the_end(self, world: World) -> None:
        fact = RankFact("i-static", "chat", Role.DECODE, S.IN_SERVICE, 1, origin="config")
        world.send(RankChanged("n9", fact))
        world.turn()
        answer_to(world, DeleteService("r", "chat", drain=True))
        world.run(60)
        assert "chat" not in world.state.services
        assert not [c for c in world.commands if c.instance_id == "i-static"]

    def test_a_role_with_instances_cannot_be_taken_out(self, world: World) -> None:
        whole = ServiceSpec.model_validate({"roles": {"aggregated": {"template": "whole"}}})
        answer = answer_to(world, ApplyService("r", "chat", whole, ""))
        assert "still has" in answer.error


def test_a_type_is_learned_with_the_inventory() -> None:
    world = World()
    fact = RankFact("i", "chat", Role.DECODE, S.IN_SERVICE, 1, gpu_indices=(0,))
    world.send(RankChanged("n0", fact))
    world.turn()
    assert world.state.instances["i"].gpu_type == ""
    agent = world.join("n1", {}, ["L20"])
    world.send(InventoryLearned("n0", agent.inventory))
    world.turn()
    assert world.state.instances["i"].gpu_type == "L20"


def test_readings_in_the_order_of_an_old_inventory_are_forgotten_with_it() -> None:
    world = World()
    agent = world.join("n0", {}, ["H20", "L20"])
    world.turn()
    seen = KnownDevices([GpuSample(health=GpuHealth.LOST), GpuSample()], [NicSample(active=True)])
    world.send(ReportReceived("n0", 1, 1, devices=seen))
    world.send(InventoryLearned("n0", replace(agent.inventory, hash="same")))
    world.turn()
    assert world.state.agents["n0"].devices is seen
    for other in (
        replace(agent.inventory, gpus=agent.inventory.gpus[1:]),
        replace(agent.inventory, gpus=agent.inventory.gpus[1:], nics=(NicFact("mlx5_0"),)),
    ):
        world.state.agents["n0"].devices = seen
        world.send(InventoryLearned("n0", other))
        world.turn()
        assert world.state.agents["n0"].devices is NO_DEVICES


def test_nothing_is_placed_on_a_gpu_that_its_driver_does_not_reach() -> None:
    world = World()
    world.join("n0", {}, ["H20"] * 4)
    world.turn()
    sick = [GpuSample(health=health) for health in (GpuHealth.OK, GpuHealth.LOST, GpuHealth.ERROR)]
    world.send(ReportReceived("n0", 1, 1, devices=KnownDevices(sick)))
    world.turn()
    (node,) = nodes(Draft(world.state, world.now, lambda kind: f"{kind}-x"))
    assert node.free == (0, 3)
    assert len(node.gpu_types) == 4


def _launch_of(draft: Draft, instance: Instance) -> str:
    return issue(draft, Verb.LAUNCH, instance, "test").command_id


def test_a_switched_role_is_a_fact_and_another_one_is_not() -> None:
    world = World()
    world.join("n0", {}, ["H20"])
    world.turn()
    for generation, told, known in (
        (3, Role.DECODE, Role.DECODE),
        (4, Role.PREFILL, Role.PREFILL),
        (5, Role.AGGREGATED, Role.PREFILL),
        (4, Role.DECODE, Role.PREFILL),  # an older word
        (6, Role.DECODE, Role.DECODE),
    ):
        world.send(RankChanged("n0", RankFact("i", "chat", told, S.IN_SERVICE, generation)))
        world.turn()
        assert world.state.instances["i"].role is known
