"""Facts: what agents say and list, ranks, and what silence means."""

from __future__ import annotations

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core.events import (
    AgentConnected,
    AgentDisconnected,
    RankChanged,
    RemoveFromRouters,
    ReportReceived,
)
from heteroscale_coordinator.core.model import RankFact, Verb
from tests.core.turn.rig import removals, up
from tests.core.world import World


class TestFacts:
    def test_an_unknown_instance_is_adopted_as_a_fact(self, world: World) -> None:
        fact = RankFact("i-stranger", "chat", Role.DECODE, S.IN_SERVICE, 7, gpu_indices=(3,))
        world.send(RankChanged("n0", fact))
        world.turn()
        found = world.state.instances["i-stranger"]
        assert (found.state, found.generation, found.gpu_type) == (S.IN_SERVICE, 7, "H20")

    def test_an_older_word_changes_nothing(self, world: World) -> None:
        instance = world.state.instances[world.instances(Role.DECODE)[0]]
        old = RankFact(instance.instance_id, "chat", Role.DECODE, S.LAUNCHING, 0)
        world.send(RankChanged(instance.agent_id, old))
        world.turn()
        assert world.state.instances[instance.instance_id].state is S.IN_SERVICE

    def test_of_a_stream_that_ended_nothing_is_concluded_and_an_older_process_ends_none(
        self, world: World
    ) -> None:
        before = dict(world.state.instances)
        agent = world.state.agents["n0"]
        world.send(AgentDisconnected("n0", 0, "a process before this one"))
        world.turn()
        assert agent.connected
        world.send(AgentDisconnected("n0", 1, "its host is restarted"))
        world.turn()
        assert (agent.connected, agent.message) == (False, "its host is restarted")
        assert dict(world.state.instances) == before

    def test_the_ended_never_rise_again(self, world: World) -> None:
        victim = world.instances(Role.DECODE)[0]
        agent = world.state.instances[victim].agent_id
        for generation, state in ((8, S.TERMINATED), (9, S.IN_SERVICE)):
            fact = RankFact(victim, "chat", Role.DECODE, state, generation)
            world.send(RankChanged(agent, fact))
            world.turn()
        assert world.state.instances[victim].state is S.TERMINATED

    def test_what_a_hello_does_not_list_is_gone(self, world: World) -> None:
        victim = world.instances(Role.PREFILL)[0]
        agent = world.state.instances[victim].agent_id
        world.agents[agent].engines.pop(victim)
        world.hello(world.agents[agent])
        world.turn()
        assert world.state.instances[victim].state is S.FAILED
        world.run(60)
        assert world.serving(Role.PREFILL) == 1, "it is replaced"

    def test_one_of_another_owner_that_is_gone_has_not_failed(self, world: World) -> None:
        fact = RankFact("pod-1", "chat", Role.DECODE, S.IN_SERVICE, 1, origin="pod/serving/chat-0")
        world.send(RankChanged("n0", fact))
        world.turn()
        assert world.state.instances["pod-1"].origin == "pod/serving/chat-0"
        world.hello(world.agents["n0"])
        world.turn()
        assert world.state.instances["pod-1"].state is S.TERMINATED
        assert world.state.services["chat"].memory.launch_failures == 0

    def test_reports_out_of_order_are_dropped(self, world: World) -> None:
        agent = world.state.agents["n0"]
        agent.sequence, heard_at = 1000, agent.heard_at
        world.send(ReportReceived("n0", 1, 999))
        world.send(ReportReceived("n0", 77, 2000))
        world.turn()
        assert (agent.sequence, agent.heard_at) == (1000, heard_at)

    def test_a_new_incarnation_counts_from_zero(self, world: World) -> None:
        victim = world.instances(Role.DECODE)[0]
        agent = world.agents[world.state.instances[victim].agent_id]
        facts = tuple(engine.fact for engine in agent.engines.values())
        assert len(world.state.tracks[victim]) > 0
        world.send(AgentConnected(agent.agent_id, 2, "host", facts))
        world.turn()
        assert victim not in world.state.tracks


