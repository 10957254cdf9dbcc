"""The view of the fleet that the turn keeps: true after every turn, a dropped one as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core import sites
from heteroscale_coordinator.core.breaker import Barred
from heteroscale_coordinator.core.cordon import Cordon
from heteroscale_coordinator.core.devices import GpuFact
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import ForgetAgent, InventoryLearned, ScaleService, Tick
from heteroscale_coordinator.core.placement import NodeView
from heteroscale_coordinator.core.step import step
from heteroscale_coordinator.core.topology import SubgroupClass
from tests.core.turn.rig import answer_to, draft
from tests.core.world import World


def true(world: World) -> bool:
    """Whether what is seen is what the state says."""
    mine = draft(world)
    return list(sites.view(mine)) == sites.nodes(mine)


def taken(world: World) -> int:
    return sites.view(draft(world)).root.total.used


def test_only_what_changed_is_read(world: World) -> None:
    assert true(world)
    assert not world.state.seen.stale
    answer_to(world, ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 4}))
    before = taken(world)
    world.run(10)
    assert world.state.seen.stale <= world.state.seen.drafted | world.agents.keys()
    assert true(world)
    assert taken(world) > before


def test_a_turn_reads_few_of_very_many_and_the_view_is_true_all_the_same() -> None:
    world = World()
    many = sites.AT_ONCE + 50
    for number in range(many):
        world.join(f"n{number:03}", {"s1": f"m{number // 16}"}, [("H20", "L20")[number % 2]])
    world.turn()
    assert len(world.state.seen.view) == sites.AT_ONCE
    world.turn()
    assert len(world.state.seen.view) == many
    assert not world.state.seen.changes, "a fleet that is met for the first time changes nothing"
    assert true(world)


def test_a_turn_that_is_not_committed_leaves_nothing_behind(world: World) -> None:
    answer_to(world, ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 4}))
    before = taken(world)
    ids = count()
    changes = step(world.state, [Tick()], world.now + 5, lambda kind: f"{kind}-lost-{next(ids)}")
    assert any(one and one.state is S.PENDING for one in changes.instances.values())
    seen = world.state.seen
    assert list(seen.view) == sites.nodes(draft(world)), "readers see nothing of it either"
    assert seen.view.root.total.used == before
    step(world.state, [], world.now + 6, str)
    assert taken(world) == before
    assert true(world)


def test_a_turn_that_breaks_off_leaves_nothing_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_to(world, ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 4}))
    assert true(world)

    def fail(mine: Draft) -> None:
        assert list(sites.view(mine)) != sites.nodes(draft(world)), "its own turn sees it"
        raise RuntimeError

    monkeypatch.setattr(sites, "catch_up", fail)
    ids = count()
    with pytest.raises(RuntimeError):
        step(world.state, [Tick()], world.now + 5, lambda kind: f"{kind}-x-{next(ids)}")
    assert list(world.state.seen.view) == sites.nodes(draft(world))


def test_fragments_are_told_after_each_turn(world: World) -> None:
    def free() -> int:
        return sum(len(one.free) for one in sites.nodes(draft(world)))

    world.run(1)
    assert world.state.seen.fragments["H20"].free == free()
    answer_to(world, ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 4}))
    world.run(10)
    assert world.state.seen.fragments["H20"].free == free()


def test_what_a_quarantined_service_wrote_is_not_seen(world: World) -> None:
    """Its part of the turn is dropped while the turn goes on."""
    parent = draft(world)
    before = sites.view(parent).root.total
    mine = parent.nested()
    one = next(iter(world.state.instances.values()))
    free = next(node for node in sites.view(mine) if len(node.free) > 1)
    mine.put_instance(
        replace(
            one,
            instance_id="new",
            ranks=(replace(one.ranks[0], agent_id=free.agent_id, gpu_indices=free.free[:2]),),
        )
    )
    mine.put_cordon(Cordon(free.agent_id))
    assert sites.view(mine).root.total.used == before.used + 2
    assert sites.view(mine).root.total.shut > 0
    mine.drop()
    assert sites.view(parent).root.total == before


def test_cordons_come_and_go_within_a_draft(world: World) -> None:
    mine = draft(world)
    mine.put_cordon(Cordon("n0"))
    assert sites.view(mine).domain_of("n0", "cluster") is not None
    assert sites.view(mine).root.total.shut > 0
    deeper = mine.nested()
    deeper.drop_cordon("node@n0")
    assert sites.view(deeper).root.total.shut == 0


def test_a_node_that_an_operator_gave_up_is_seen_no_more(world: World) -> None:
    world.agents["n1"].silent = True
    world.run(60)
    assert not answer_to(world, ForgetAgent("r", "n1")).error
    assert true(world)
    assert "n1" not in sites.view(draft(world))


def test_changes_of_class_are_kept_with_their_time(world: World) -> None:
    assert true(world)
    agent = world.agents["n0"]
    other = (GpuFact(0, "X1"), *agent.inventory.gpus[1:])
    world.send(InventoryLearned("n0", replace(agent.inventory, gpus=other)))
    world.run(1)
    assert true(world)
    changes = list(world.state.seen.changes)
    assert {noted.at for noted in changes} == {world.now}
    assert SubgroupClass.HIGH in {noted.change.after for noted in changes}
    assert {noted.cause for noted in changes} == {"n0 has H20, X1"}
    assert world.state.seen.change_counts.total() == len(changes)


def test_vendors_are_told_only_where_there_are_two(world: World) -> None:
    assert sites.vendors(draft(world)) == {}
    agent = world.agents["n0"]
    gpus = tuple(replace(gpu, vendor="nvidia") for gpu in agent.inventory.gpus)
    world.send(InventoryLearned("n0", replace(agent.inventory, gpus=gpus)))
    world.run(1)
    assert sites.vendors(draft(world)) == {}
    gpus = (*gpus[1:], GpuFact(9, "MI300X", vendor="amd"))
    world.send(InventoryLearned("n0", replace(agent.inventory, gpus=gpus)))
    world.run(1)
    assert sites.vendors(draft(world)) == {gpus[0].type: "nvidia", "MI300X": "amd"}


@pytest.mark.parametrize(
    ("barred", "offered"),
    [
        (Barred({"n0": "shut"}, {}), lambda node: 0 if node.agent_id == "n0" else 4),
        (Barred({}, {"H20": "shut"}), lambda node: 0 if "H20" in node.gpu_types.values() else 4),
        (Barred({}, {}, frozenset({"n0"})), lambda node: 2 if node.agent_id == "n0" else 4),
        (
            Barred({}, {}, frozenset({"n0"}), frozenset({"H20"})),
            lambda node: 2 if "H20" in node.gpu_types.values() or node.agent_id == "n0" else 4,
        ),
    ],
    ids=["a node", "a type", "a trial on a node", "a trial of a type"],
)
def test_breakers_keep_back_what_they_close_and_only_for_a_while(
    barred: Barred, offered: Callable[[NodeView], int]
) -> None:
    world = World()
    for number in range(4):
        world.join(f"n{number}", {"s1": "m"}, [("H20", "L20")[number % 2]] * 4)
    world.run(2)
    mine = draft(world)
    before = sites.view(mine).root.total
    avoid = {"n3": world.now + 9, "n2": world.now}
    strict, *plain = sites.limits(mine, barred, avoid, trial=2)
    assert [one.shut for one in plain] == [barred.nodes]
    with strict.within(sites.view(mine)) as view:
        for node in view:
            kinds = set(node.gpu_types.values())
            free = sum(len(view.free(node.agent_id, kind)) for kind in kinds)
            assert node.usable is (node.agent_id not in barred.nodes and node.agent_id != "n3")
            assert free * node.usable == (offered(node) if node.usable else 0)
    assert sites.view(mine).root.total == before
    assert list(sites.view(mine)) == sites.nodes(mine)


def test_a_trial_is_given_gpus_that_lie_together(world: World) -> None:
    agent = world.join("n9", {"s1": "pod"}, ["L20"] * 4)
    homes = zip(agent.inventory.gpus, (0, 1, 1, 2), strict=True)
    gpus = tuple(replace(gpu, numa_node=home) for gpu, home in homes)
    world.send(InventoryLearned("n9", replace(agent.inventory, gpus=gpus)))
    world.run(1)
    one, kind = frozenset({"n9"}), frozenset({"L20"})
    for barred in (
        Barred({}, {}, one),
        Barred({}, {}, trial_types=kind),
        Barred({}, {}, one, kind),
    ):
        (limits,) = sites.limits(draft(world), barred, {}, trial=2)
        with limits.within(sites.view(draft(world))) as view:
            assert view.free("n9", "L20") == (1, 2)
