"""Agents within jobs: each becomes the voice of its rank, or is told that nobody needs it."""

from __future__ import annotations

import pytest

from heteroscale.words import GpuHealth, Outcome, Role, ScrapeQuality, WithdrawReason
from heteroscale.words import InstanceState as S
from heteroscale_coordinator.core import sites
from heteroscale_coordinator.core.command import issue
from heteroscale_coordinator.core.devices import GpuSample
from heteroscale_coordinator.core.events import (
    AgentConnected,
    CommandAnswered,
    DrainInstance,
    ForgetAgent,
    RankChanged,
    ScaleService,
    Tick,
)
from heteroscale_coordinator.core.hardware import hardware_of
from heteroscale_coordinator.core.model import EngineSample, RankFact, Verb
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import step
from tests.core.job_world import JobWorld
from tests.core.turn.rig import draft


@pytest.fixture
def world() -> JobWorld:
    """One prefill and two decode jobs, submitted and running; their agents have not come."""
    return JobWorld()


@pytest.fixture
def serving() -> JobWorld:
    """The same, with all agents there and their engines in service."""
    made = JobWorld()
    made.all_come()
    assert (made.serving(Role.PREFILL), made.serving(Role.DECODE)) == (1, 2)
    return made


class TestComing:
    def test_it_gets_the_launch_of_its_job_and_speaks_from_then_on(self, world: JobWorld) -> None:
        one = world.jobs()[0]
        assert (one.state, one.agent_id[:6]) == (S.LAUNCHING, "east/n")
        agent = world.comes(one.instance_id)
        world.run(1)
        (order,) = world.orders(agent.agent_id)
        assert (order.verb, order.instance_id, order.rank) == (Verb.LAUNCH, one.instance_id, 0)
        world.run(60)
        now = world.state.instances[one.instance_id]
        assert (now.state, now.voice) == (S.IN_SERVICE, agent.agent_id)
        assert now.endpoint == f"http://{agent.agent_id}/{one.instance_id}"
        assert now.startup_time == world.startup

    def test_it_stands_where_it_was_placed_and_holds_its_gpus_there(
        self, serving: JobWorld
    ) -> None:
        for one in serving.jobs():
            rank = one.ranks[0]
            node = serving.state.seen.view.node(rank.agent_id)
            assert node is not None
            assert set(rank.gpu_indices).isdisjoint(node.free)
            assert sites.held(draft(serving), rank.agent_id) >= set(rank.gpu_indices)

    def test_it_waits_for_the_ratio_as_its_job_was_to(self, world: JobWorld) -> None:
        world.all_come()
        world.send(ScaleService("s", "chat", {Role.PREFILL: 2, Role.DECODE: 4}))
        world.run(10)
        first = {c.instance_id: c for c in world.commands if c.verb is Verb.LAUNCH}
        for one in world.jobs() + world.jobs(Role.PREFILL):
            if one.state is S.LAUNCHING:
                world.comes(one.instance_id)
        world.run(2)
        again = [c for c in world.commands if c.verb is Verb.LAUNCH and "/" not in c.agent_id][-3:]
        assert len(again) == 3
        for order in again:
            mine = first[order.instance_id]
            assert (order.reason, order.lease, order.cause) == (
                mine.reason,
                mine.lease,
                mine.cause,
            )
        assert any(order.reason is WithdrawReason.RATIO_HOLD for order in again)

    def test_a_stream_lost_before_its_answer_brings_no_second_order(self, world: JobWorld) -> None:
        one = world.jobs()[0]
        agent = world.comes(one.instance_id, incapable=True)
        world.run(1)
        world.comes(one.instance_id, incapable=True)
        world.run(1)
        assert len(world.orders(agent.agent_id, Verb.LAUNCH)) == 1
        assert world.state.instances[one.instance_id].state is S.LAUNCHING

    def test_whatever_became_of_the_submission_its_job_runs(self, world: JobWorld) -> None:
        one = world.jobs()[0]
        order = next(c for c in world.commands if c.instance_id == one.instance_id)
        world.comes(one.instance_id)
        word = CommandAnswered(one.agent_id, order.command_id, Outcome.UNKNOWN, "no answer in time")
        world.send(word)
        world.run(60)
        assert world.state.instances[one.instance_id].state is S.IN_SERVICE

    def test_a_second_one_is_told_to_go_and_its_words_are_nobodys(self, serving: JobWorld) -> None:
        one = serving.jobs()[0]
        second = serving.comes(one.instance_id, "east.job-77-0", incapable=True)
        stray = RankFact(one.instance_id, "chat", Role.DECODE, S.LAUNCHING, 99)
        serving.send(RankChanged(second.agent_id, stray))
        serving.run(2)
        (order,) = serving.orders(second.agent_id)
        assert order.verb is Verb.TERMINATE
        assert f"agent {one.voice} stands for its instance" in order.cause
        assert serving.state.instances[one.instance_id] == one

    def test_one_in_place_of_a_silent_one_begins_anew(self, serving: JobWorld) -> None:
        one = serving.jobs()[0]
        serving.agents[one.voice].silent = True
        serving.run(30)
        assert serving.state.instances[one.instance_id].state is S.UNKNOWN
        second = serving.comes(one.instance_id, "east.job-77-0")
        serving.run(60)
        now = serving.state.instances[one.instance_id]
        assert (now.voice, now.state) == (second.agent_id, S.IN_SERVICE)

    def test_a_job_that_runs_again_is_launched_again(self, serving: JobWorld) -> None:
        one = serving.jobs()[0]
        agent = serving.comes(one.instance_id, one.voice, incarnation=1000)
        serving.run(1)
        now = serving.state.instances[one.instance_id]
        assert (now.state, now.message) == (S.PENDING, "its job runs again")
        serving.run(60)
        now = serving.state.instances[one.instance_id]
        assert (now.state, now.voice) == (S.IN_SERVICE, agent.agent_id)
        assert len(serving.orders(agent.agent_id, Verb.LAUNCH)) == 2


