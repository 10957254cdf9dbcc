"""The turn as a whole: facts, silence, commands and wishes, in a world of virtual time."""

from __future__ import annotations

import pytest

from heteroscale.words import InstanceState as S
from heteroscale.words import Outcome, Role, WithdrawReason
from heteroscale_coordinator.core import evaluate as evaluation
from heteroscale_coordinator.core import step as turn
from heteroscale_coordinator.core.events import (
    AgentConnected,
    Answer,
    ApplyService,
    CommandAnswered,
    DeleteService,
    DrainInstance,
    Event,
    PauseService,
    RankChanged,
    ReinstateInstance,
    RemoveFromRouters,
    ReportReceived,
    ResumeService,
    ScaleService,
    SwitchInstanceRole,
    Tick,
)
from heteroscale_coordinator.core.model import Action, CommandState, RankFact, Verb
from heteroscale_coordinator.core.policy import ServiceView, decide
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.policy.build import PLAIN
from tests.core.world import World

SPEC = ServiceSpec.model_validate(
    {
        "roles": {
            "prefill": {"template": "prefill", "min": 1, "max": 4, "target": 5000},
            "decode": {"template": "decode", "min": 2, "max": 8, "target": 1000},
        },
        "ratio": "1:2",
        "policy": PLAIN,
        "gate": {"kind": "sglang-router", "routers": ["http://router:1"]},
    }
)


@pytest.fixture
def world() -> World:
    """Four agents of four GPUs, and one service that is up at its least."""
    world = World()
    for index in range(4):
        world.join(f"n{index}", {"s1": f"pod-{index // 2}"}, ["H20"] * 4)
    world.send(ApplyService("apply", "chat", SPEC, ""))
    world.run(60)
    assert world.serving(Role.PREFILL) == 1
    assert world.serving(Role.DECODE) == 2
    return world


def answer_to(world: World, wish: Event) -> Answer:
    """Put a wish into a turn of its own and return its answer."""
    changes = turn.step(world.state, [wish], world.now, lambda kind: f"{kind}-test-{id(wish)}")
    world.state.apply(changes)
    for command in changes.commands.values():
        if command is not None and command.state is CommandState.OPEN:
            world._obey(command)
    return next(effect for effect in changes.effects if isinstance(effect, Answer))


def removals(world: World) -> list[RemoveFromRouters]:
    """Return the removals that the next turn asks for."""
    changes = turn.step(world.state, [Tick()], world.now + 5, lambda kind: f"{kind}-x")
    return [effect for effect in changes.effects if isinstance(effect, RemoveFromRouters)]


def until_withdrawn(world: World) -> World:
    """Let a load come and go, until the soft scale-in that follows."""
    world.traffic.arrivals = 18
    world.run(400)
    world.traffic.arrivals = 1
    for _ in range(200):
        world.run(5)
        if world.instances(Role.DECODE, S.WITHDRAWN):
            return world
    pytest.fail("nothing was withdrawn")


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