class TestRanks:
    def two_ranks(self, world: World, second: S) -> None:
        for rank, state in ((0, S.IN_SERVICE), (1, second)):
            fact = RankFact("i-two", "chat", Role.DECODE, state, 3, rank=rank, rank_count=2)
            world.send(RankChanged(f"n{rank}", fact))
        world.turn()

    def test_rank_zero_speaks_for_the_instance(self, world: World) -> None:
        self.two_ranks(world, S.WARMING)
        assert world.state.instances["i-two"].state is S.IN_SERVICE

    def test_a_lost_rank_fails_the_instance_and_stops_the_others(self, world: World) -> None:
        self.two_ranks(world, S.FAILED)
        world.run(10)
        assert world.state.instances["i-two"].state is S.FAILED
        stops = [c for c in world.commands if c.verb is Verb.TERMINATE]
        assert {(c.agent_id, c.instance_id) for c in stops} == {("n0", "i-two")}


class TestSilence:
    def test_one_silent_agent_is_unknown_then_lost_and_replaced(self, world: World) -> None:
        victim = world.instances(Role.DECODE)[0]
        home = world.state.instances[victim].agent_id
        world.agents[home].silent = True
        world.run(25)
        assert world.state.instances[victim].state is S.UNKNOWN
        world.run(120)
        assert world.state.instances[victim].state is S.LOST
        world.run(60)
        assert world.serving(Role.DECODE) == 2, "others were launched for it"

    def test_a_lost_worker_is_taken_out_of_the_routers_when_another_serves(
        self, world: World
    ) -> None:
        victims = world.instances(Role.DECODE)
        instance = world.state.instances[victims[0]]
        world.agents[instance.agent_id].silent = True
        world.run(140)
        assert world.instances(Role.DECODE, S.LOST) == victims, "every decode stood there"
        assert removals(world) == [], "and may serve on, until another does"
        world.run(40)
        assert RemoveFromRouters(("http://router:1",), instance.endpoint) in removals(world)

    def test_the_last_to_come_back_from_a_partition_are_not_dead(self, world: World) -> None:
        first, last = world.agents["n0"], world.agents["n1"]
        first.silent = last.silent = True
        world.run(600)
        assert world.state.partition
        first.silent = False
        world.hello(first)
        world.run(100)
        assert not world.state.partition
        assert not world.state.agents[last.agent_id].lost
        world.run(60)
        assert world.state.agents[last.agent_id].lost, "it did not come at all"

    def test_half_the_agents_silent_is_a_partition(self, world: World) -> None:
        for name in ("n0", "n1"):
            world.agents[name].silent = True
        launched = len(world.commands)
        world.run(600)
        assert world.state.partition
        assert not [c for c in world.commands[launched:] if c.verb is Verb.LAUNCH]

    def test_the_coordinators_own_absence_is_nobodys_silence(self, world: World) -> None:
        world.now += 3600
        world.turn()
        assert not any(agent.silent for agent in world.state.agents.values())

    def test_heard_again_is_as_it_was(self, world: World) -> None:
        victim = world.instances(Role.PREFILL)[0]
        agent = world.agents[world.state.instances[victim].agent_id]
        agent.silent = True
        world.run(25)
        agent.silent = False
        world.run(10)
        assert world.state.instances[victim].state is S.IN_SERVICE


class TestForgetting:
    def test_what_ended_long_ago_is_forgotten_and_with_it_its_orders(self, world: World) -> None:
        victim = world.instances(Role.DECODE)[0]
        world.kill(victim)
        world.run(60)
        assert world.state.instances[victim].state is S.FAILED
        mine = [c.command_id for c in world.state.commands.values() if c.instance_id == victim]
        assert mine
        world.now += world.state.rules.forget_after
        world.run(10)
        assert victim not in world.state.instances
        assert not set(mine) & set(world.state.commands)

    def test_a_node_that_is_silent_for_long_is_forgotten_once_nothing_is_known_to_run_there(
        self,
    ) -> None:
        world = up(6, pods=2)
        world.state.rules = world.state.rules.model_copy(update={"forget_after": 60.0})
        homes = {i.agent_id for i in world.state.instances.values()}
        empty = next(name for name in world.agents if name not in homes)
        kept = next(iter(homes))
        world.agents[empty].silent = True
        world.run(40)
        assert empty in world.state.agents
        world.run(40)
        assert empty not in world.state.agents
        assert kept in world.state.agents