class TestInVain:
    def test_one_that_never_comes_fails_by_its_nodes_word_and_is_replaced(
        self, world: JobWorld
    ) -> None:
        one = world.jobs()[0]
        before = {i.instance_id for i in world.jobs()}
        world.tell(one.instance_id, S.FAILED, message="its agent never came")
        world.run(60)
        assert world.state.instances[one.instance_id].state is S.FAILED
        assert {i.instance_id for i in world.jobs()} - before

    def test_one_that_takes_no_order_fails_and_is_replaced(self, world: JobWorld) -> None:
        one = world.jobs()[0]
        world.comes(one.instance_id, incapable=True)
        world.run(120)
        assert world.state.instances[one.instance_id].state is S.FAILED
        assert len(world.jobs()) == 2

    @pytest.mark.parametrize(
        ("instance_id", "within", "rank", "why"),
        [
            ("i-nobody", "east/n0", 0, "nobody knows of its instance"),
            ("", "west/n0", 0, "it is within west/n0"),
            ("", "", 5, "has no rank 5"),
        ],
    )
    def test_who_cannot_be_meant_is_told_to_go_once(
        self, world: JobWorld, instance_id: str, within: str, rank: int, why: str
    ) -> None:
        instance_id = instance_id or world.jobs()[0].instance_id
        within = within or "east/n0"
        for _ in range(2):
            world.comes(instance_id, "east.job-9-0", rank=rank, within=within, incapable=True)
            world.run(1)
        (order,) = world.orders("east.job-9-0")
        assert (order.verb, order.instance_id) == (Verb.TERMINATE, instance_id)
        assert why in order.cause

    def test_one_that_comes_after_its_instance_was_given_up_goes(self, world: JobWorld) -> None:
        one = world.jobs()[0]
        world.tell(one.instance_id, S.FAILED)
        world.run(5)
        agent = world.comes(one.instance_id, incapable=True)
        world.run(2)
        (order,) = world.orders(agent.agent_id)
        assert (order.verb, order.cause) == (
            Verb.TERMINATE,
            "not needed: its instance is failed",
        )
        assert world.state.instances[one.instance_id].state is S.FAILED

    def test_one_whose_instance_is_being_stopped_goes(self, world: JobWorld) -> None:
        one = world.jobs()[0]
        drafted = draft(world)
        issue(drafted, Verb.TERMINATE, one, "an operator")
        world.state.apply(drafted.changes)
        agent = world.comes(one.instance_id, incapable=True)
        world.run(1)
        (order,) = world.orders(agent.agent_id)
        assert order.cause == "not needed: its instance is being stopped"

    def test_what_runs_though_it_was_stopped_is_stopped(self, serving: JobWorld) -> None:
        one = serving.jobs()[0]
        agent = serving.agents[one.voice]
        fact = agent.engines[one.instance_id].fact
        serving.goes(agent)
        serving.tell(one.instance_id, S.TERMINATED)
        serving.comes(one.instance_id, one.voice, facts=(fact,))
        serving.run(1)
        order = serving.orders(one.voice)[-1]
        assert (order.verb, order.expected_generation) == (Verb.TERMINATE, fact.generation)


