"""The tree of domains: levels that are missing, names that repeat, and the three classes."""

from __future__ import annotations

import pytest

from heteroscale_coordinator.core.placement import NodeView
from heteroscale_coordinator.core.topology import SubgroupClass, Tree
from tests.core.placement.fleets import node

LOW, MEDIUM, HIGH = SubgroupClass


def names(tree: Tree, level: str) -> dict[str, set[str]]:
    return {domain.name: set(domain.agents) for domain in tree.domains(level)}


@pytest.mark.parametrize(
    ("fleet", "classes"),
    [
        ([node("a", "H20", s1="m0", s2="b"), node("b", "H20", s1="m1", s2="b")], [LOW, LOW]),
        ([node("a", "H20", s1="m0", s2="b"), node("b", "L20", s1="m1", s2="b")], [MEDIUM] * 2),
        ([node("a", "H20", s1="m0", s2="b"), node("b", "L20", s1="m0", s2="b")], [HIGH] * 2),
        (
            [
                node("a", "H20", "L20", s1="m0", s2="b"),
                node("b", "H20", s1="m1", s2="b"),
                node("c", "H20", s1="m2", s2="other"),
            ],
            [HIGH, MEDIUM, LOW],
        ),
        ([node("a", "H20", s1="m0"), node("b", "L20", s1="m1")], [MEDIUM] * 2),
        ([node("a", "H20"), node("b", "L20")], [MEDIUM] * 2),
        ([node("a", "H20", free=()), node("b")], [LOW, LOW]),
    ],
    ids=["one type", "s1 of one type", "s1 of two", "side by side", "no s2", "nothing", "no GPU"],
)
def test_classes(fleet: list[NodeView], classes: list[SubgroupClass]) -> None:
    tree = Tree(fleet)
    assert [tree.class_of(one.agent_id) for one in fleet] == classes


def test_used_gpus_and_unusable_nodes_shape_the_classes_too() -> None:
    fleet = [node("a", "H20", s1="m"), node("b", "L20", s1="m", free=(), why_not="cordoned")]
    assert Tree(fleet).class_of("a") is HIGH


def test_a_missing_level_is_the_next_one_up() -> None:
    tree = Tree(
        [
            node("a", s1="m", s2="b", logical_cluster="l"),
            node("b", s2="b", logical_cluster="l"),
            node("c", s1="m2", logical_cluster="l"),
            node("d", physical_cluster="site"),
            node("e"),
        ]
    )
    assert names(tree, "s1") == {"m": {"a"}, "m2": {"c"}}
    assert names(tree, "s2") == {"b": {"a", "b"}, "m2": {"c"}}
    assert names(tree, "cluster") == {"l": {"a", "b", "c"}, "site": {"d"}, "fleet": {"e"}}


def test_domains_of_one_name_under_different_parents_are_different() -> None:
    tree = Tree([node("a", s1="m", s2="b0"), node("b", s1="m", s2="b1")])
    assert names(tree, "s1") == {"b0/m": {"a"}, "b1/m": {"b"}}
