"""What would help an ask without a place: each remedy by example, and all of them true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from heteroscale.words import Role
from heteroscale_coordinator.core.placement import (
    Ask,
    FleetView,
    NodeView,
    Placed,
    Remedy,
    place,
    remedies,
)
from heteroscale_coordinator.core.placement.remedy import LARGE, say
from heteroscale_coordinator.core.spec import PlacementSpec, RoleSpec
from tests.core.placement.fleets import D, P, ask, node, role, stand, two_minipods

STRICT = PlacementSpec(affinity="s1", required=True)
ROLES = {P: role("p", "L20"), D: role("d", "H20")}


def told(asked: Ask, nodes: Sequence[NodeView], *standing: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for remedy in remedies(asked, FleetView(nodes), [stand(n, P, n) for n in standing]):
        found.setdefault(remedy.kind, []).append(remedy.text)
    return found


def test_the_largest_part_that_fits_is_told() -> None:
    found = told(ask(10, 20, ROLES), two_minipods())
    assert found["smaller"] == ["a smaller step: 4 prefill and 8 decode would fit"]
    fits = ask(4, 8, ROLES)
    assert isinstance(place(fits, two_minipods(), []), Placed)
    assert not isinstance(place(ask(4, 9, ROLES), two_minipods(), []), Placed)


def test_of_a_single_instance_there_is_no_smaller_step() -> None:
    assert "smaller" not in told(
        ask(1, 1, {P: role("p", "A"), D: role("d", "H20")}), two_minipods()
    )


def test_a_wider_domain_is_told_where_only_a_narrow_one_is_allowed() -> None:
    asked = ask(4, 8, ROLES, STRICT)
    found = told(replace(asked, delta={P: 5, D: 3}), two_minipods())
    assert found["wider"] == [
        "a wider domain: with placement.affinity s2, or placement.required false, it would fit in s2"
    ]
    assert "wider" not in told(ask(4, 80, ROLES, STRICT), two_minipods())
    assert "wider" not in told(ask(40, 8, ROLES), two_minipods())


def test_rules_of_the_service_that_are_in_the_way_are_told() -> None:
    spread = {"spread": {"level": "s1", "most": 1, "required": True}}
    asked = ask(1, 3, ROLES, PlacementSpec.model_validate(spread))
    assert told(asked, two_minipods())["rule"] == [
        "a rule less: without placement.spread it would fit"
    ]
    feeds = PlacementSpec(feeds={"L20": ("L20",)})
    assert told(ask(1, 1, ROLES, feeds), two_minipods())["rule"] == [
        "a rule less: without placement.feeds it would fit"
    ]
    assert "rule" not in told(ask(1, 99, ROLES, feeds), two_minipods())


def test_more_gpu_types_are_told_by_role() -> None:
    nodes = [node("a", "H20", "H20", "A10", s1="x", s2="y")]
    found = told(ask(1, 2, {P: role("p", "L20"), D: role("d", "H20")}), nodes)
    assert found["types"] == ["more GPU types: A10 in roles.prefill.gpuTypes"]


def test_closed_nodes_are_told_by_why_they_are() -> None:
    nodes = [
        node("a", "H20", s1="x"),
        *(node(f"b{i}", "L20", s1="x", why_not="cordoned: fans") for i in range(5)),
        node("c", "A10", s1="x", why_not="not connected"),
    ]
    found = told(ask(1, 1, ROLES), nodes)
    assert found["open"] == ["nodes opened again: b0, b1, b2 and 2 more (cordoned: fans)"]


def test_a_node_closed_without_a_word_is_told_too() -> None:
    shut = replace(node("b", "L20", s1="x"), usable=False)
    found = told(ask(1, 1, ROLES), [node("a", "H20", s1="x"), shut])
    assert found["open"] == ["nodes opened again: b (not usable)"]


def test_templates_that_agents_would_have_to_allow() -> None:
    nodes = [node("a", "H20", "L20", s1="x", templates=frozenset({"d"}))]
    found = told(ask(1, 1, ROLES), nodes)
    assert found["template"] == ["launch template d and p allowed by the agents of a"]
    nodes = [node("a", "H20", s1="x", templates=frozenset({"d"}))]
    assert "template" not in told(ask(1, 1, ROLES), nodes)


def test_gpus_that_are_held_are_told_when_they_would_do() -> None:
    nodes = [node("a", "H20", "L20", s1="x", free=[0]), node("b", "L20", s1="x", why_not="sick")]
    found = told(ask(1, 1, ROLES), nodes)
    assert found["freed"] == [
        "GPUs freed: with nothing on these nodes it would fit; 1 GPUs are held"
    ]
    assert "freed" not in told(ask(2, 1, ROLES), nodes)
    sick = [replace(nodes[0], closed={1: "Xid 79"})]
    assert "freed" not in told(ask(1, 1, ROLES), sick)


def test_new_nodes_are_told_where_fewest_would_do() -> None:
    nodes = [
        *(node(f"h{i}", "H20", "H20", s1="x", s2="z") for i in range(3)),
        node("l0", "L20", "L20", s1="x", s2="z"),
        *(node(f"m{i}", "L20", "L20", s1="y", s2="z") for i in range(2)),
    ]
    found = told(ask(4, 6, ROLES, STRICT), nodes)
    assert found["nodes"] == ["new nodes below s1 x: 1 of L20 with 2 GPUs"]
    more = [*nodes, node("new", "L20", "L20", s1="x", s2="z")]
    assert isinstance(place(ask(4, 6, ROLES, STRICT), more, []), Placed)


def test_a_new_s1_is_told_where_none_stands() -> None:
    nodes = [node("h", "H20", "H20"), node("l", "L20")]
    found = told(ask(1, 1, ROLES, STRICT), nodes)
    assert found["nodes"] == [
        "new nodes below one new S1 switch: 1 of L20 with 1 GPUs and 1 of H20 with 2 GPUs"
    ]


@pytest.mark.parametrize(
    "roles",
    [
        {P: role("p", "A10"), D: role("d", "H20")},
        {P: role("p", "L20", gpus=4), D: role("d", "H20")},
    ],
)
def test_no_new_nodes_of_what_the_fleet_does_not_know(roles: dict[Role, RoleSpec]) -> None:
    assert "nodes" not in told(ask(1, 1, roles), two_minipods())


def test_absurdly_many_new_nodes_are_not_thought_of() -> None:
    assert "nodes" not in told(ask(1, 10_000, ROLES), two_minipods())


def test_ranks_need_nodes_of_their_own() -> None:
    roles = {P: role("p", "L20"), D: role("d", "H20", gpus=2, ranks=6)}
    found = told(ask(1, 1, roles), two_minipods())
    assert found["nodes"] == ["new nodes below s1 minipod-0: 2 of H20 with 2 GPUs"]


def test_a_large_step_is_told_a_good_part_quickly() -> None:
    nodes = [node(f"h{i}", *["H20"] * 8, s1=f"x{i // 20}", s2="y") for i in range(50)]
    roles = {P: role("p"), D: role("d")}
    count = LARGE // 1000 * 6 // 10
    found = told(ask(count, count, roles), nodes)
    assert found["smaller"] == ["a smaller step: 200 prefill and 200 decode would fit"]
    assert found["nodes"] == ["new nodes below s1 x0: 150 of H20 with 8 GPUs"]
    none = told(ask(count, count, {P: role("p", "H20"), D: role("d", "H20", gpus=9)}), nodes)
    assert "smaller" not in none


def test_strange_roles_and_empty_asks_have_no_remedies() -> None:
    strange = Ask("chat", {D: role("d", "H20")}, {P: 1})
    assert remedies(strange, FleetView(two_minipods()), []) == ()
    assert remedies(ask(0, 0, ROLES), FleetView(two_minipods()), []) == ()
    assert remedies(ask(1, 1, ROLES), FleetView(), []) == ()


def test_the_view_is_as_it_was() -> None:
    nodes = [
        *two_minipods(),
        node("shut", "L20", "L20", s1="minipod-0", s2="bigpod", why_not="cordoned: fans"),
        node("bare", "H20", s1="minipod-1", s2="bigpod", templates=frozenset()),
    ]
    view = FleetView(nodes)
    view.hold("n0", [0])
    asked = ask(9, 8, ROLES, STRICT)
    assert remedies(asked, view, []) == remedies(asked, view, [])
    assert list(view) == sorted(nodes, key=lambda one: one.agent_id)
    assert view.held("n0") == {0}


def test_what_is_held_in_the_view_is_not_offered() -> None:
    view = FleetView([node("a", "H20", "H20", "L20", s1="x", s2="y")])
    view.hold("a", [0])
    (remedy, *_) = remedies(ask(1, 2, ROLES), view, [])
    assert remedy.text == "a smaller step: 1 prefill and 1 decode would fit"


def test_a_step_in_words() -> None:
    assert say({P: 2, D: 0}) == "2 prefill"
    assert Remedy("smaller", "x") == Remedy("smaller", "x")