class TestSpeaking:
    def test_orders_go_to_the_voice(self, serving: JobWorld) -> None:
        one = serving.jobs()[0]
        serving.send(DrainInstance("d", one.instance_id))
        serving.run(10)
        assert serving.orders(one.voice, Verb.DRAIN)
        assert serving.state.instances[one.instance_id].state is S.TERMINATED

    def test_of_what_speaks_its_node_tells_where_it_is_and_its_end(self, serving: JobWorld) -> None:
        one = serving.jobs()[0]
        serving.tell(one.instance_id, S.LAUNCHING, node="east/n3", gpus=(2,))
        serving.run(1)
        now = serving.state.instances[one.instance_id]
        assert (now.state, now.ranks[0].agent_id, now.ranks[0].gpu_indices) == (
            S.IN_SERVICE,
            "east/n3",
            (2,),
        )
        assert now.voice == one.voice
        serving.goes(serving.agents[one.voice])
        serving.tell(one.instance_id, S.FAILED, message="preempted")
        serving.run(1)
        now = serving.state.instances[one.instance_id]
        assert (now.state, now.message) == (S.FAILED, "preempted")
        serving.tell(one.instance_id, S.TERMINATED, message="ended")
        serving.run(1)
        assert serving.state.instances[one.instance_id].message == "preempted"

    def test_what_its_scheduler_has_lost_is_drained_by_its_voice_and_counted_once(
        self, serving: JobWorld
    ) -> None:
        """A daemon of the scheduler died alone: the job has failed there, and its engine serves on."""
        one = serving.jobs()[0]
        seen, most = [], 0
        for _ in range(120):
            serving.tell(one.instance_id, S.FAILED, message="job/7 is NODE_FAIL")
            serving.run(1)
            for new in serving.jobs():
                if not new.ranks[0].speaker:
                    serving.comes(new.instance_id)
            seen.append(serving.state.instances[one.instance_id].state)
            most = max(most, serving.serving(Role.DECODE))
        assert list(dict.fromkeys(seen)) == [S.IN_SERVICE, S.TERMINATED], "it serves until drained"
        verbs = [order.verb for order in serving.orders(one.voice)]
        assert verbs == [Verb.LAUNCH, Verb.DRAIN], "drained once, and not killed"
        assert (most, serving.serving(Role.DECODE)) == (2, 2), "one successor, and nobody twice"

    def test_once_its_voice_is_gone_its_node_is_believed(self, serving: JobWorld) -> None:
        one = serving.jobs()[0]
        agent = serving.agents[one.voice]
        agent.silent = True  # takes no order, so that it is not drained
        serving.tell(one.instance_id, S.FAILED, message="its node failed")
        serving.run(1)
        ends_at = serving.state.instances[one.instance_id].ends_at
        serving.run(1)
        serving.tell(one.instance_id, S.FAILED, message="its node failed")
        serving.run(1)
        now = serving.state.instances[one.instance_id]
        assert ends_at is not None
        assert (now.ends_at, now.state) == (ends_at, S.IN_SERVICE), "told again it ends no later"
        serving.goes(agent)
        serving.tell(one.instance_id, S.FAILED, message="its node failed")
        serving.run(1)
        now = serving.state.instances[one.instance_id]
        assert (now.state, now.message) == (S.FAILED, "its node failed")

    def test_a_node_that_is_silent_hushes_no_job_that_speaks(self, serving: JobWorld) -> None:
        for name, agent in serving.agents.items():
            agent.silent = "/" in name
        serving.run(200)
        assert {one.state for one in serving.jobs()} == {S.IN_SERVICE}
        node = serving.jobs()[0].agent_id
        serving.send(ForgetAgent("f", node))
        serving.run(1)
        assert {one.state for one in serving.jobs()} == {S.IN_SERVICE}

    def test_a_voice_that_is_silent_is_unknown_though_its_node_is_heard(
        self, serving: JobWorld
    ) -> None:
        one = serving.jobs()[0]
        serving.agents[one.voice].silent = True
        serving.run(30)
        assert serving.state.instances[one.instance_id].state is S.UNKNOWN

    def test_agents_that_end_with_their_jobs_are_no_nodes_that_fell_silent(
        self, serving: JobWorld
    ) -> None:
        one = serving.jobs()[0]
        serving.goes(serving.agents[one.voice])
        serving.tell(one.instance_id, S.FAILED, message="ended")
        serving.run(1)
        assert one.voice not in serving.state.agents

    def test_one_whose_stream_is_lost_while_its_instance_lives_is_kept(
        self, serving: JobWorld
    ) -> None:
        one = serving.jobs()[0]
        serving.goes(serving.agents[one.voice])
        serving.run(5)
        assert one.voice in serving.state.agents
        assert serving.state.instances[one.instance_id].state is S.IN_SERVICE

    def test_of_jobs_that_ended_a_new_coordinator_keeps_no_silent_agents(
        self, serving: JobWorld
    ) -> None:
        ended, lives = serving.jobs()
        serving.goes(serving.agents[ended.voice])
        serving.tell(ended.instance_id, S.FAILED, message="ended")
        serving.run(0.1)
        stored = serving.state
        begun = State(rules=stored.rules, instances=dict(stored.instances))
        begun.begin(serving.now)
        assert {ended.voice, lives.voice} <= begun.agents.keys()
        step(begun, [Tick()], serving.now, lambda kind: f"{kind}-1")
        assert ended.voice not in begun.agents
        assert lives.voice in begun.agents, "its job may run: it is on its way to us"

    def test_a_new_coordinator_takes_what_runs_for_what_it_is(self, serving: JobWorld) -> None:
        old, fresh = serving.jobs()[0], JobWorld()
        fact = serving.agents[old.voice].engines[old.instance_id].fact
        fresh.comes("i-other", "east.job-5-0", within="east/n2", facts=())
        told = RankFact(
            "i-known", "chat", Role.DECODE, fact.state, fact.generation, gpu_indices=(0,)
        )
        fresh.comes("i-known", "east.job-6-0", within="east/n2", facts=(told,))
        fresh.run(1)
        now = fresh.state.instances["i-known"]
        assert (now.agent_id, now.voice, now.state) == ("east/n2", "east.job-6-0", S.IN_SERVICE)
        fresh.tell("i-known", S.LAUNCHING, gpus=(3,))
        fresh.run(1)
        assert fresh.state.instances["i-known"].ranks[0].gpu_indices == (3,)

    def test_what_its_node_told_of_first_has_its_voice_once_it_comes(
        self, serving: JobWorld
    ) -> None:
        one = serving.jobs()[0]
        fact = serving.agents[one.voice].engines[one.instance_id].fact
        serving.agents[one.voice].silent = True
        serving.run(30)
        serving.comes(one.instance_id, "east.job-8-0", facts=(fact,))
        serving.run(1)
        now = serving.state.instances[one.instance_id]
        assert (now.voice, now.state) == ("east.job-8-0", S.IN_SERVICE)

    def test_its_hardware_is_what_its_own_agent_sees(self, serving: JobWorld) -> None:
        one = serving.jobs()[0]
        agent = serving.agents[one.voice]
        agent.sick = {0: GpuSample(utilization_percent=77, health=GpuHealth.LOST)}
        serving.run(6)
        sample = EngineSample(one.instance_id, ScrapeQuality.OK, serving.now)
        assert hardware_of(serving.state.agents, one, sample)[0] == 77
        assert sites.sickness(serving.state, one) == f"{one.voice} GPU 0: lost"

    def test_a_restarted_agent_counts_from_zero(self, serving: JobWorld) -> None:
        one = serving.jobs()[0]
        track = serving.state.tracks[one.instance_id]
        fact = serving.agents[one.voice].engines[one.instance_id].fact
        serving.send(AgentConnected(one.voice, 7, "n", (fact,)))
        serving.turn()
        assert serving.state.tracks.get(one.instance_id) is not track


