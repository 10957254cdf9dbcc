"""Fragmentation: what is counted, and moves that make nodes whole and harm nobody."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core.placement import (
    Fragments,
    NodeView,
    Proposal,
    Tenant,
    defragment,
    fragments,
)
from tests.core.placement.fleets import BOTH, CALM, node


def tenant(name: str, agent: str, gpus: int = 1, *, movable: bool = True) -> Tenant:
    return Tenant(name, "chat", "d", "H20", (agent,), gpus, movable)


STAYS = tenant("y", "b", 3, movable=False)


def four(name: str, used: int, s1: str = "m0") -> NodeView:
    return node(name, *["H20"] * 4, s1=s1, free=range(used, 4))


def test_what_whole_nodes_and_whole_minipods_could_use() -> None:
    fleet = [four("a", 0), four("b", 1), four("c", 0, "m1"), four("d", 0, "m1")]
    (found,) = fragments(fleet).values()
    assert found == Fragments(free=15, in_whole_nodes=12, in_whole_s1=8)
    assert found.of_nodes == pytest.approx(3 / 15)
    assert found.of_s1 == pytest.approx(7 / 15)


def test_nodes_that_are_not_usable_have_nothing_free_and_break_their_minipod() -> None:
    fleet = [four("a", 0), replace(four("b", 0), usable=False, why_not="cordoned")]
    assert fragments(fleet) == {"H20": Fragments(free=4, in_whole_nodes=4, in_whole_s1=0)}


def test_with_nothing_free_the_share_is_unknown_not_zero() -> None:
    (found,) = fragments([four("a", 4)]).values()
    assert found.of_nodes is None
    assert found.of_s1 is None


def test_a_node_without_an_s1_is_in_no_minipod_and_types_are_told_apart() -> None:
    mixed = node("a", "H20", "L20")
    found = fragments([mixed])
    assert found == {"H20": Fragments(1, 1, 0), "L20": Fragments(1, 1, 0)}


# ---- what would mend it ------------------------------------------------------------------------


def test_two_half_used_nodes_become_a_full_one_and_a_whole_one() -> None:
    fleet = [four("a", 1), four("b", 3), four("c", 0)]
    tenants = [tenant("x", "a"), tenant("y", "b", 3)]
    found = defragment(fleet, tenants)
    assert [(m.instance_id, m.leaves, m.comes) for m in found.moves] == [("x", "a", "b")]
    assert found.frees == ("a",)
    assert (found.before["H20"].in_whole_nodes, found.after["H20"].in_whole_nodes) == (4, 8)
    assert found.after["H20"].of_nodes == 0.0


@pytest.mark.parametrize(
    ("fleet", "tenants"),
    [
        ([four("a", 1), four("b", 3, "m1")], [tenant("x", "a"), tenant("y", "b", 3)]),
        ([four("a", 1), four("b", 0)], [tenant("x", "a")]),
        ([four("a", 1), four("b", 3)], [tenant("x", "a", movable=False), STAYS]),
        ([four("a", 2), four("b", 3)], [tenant("x", "a", 2), tenant("y", "b", 3)]),
        ([four("a", 1), four("b", 3)], [STAYS]),
        (
            [four("a", 1), replace(four("b", 3), templates=frozenset({"p"}))],
            [tenant("x", "a"), STAYS],
        ),
        (
            [four("a", 1), four("b", 3)],
            [replace(tenant("x", "a"), agent_ids=("a", "b")), tenant("y", "b", 2)],
        ),
    ],
    ids=[
        "another minipod",
        "would only break a whole node",
        "not ours to move",
        "no room",
        "held by others",
        "template not allowed",
        "several ranks",
    ],
)
def test_what_is_not_moved(fleet: list[NodeView], tenants: list[Tenant]) -> None:
    assert defragment(fleet, tenants).moves == ()


def test_no_more_moves_than_asked_for() -> None:
    fleet = [four("a", 1), four("b", 1), four("c", 2)]
    tenants = [tenant("x", "a"), tenant("y", "b"), tenant("z", "c", 2)]
    assert len(defragment(fleet, tenants).moves) == 2
    assert len(defragment(fleet, tenants, most=1).frees) == 1
    assert defragment(fleet, tenants, most=0).moves == ()


@st.composite
def used(draw: st.DrawFn) -> tuple[list[NodeView], list[Tenant]]:
    fleet: list[NodeView] = []
    tenants: list[Tenant] = []
    for number in range(draw(st.integers(0, 6))):
        name, size = f"n{number}", draw(st.integers(1, 8))
        sizes = draw(st.lists(st.integers(1, 3), max_size=4))
        taken = 0
        for gpus in sizes:
            if taken + gpus <= size:
                tenants.append(
                    tenant(f"i{len(tenants)}", name, gpus, movable=bool(draw(st.integers(0, 4))))
                )
                taken += gpus
        s1 = draw(st.sampled_from(["m0", "m1"]))
        why = draw(st.sampled_from(["", "", "", "cordoned"]))
        fleet.append(
            node(name, *["H20"] * size, s1=s1, free=range(taken, size), templates=BOTH, why_not=why)
        )
    return fleet, tenants


@CALM
@given(used())
def test_moves_keep_the_domain_overfill_nothing_and_make_the_nodes_named_whole(
    drawn: tuple[list[NodeView], list[Tenant]],
) -> None:
    fleet, tenants = drawn
    found: Proposal = defragment(fleet, tenants)
    by_id, nodes = {one.instance_id: one for one in tenants}, {one.agent_id: one for one in fleet}
    in_use = Counter({one.agent_id: len(one.gpu_types) - len(one.free) for one in fleet})
    whole = {name for name, count in in_use.items() if not count}
    for move in found.moves:
        assert by_id[move.instance_id].movable
        assert nodes[move.leaves].topology == nodes[move.comes].topology
        assert nodes[move.comes].usable
        in_use[move.leaves] -= move.gpus
        in_use[move.comes] += move.gpus
        assert in_use[move.comes] <= len(nodes[move.comes].gpu_types)
        assert move.comes not in whole
    assert all(in_use[name] == 0 for name in found.frees)
    assert len({move.instance_id for move in found.moves}) == len(found.moves)
    for kind, before in found.before.items():
        after = found.after[kind]
        assert after.free == before.free
        assert after.in_whole_nodes >= before.in_whole_nodes
