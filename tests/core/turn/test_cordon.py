"""Cordons: what an operator may close, what is refused, and what is done about it: nothing."""

from __future__ import annotations

import pytest

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core import carry, sites
from heteroscale_coordinator.core import step as turn
from heteroscale_coordinator.core.cordon import Closed, Cordon, closed
from heteroscale_coordinator.core.events import (
    CordonNode,
    Event,
    ForgetAgent,
    ScaleService,
    SwitchInstanceRole,
    UncordonNode,
)
from heteroscale_coordinator.core.model import Verb
from heteroscale_coordinator.core.state import State
from tests.core.turn.rig import answer_to, draft, until_withdrawn, up
from tests.core.world import World


@pytest.fixture
def switching() -> World:
    """The same, of engines that can change their role."""
    return up(4, pods=2, switches=True)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (CordonNode("r", "n9"), "no node 'n9'"),
        (UncordonNode("r", "n9"), "no node 'n9'"),
        (UncordonNode("r", "n1"), "n1 is not cordoned"),
        (CordonNode("r", "n1", (1, 7)), "n1 has no GPU 7; it has 0, 1, 2, 3"),
    ],
)
def test_what_cannot_be_is_refused_with_a_word_on_it(world: World, wish: Event, said: str) -> None:
    assert said in answer_to(world, wish).error
    assert not world.state.cordons


def test_a_gpu_of_a_cordoned_node_cannot_be_opened_alone(world: World) -> None:
    assert not answer_to(world, CordonNode("r", "n1", (2,), "row remapping")).error
    assert "it is open" in answer_to(world, UncordonNode("r", "n1", (1,))).error
    assert not answer_to(world, CordonNode("r", "n1", (), "moving")).error
    assert "uncordon it without --gpu" in answer_to(world, UncordonNode("r", "n1", (1,))).error
    assert world.state.closed("n1").text == "cordoned: moving; GPU 2 cordoned: row remapping"
    assert not answer_to(world, UncordonNode("r", "n1", (2,))).error
    assert world.state.closed("n1").text == "cordoned: moving"
    assert not answer_to(world, UncordonNode("r", "n1")).error
    assert world.state.closed("n1") == Closed()


def test_both_cordons_in_one_turn_count_in_that_turn(world: World) -> None:
    mine = draft(world).nested()
    mine.put_cordon(Cordon("n0", None, "a", 1.0))
    assert {node.agent_id: node.why_not for node in sites.nodes(mine)}["n0"] == "cordoned: a"
    deeper = mine.nested()
    deeper.drop_cordon("node@n0")
    assert not deeper.closed("n0").text
    mine.merge()
    assert not draft(world).closed("n0").text, "nothing is committed"


def test_what_runs_there_runs_on_and_is_counted_and_new_ones_stand_elsewhere(world: World) -> None:
    home = next(i for i in world.state.instances.values() if i.role is Role.DECODE)
    before = {i.instance_id for i in world.state.instances.values()}
    answer_to(world, CordonNode("r", home.agent_id))
    assert next(n for n in sites.nodes(draft(world)) if n.agent_id == home.agent_id).why_not == (
        "cordoned by an operator"
    )
    world.run(120)
    assert all(world.state.instances[name].state is S.IN_SERVICE for name in before)
    answer_to(world, ScaleService("r", "chat", {Role.PREFILL: 3, Role.DECODE: 6}))
    world.run(60)
    born = [i for i in world.state.instances.values() if i.instance_id not in before]
    assert len(born) == 6
    assert home.agent_id not in {i.agent_id for i in born}


def test_a_cordoned_engine_is_not_given_another_role_by_the_policy(switching: World) -> None:
    one = next(i for i in switching.state.instances.values() if i.role is Role.DECODE)
    assert carry.switchable(draft(switching), one)
    answer_to(switching, CordonNode("r", one.agent_id, (one.ranks[0].gpu_indices[0],)))
    assert not carry.switchable(draft(switching), one)
    # An operator may: the cordon is his own.
    answer_to(switching, ScaleService("r", "chat", {Role.DECODE: 3}))
    switching.run(60)
    wish = SwitchInstanceRole("r", one.instance_id, Role.PREFILL)
    assert not answer_to(switching, wish).error


def test_what_was_withdrawn_elsewhere_comes_back_first(world: World) -> None:
    until_withdrawn(world)
    gone = world.instances(Role.DECODE, S.WITHDRAWN)
    assert len(gone) > 1, "nothing could be told apart"
    first = world.state.instances[gone[0]]
    answer_to(world, CordonNode("r", first.agent_id, first.ranks[0].gpu_indices))
    # One decode is missing, and one comes back in its place.
    world.kill(world.instances(Role.DECODE, S.IN_SERVICE)[0])
    world.run(10)
    back = [c.instance_id for c in world.commands if c.verb is Verb.REINSTATE]
    assert back
    assert set(back) < set(gone) - {first.instance_id}, "and the one on the cordon stays out"


def test_a_node_that_is_given_up_takes_its_cordons_along(world: World) -> None:
    answer_to(world, CordonNode("r", "n3", (0, 1)))
    world.agents["n3"].silent = True
    world.run(60)
    assert not answer_to(world, ForgetAgent("r", "n3")).error
    assert not world.state.cordons


def test_cordons_of_the_store_are_in_force_from_the_first_turn(world: World) -> None:
    kept = {one.key: one for one in (Cordon("n0", 2), Cordon("n0", None, "x"), Cordon("n0", 1))}
    state = State(world.state.rules, cordons=kept)
    state.begin(world.now)
    assert (
        state.closed("n0").text
        == "cordoned: x; GPU 1 cordoned by an operator; GPU 2 cordoned by an operator"
    )
    assert closed(kept.values()).indices == {1, 2}
    changes = turn.step(state, [UncordonNode("r", "n0")], world.now, lambda kind: kind)
    assert bool(changes)
    state.apply(changes)
    assert not state.cordons