class TestRanks:
    def test_all_start_once_the_first_has_come(self) -> None:
        world = JobWorld(nodes=8, ranks=2)
        one = world.jobs()[0]
        second = world.comes(one.instance_id, rank=1)
        world.run(2)
        assert not world.orders(second.agent_id)
        world.comes(one.instance_id, rank=1)
        world.run(2)
        first = world.comes(one.instance_id)
        world.run(2)
        assert [c.rank for c in world.orders(first.agent_id)] == [0]
        assert [c.rank for c in world.orders(second.agent_id)] == [1]
        assert [rank.voice for rank in world.state.instances[one.instance_id].ranks] == [
            first.agent_id,
            second.agent_id,
        ]

    def test_a_rank_that_ends_takes_the_others_with_it(self) -> None:
        world = JobWorld(nodes=8, ranks=2)
        one = world.jobs()[0]
        first, second = (world.comes(one.instance_id, rank=number) for number in (0, 1))
        world.run(2)
        fact = RankFact(one.instance_id, "chat", Role.DECODE, S.FAILED, 9, 1, 2)
        world.send(RankChanged(second.agent_id, fact))
        world.run(10)
        assert world.state.instances[one.instance_id].state is S.FAILED
        assert world.orders(first.agent_id, Verb.TERMINATE)
