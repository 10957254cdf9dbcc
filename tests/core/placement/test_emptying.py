"""Defragmentation: whole nodes by moves inside an S1; by example, and as claims on random fleets."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core.placement import NodeView
from heteroscale_coordinator.core.placement.emptying import (
    Emptied,
    Shift,
    Tenant,
    defragment,
)
from tests.core.placement.fleets import CALM, node


def host(name: str, held: int, s1: str = "x", kind: str = "H20") -> NodeView:
    return node(name, *[kind] * 8, s1=s1, free=range(held, 8))


def test_the_emptiest_node_is_emptied_into_the_fullest_that_has_room() -> None:
    nodes = [host("a", 2), host("b", 4), host("c", 6)]
    tenants = [
        Tenant("i1", "a", (0, 1)),
        Tenant("i2", "b", (0, 1, 2, 3)),
        Tenant("i3", "c", (0, 1, 2, 3, 4, 5)),
    ]
    assert defragment(nodes, tenants) == (Emptied("a", (Shift("i1", "c", (6, 7)),)),)


def test_several_nodes_are_emptied_one_after_the_other() -> None:
    nodes = [host("a", 1), host("b", 1), host("c", 4)]
    tenants = [Tenant("i1", "a", (0,)), Tenant("i2", "b", (0,)), Tenant("i3", "c", (0, 1, 2, 3))]
    assert [one.agent_id for one in defragment(nodes, tenants)] == ["a", "b"]


def test_nothing_leaves_its_s1_its_type_or_its_templates() -> None:
    tenants = [Tenant("i1", "a", (0,)), Tenant("i2", "b", (0, 1))]
    assert defragment([host("a", 1), host("b", 2)], tenants) != ()
    assert defragment([host("a", 1), host("b", 2, s1="y")], tenants) == ()
    assert defragment([host("a", 1), host("b", 2, kind="L20")], tenants) == ()
    bare = replace(host("b", 2), templates=frozenset({"d"}))
    (only,) = defragment([host("a", 1), bare], tenants)
    assert only.agent_id == "b"
    assert defragment([node("a", "H20", free=[]), node("b", "H20", free=[])], tenants) == ()


def test_what_cannot_move_and_what_is_closed_stays() -> None:
    nodes = [host("a", 1), host("b", 2)]
    fixed = [Tenant("i1", "a", (0,), movable=False), Tenant("i2", "b", (0, 1), movable=False)]
    assert defragment(nodes, fixed) == ()
    movable = [Tenant("i1", "a", (0,)), Tenant("i2", "b", (0, 1))]
    shut = [replace(one, usable=False) for one in nodes]
    assert defragment(shut, movable) == ()
    sick = [replace(one, closed={7: "Xid 79"}, free=one.free[:-1]) for one in nodes]
    assert defragment(sick, movable) == ()


def test_a_node_of_two_types_is_left_alone() -> None:
    mixed = [node("a", "H20", "L20", s1="x", free=[1]), node("b", "H20", "L20", s1="x", free=[1])]
    assert defragment(mixed, [Tenant("i1", "a", (0,)), Tenant("i2", "b", (0,))]) == ()


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[NodeView], list[Tenant]]:
    nodes, tenants = [], []
    for number in range(draw(st.integers(2, 9))):
        name, left, used = f"n{number}", 8, 0
        for size in draw(st.lists(st.sampled_from([1, 2, 4]), max_size=4)):
            if size <= left:
                gpus = tuple(range(used, used + size))
                tenants.append(Tenant(f"{name}-{used}", name, gpus, draw(st.booleans())))
                used, left = used + size, left - size
        nodes.append(host(name, used, s1=draw(st.sampled_from(["x", "y"]))))
    return nodes, tenants


@given(fleets())
@CALM
def test_no_gpu_is_promised_twice_and_what_is_emptied_is_empty(
    fleet: tuple[list[NodeView], list[Tenant]],
) -> None:
    nodes, tenants = fleet
    by_id = {one.agent_id: one for one in nodes}
    at = {one.instance_id: one for one in tenants}
    found = defragment(nodes, tenants)
    shifts = [shift for one in found for shift in one.shifts]
    taken = [(shift.agent_id, gpu) for shift in shifts for gpu in shift.gpus]
    assert len(taken) == len(set(taken))
    emptied = {one.agent_id for one in found}
    for shift in shifts:
        source, target = by_id[at[shift.instance_id].agent_id], by_id[shift.agent_id]
        assert set(shift.gpus) <= set(target.free)
        assert len(shift.gpus) == len(at[shift.instance_id].gpus)
        assert source.topology["s1"] == target.topology["s1"]
        assert shift.agent_id not in emptied
        assert len(target.free) < 8
    left = {
        one.agent_id for one in tenants if one.instance_id not in {s.instance_id for s in shifts}
    }
    assert emptied.isdisjoint(left)
    assert all(at[shift.instance_id].movable for shift in shifts)


@given(fleets())
@CALM
def test_the_order_in_which_things_are_told_changes_nothing(
    fleet: tuple[list[NodeView], list[Tenant]],
) -> None:
    nodes, tenants = fleet
    assert defragment(nodes, tenants) == defragment(list(nodes), list(reversed(tenants)))
