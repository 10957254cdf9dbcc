"""Renewal in the turn: a successor first, then the drain; batches, last moments, moved ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.words import InstanceState as S
from heteroscale.words import Role, WithdrawReason
from heteroscale_coordinator.core import renewal
from heteroscale_coordinator.core.events import ApplyService, PauseService, RankChanged
from heteroscale_coordinator.core.model import Action, Decision, Verb
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.turn.rig import SPEC, answer_to, draft
from tests.core.world import World

LIFE = 1200.0


def edited(**changes: object) -> ServiceSpec:
    return ServiceSpec.model_validate({**SPEC.model_dump(by_alias=True), **changes})


def limited(
    spec: ServiceSpec = SPEC, *, agents: int = 4, life: float = LIFE, arrivals: float = 1.0
) -> World:
    """Return a world in which all that is launched lives for ``life`` seconds."""
    world = World()
    world.life = life
    for index in range(agents):
        world.join(f"n{index}", {"s1": "pod-0"}, ["H20"] * 4)
    world.traffic.arrivals = arrivals
    world.send(ApplyService("apply", "chat", spec, ""))
    world.run(60)
    return world


def renewals(world: World, bound_by: str = "renewal") -> list[Decision]:
    return [d for d in world.decisions if d.action is Action.RENEW and d.bound_by == bound_by]


def least_serving(world: World, role: Role, seconds: float) -> int:
    """Let time pass; return the least of a role that served meanwhile."""
    least = world.serving(role)
    for _ in range(int(seconds)):
        world.run(1)
        least = min(least, world.serving(role))
    return least


def test_a_successor_serves_before_the_old_one_is_drained_and_nobody_is_killed() -> None:
    world = limited()
    first = set(world.instances(Role.DECODE)) | set(world.instances(Role.PREFILL))
    assert least_serving(world, Role.DECODE, LIFE) == 2
    assert {world.state.instances[key].state for key in first} == {S.TERMINATED}
    for key in first:
        assert [c.verb for c in world.commands if c.instance_id == key] == [Verb.LAUNCH, Verb.DRAIN]
    begun = [d for d in world.decisions if d.bound_by == "renewal" and d.action is Action.REPAIR]
    assert begun
    assert all("reach the end of their time" in d.reason for d in begun)
    assert not [d for d in world.decisions if d.action is Action.SCALE_OUT]
    assert not renewals(world, "time_limit")
    assert sum(len(d.instance_ids) for d in renewals(world)) >= 3


def test_the_decision_says_who_ends_when_and_that_the_wanted_serve_without_it() -> None:
    world = limited()
    world.run(LIFE)
    (decision, *_) = [d for d in renewals(world) if "decode" in d.reason]
    (gone,) = decision.instance_ids
    assert decision.reason.startswith("1 decode: its scheduler ends it in ")
    assert decision.reason.endswith("as many as are wanted serve without it, so it is drained.")
    assert decision.inputs["ends"].startswith(f"{gone} in ")


def test_the_surplus_one_is_beyond_the_maximum_and_counts_for_the_budget() -> None:
    roles = {
        "prefill": {"template": "prefill", "max": 1, "target": 5000},
        "decode": {"template": "decode", "min": 2, "max": 2, "target": 1000},
    }
    world = limited(edited(roles=roles))
    assert least_serving(world, Role.DECODE, LIFE) == 2
    world = limited(edited(roles=roles, maxGpus=3))
    assert least_serving(world, Role.DECODE, LIFE) == 1
    late = renewals(world, "time_limit")
    assert late
    assert "no successor has a place beside it" in late[0].reason
    assert not [i for i in world.state.instances.values() if i.state is S.FAILED]


def test_many_that_end_together_are_renewed_in_batches() -> None:
    roles = {
        "prefill": {"template": "prefill", "min": 4, "max": 4, "target": 5000},
        "decode": {"template": "decode", "min": 8, "max": 8, "target": 1000},
    }
    life = 1.5 * LIFE
    world = limited(edited(roles=roles), agents=6, life=life)
    most, killed = 0, 0
    for _ in range(int(life)):
        world.run(1)
        leaving = [
            i for i in world.state.instances.values() if i.leaves_by and i.state is S.IN_SERVICE
        ]
        most = max(most, sum(i.role is Role.DECODE for i in leaving))
        killed += len(world.instances(Role.DECODE, S.FAILED))
        assert world.serving(Role.DECODE) >= 8
    assert most == 2
    assert killed == 0


def test_without_any_place_it_is_drained_in_time_and_said() -> None:
    world = limited(agents=1)
    for agent in world.agents.values():
        agent.inventory = replace(agent.inventory, gpus=agent.inventory.gpus[:3])
        world.hello(agent)
    world.run(LIFE + 120)
    late = renewals(world, "time_limit")
    assert late
    assert "no successor has a place beside it. No place for" in late[0].reason
    assert "to make room for it" in late[0].reason
    assert not world.instances(Role.DECODE, S.FAILED)
    assert world.serving(Role.DECODE) == 2


def test_what_others_launched_is_left_to_them() -> None:
    world = limited()
    for key, one in tuple(world.state.instances.items()):
        world.state.instances[key] = replace(one, origin="deployment/chat")
    world.run(LIFE - 60)
    assert not [d for d in world.decisions if d.action is Action.RENEW]
    assert not [i for i in world.state.instances.values() if i.leaves_by]


def test_what_was_withdrawn_is_drained_before_its_end_too() -> None:
    world = limited()
    one = world.state.instances[world.instances(Role.DECODE)[0]]
    agent = world.agents[one.agent_id]
    engine = agent.engines[one.instance_id]
    world._become(agent, engine, S.WITHDRAWN, WithdrawReason.OPERATOR)
    world.run(LIFE)
    assert world.state.instances[one.instance_id].state is S.TERMINATED
    assert any(one.instance_id in d.instance_ids for d in renewals(world, "time_limit"))


def test_a_lead_that_is_given_is_kept() -> None:
    world = limited(edited(renewal={"ahead": "5m"}))
    key = world.instances(Role.DECODE)[0]
    end = world.state.instances[key].ends_at
    assert end is not None
    while world.state.instances[key].leaves_by is None:
        world.run(1)
    # Two of one role end together, one at a time: the first a start-up and a drain before the second.
    assert end - world.now == pytest.approx(300 + 30 + 155, abs=6)


def test_nobody_is_drained_while_an_agent_of_the_role_is_unheard() -> None:
    world = limited()
    others = {i.agent_id for i in world.state.instances.values()}
    assert others
    while not [i for i in world.state.instances.values() if i.leaves_by]:
        world.run(1)
    for agent_id in others:
        world.state.agents[agent_id].heard = False
    changes = world.state.services["chat"]
    renewal.attend(draft(world), changes)
    before = draft(world)
    renewal.attend(before, changes)
    assert not before.changes.commands


def test_one_whose_end_is_moved_stays() -> None:
    world = limited()
    world.life = None
    key = world.instances(Role.DECODE)[0]
    one = world.state.instances[key]
    end = one.ends_at
    assert end is not None
    while world.state.instances[key].leaves_by is None:
        world.run(1)
    agent = world.agents[one.agent_id]
    engine = agent.engines[key]
    engine.fact = replace(engine.fact, ends_at=None)
    world.send(RankChanged(agent.agent_id, engine.fact))
    world.run(10)
    assert world.state.instances[key].leaves_by is None
    world.run(LIFE)
    assert world.state.instances[key].state is not S.FAILED


@pytest.mark.parametrize("changes", [{"renewal": {"enabled": False}}, {"advisory": True}])
def test_nothing_is_done_where_it_is_switched_off_or_only_watched(
    changes: dict[str, object],
) -> None:
    world = limited()
    world.send(ApplyService("again", "chat", edited(**changes), ""))
    world.run(LIFE + 60)
    assert not [d for d in world.decisions if d.action is Action.RENEW]
    assert not [i for i in world.state.instances.values() if i.leaves_by is not None]


def test_nothing_is_done_while_the_service_is_paused() -> None:
    world = limited()
    answer_to(world, PauseService("r", "chat", "a person looks"))
    world.run(LIFE + 60)
    assert not [d for d in world.decisions if d.action is Action.RENEW]


def test_a_life_shorter_than_a_start_up_is_not_renewed_without_end() -> None:
    world = limited(life=120)
    launched = len([c for c in world.commands if c.verb is Verb.LAUNCH])
    world.run(1200)
    more = len([c for c in world.commands if c.verb is Verb.LAUNCH]) - launched
    assert more <= 3 * 1200 / 60 + 3
