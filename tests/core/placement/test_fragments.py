"""Fragmentation: what of the free GPUs is counted as of use to whole nodes and whole minipods."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from heteroscale_coordinator.core.placement import FleetView, Fragments, NodeView
from tests.core.placement import naive
from tests.core.placement.fleets import CALM, node, nodes
from tests.core.placement.test_view import Step, histories, play


def fragments(fleet: list[NodeView]) -> dict[str, Fragments]:
    return FleetView(fleet).fragments()


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


@CALM
@given(nodes())
def test_whole_minipods_are_made_of_whole_nodes_and_those_of_what_is_free(
    fleet: list[NodeView],
) -> None:
    free = [node.gpu_types[index] for node in fleet if node.usable for index in node.free]
    for kind, found in fragments(fleet).items():
        assert found.free == free.count(kind)
        assert 0 <= found.in_whole_s1 <= found.in_whole_nodes <= found.free
        assert (found.of_nodes is None) is (found.free == 0)


@CALM
@given(histories())
def test_what_is_counted_node_by_node_is_what_counting_all_nodes_gives(steps: list[Step]) -> None:
    """What is held is not free."""
    view, _ = play(steps)
    left = [
        replace(one, free=tuple(i for i in one.free if i not in view.held(one.agent_id)))
        for one in view
    ]
    assert view.fragments() == naive.fragments(left)


def test_what_is_held_is_not_free() -> None:
    view = FleetView([four("a", 0)])
    view.hold("a", [0])
    assert view.fragments() == {"H20": Fragments(3, 0, 0)}
    view.release("a", [0])
    assert view.fragments() == {"H20": Fragments(4, 4, 4)}
