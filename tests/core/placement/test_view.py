"""The view kept up to date node by node is the view made anew; classes, counters, levels that lack."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core.placement import (
    Ask,
    Cell,
    ClassChange,
    FleetView,
    NodeView,
    Standing,
    Tally,
    place,
)
from heteroscale_coordinator.core.topology import AFFINITY_LEVELS, SubgroupClass, Tree
from tests.core.placement.fleets import CALM, asks, node, nodes, standings, two_minipods

LOW, MEDIUM, HIGH = SubgroupClass

Step = tuple[str, Any]


def figure_3() -> list[NodeView]:
    """Return the paper's Figure 3: one bigpod of one type, one of two, one with a mixed minipod."""
    pods = {
        ("b0", "m0"): ["H20", "H20"],
        ("b0", "m1"): ["H20", "H20"],
        ("b1", "m2"): ["H20", "H20"],
        ("b1", "m3"): ["L20", "L20"],
        ("b2", "m4"): ["H20", "L20"],
        ("b2", "m5"): ["L20", "L20"],
    }
    return [
        node(
            f"{s1}-{n}",
            *[kind] * 8,
            s1=s1,
            s2=s2,
            vdc="v",
            physical_cluster="p",
            logical_cluster="l",
        )
        for (s2, s1), kinds in pods.items()
        for n, kind in enumerate(kinds)
    ]


def picture(view: FleetView, cell: Cell | None = None) -> dict[str, Any]:
    """Return all that can be seen of a domain and of what is below."""
    cell = cell or view.root
    return {
        "where": (cell.level, cell.path, cell.named, view.name_of(cell)),
        "nodes": (cell.nodes, sorted(cell.leaves), cell.usable, list(cell.shut)),
        "gpus": (dict(cell.by_class()), dict(cell.by_type()), cell.total),
        "shapes": sorted((repr(shape), agents) for shape, agents in cell.shapes.items()),
        "room": (cell.room, cell.terms, cell.strains),
        "below": [picture(view, cell.children[key]) for key in sorted(cell.children)],
    }


def whole(view: FleetView) -> dict[str, Any]:
    """Return all that can be seen of a view."""
    levels = {
        level: [
            (sorted(map(repr, family.strains)), family.members) for family in view.indexes[level]
        ]
        for level in AFFINITY_LEVELS
    }
    return {
        "tree": picture(view),
        "levels": {level: sorted(found) for level, found in levels.items()},
        "domains": {level: [picture(view, one) for one in view.domains(level)] for level in levels},
        "classes": {one.agent_id: view.class_of(one.agent_id) for one in view},
        "gaps": view.gaps(),
    }


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    """Draw what happens to a view: nodes come, change, move and go, GPUs are held and let go."""
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, 5))):
        steps += [("put", one) for one in draw(nodes())]
        agent = f"n{draw(st.integers(0, 6))}"
        indices = draw(st.lists(st.integers(0, 3), max_size=3))
        kind = draw(st.sampled_from(["remove", "hold", "release"]))
        steps.append((kind, agent if kind == "remove" else (agent, indices)))
    return steps


def play(steps: list[Step]) -> tuple[FleetView, FleetView]:
    """Return the view after the steps, and one made at once of what there is then."""
    view = FleetView()
    known: dict[str, NodeView] = {}
    for kind, what in steps:
        if kind == "put":
            view.put(what)
            known[what.agent_id] = what
        elif kind == "remove":
            view.remove(what)
            known.pop(what, None)
        else:
            (view.hold if kind == "hold" else view.release)(*what)
    fresh = FleetView(known[agent] for agent in sorted(known, reverse=True))
    for number in range(7):
        fresh.hold(f"n{number}", view.held(f"n{number}"))
    return view, fresh


@CALM
@given(histories())
def test_kept_up_to_date_it_is_what_it_would_be_made_anew(steps: list[Step]) -> None:
    view, fresh = play(steps)
    assert whole(view) == whole(fresh)
    assert list(view) == list(fresh)


@CALM
@given(histories())
def test_classes_and_domains_are_those_of_the_tree(steps: list[Step]) -> None:
    view, _ = play(steps)
    tree = Tree(view)
    for one in view:
        assert view.class_of(one.agent_id) is tree.class_of(one.agent_id)
    for level in AFFINITY_LEVELS:
        assert [(view.name_of(cell), cell.path) for cell in view.domains(level)] == [
            (domain.name, domain.path) for domain in tree.domains(level)
        ]
        for domain in tree.domains(level):
            for agent in domain.agents:
                found = view.domain_of(agent, level)
                assert found is not None
                assert found.path == domain.path


@CALM
@given(histories())
def test_every_domain_counts_what_its_nodes_have(steps: list[Step]) -> None:
    view, _ = play(steps)
    every = list(view)
    free = sum(len(set(one.free) - view.held(one.agent_id)) for one in every if one.usable)
    gpus = sum(len(one.gpu_types) for one in every)
    assert view.root.total[:2] == (gpus, free)
    for level in AFFINITY_LEVELS:
        for cell in view.domains(level):
            inside = [one for one in every if view.domain_of(one.agent_id, level) is cell]
            assert cell.nodes == len(inside)
            assert cell.total.gpus == sum(len(one.gpu_types) for one in inside)
            assert cell.room == cell.total.free


@CALM
@given(histories(), nodes(most=4))
def test_a_change_of_class_is_told_of_all_whom_it_touches_and_of_nobody_else(
    steps: list[Step], more: list[NodeView]
) -> None:
    view, _ = play(steps)
    for one in more:
        before = {known.agent_id: view.class_of(known.agent_id) for known in view}
        changes = view.put(one)
        told = {agent: change for change in changes for agent in change.agent_ids}
        for agent, was in before.items():
            if agent != one.agent_id:
                now = view.class_of(agent)
                assert (agent in told) == (now is not was)
                if agent in told:
                    assert (told[agent].before, told[agent].after) == (was, now)


@CALM
@given(histories(), st.lists(asks(), min_size=1, max_size=4), standings(), histories())
def test_an_ask_is_answered_as_on_a_view_made_anew_whatever_was_asked_and_changed_before(
    steps: list[Step], wanted: list[Ask], standing: list[Standing], later: list[Step]
) -> None:
    view, _ = play(steps)
    for one in (*wanted, *wanted):
        view.place(one, standing)
    _, fresh = play([*steps, *later])
    for kind, what in later:
        if kind in ("put", "remove"):
            getattr(view, kind)(what)
        else:
            getattr(view, kind)(*what)
    before = whole(view)
    for one in wanted:
        assert view.place(one, standing) == fresh.place(one, standing)
    assert whole(view) == before, "asking changes nothing"


@CALM
@given(nodes(), asks(), standings())
def test_place_is_the_answer_of_a_view_of_the_nodes(
    fleet: list[NodeView], wanted: Ask, standing: list[Standing]
) -> None:
    assert place(wanted, fleet, standing) == FleetView(fleet).place(wanted, standing)


def test_the_papers_figure_3() -> None:
    view = FleetView(figure_3())
    classes = {cell.path[-1]: cell.subgroup for cell in view.domains("s1")}
    assert classes == {"m0": LOW, "m1": LOW, "m2": MEDIUM, "m3": MEDIUM, "m4": HIGH, "m5": MEDIUM}
    (vdc,) = view.root.children.values()
    (physical,) = vdc.children.values()
    (logical,) = physical.children.values()
    assert [one.level for one in (view.root, vdc, physical, logical)] == [
        *("all", "vdc", "physical_cluster", "cluster"),
    ]
    assert [pod.path[-1] for pod in logical.children.values()] == ["b0", "b1", "b2"]
    assert logical.by_class() == {
        (LOW, "H20"): Tally(32, 32),
        (MEDIUM, "H20"): Tally(16, 16),
        (MEDIUM, "L20"): Tally(32, 32),
        (HIGH, "H20"): Tally(8, 8),
        (HIGH, "L20"): Tally(8, 8),
    }
    assert view.gaps() == ()


def test_another_type_in_an_s1_changes_the_class_of_its_nodes_and_of_the_s2() -> None:
    fleet = [node(n, "H20", s1=s1, s2="b") for n, s1 in (("a", "m0"), ("b", "m0"), ("c", "m1"))]
    view = FleetView(fleet)
    stranger = node("d", "L20", s1="m0", s2="b")
    assert view.put(stranger) == (
        ClassChange("b/m0", LOW, HIGH, ("a", "b")),
        ClassChange("b/m1", LOW, MEDIUM, ("c",)),
    )
    assert str(view.remove("d")[0]) == "b/m0: 2 nodes are of low class now, they were of high"
    assert view.remove("d") == ()


def test_a_node_that_only_fills_up_changes_no_class() -> None:
    view = FleetView(two_minipods())
    assert view.put(node("n0", "H20", "H20", s1="minipod-0", s2="bigpod", free=())) == ()
    assert view.root.by_type() == {"H20": Tally(8, 6), "L20": Tally(8, 8)}
    assert view.root.total.used == 2


def test_what_is_held_is_not_free_until_it_is_let_go() -> None:
    view = FleetView([node("a", "H20", "H20", s1="m")])
    view.hold("a", [0])
    view.hold("late", [1])
    view.put(node("late", "H20", "H20", s1="m"))
    assert view.root.total == Tally(4, 2)
    view.put(node("a", "H20", "H20", s1="m", free=(1,)))
    view.release("a", [0])
    view.release("late", [1])
    assert view.root.total == Tally(4, 3)


def test_gpus_of_unusable_nodes_are_shut() -> None:
    view = FleetView([node("a", "H20", s1="m", why_not="cordoned"), node("b", "H20", s1="m")])
    (domain,) = view.domains("s1")
    assert (domain.total, domain.usable, domain.shut) == (Tally(2, 1, 1), 1, ["a"])
    view.put(node("a", "H20", s1="m"))
    assert (domain.total, domain.usable) == (Tally(2, 2), 2)


def test_a_missing_level_hangs_one_up_and_is_said() -> None:
    view = FleetView([node("a", "H20", s2="b"), node("c", "H20", s1="m", s2="b", s0="rack")])
    (b,) = view.root.children.values()
    assert (b.level, b.leaves, [one.level for one in b.children.values()]) == ("s2", {"a"}, ["s1"])
    assert [cell.leaves for cell in view.domains("s0")] == [{"c"}]
    assert view.domain_of("a", "s1") is None
    assert view.domain_of("x", "s1") is None
    assert view.gaps() == (
        "s1: 1 of 2 nodes do not name it; they can promise no affinity narrower than the next level up",
        "cluster: 2 of 2 nodes do not name it; they can promise the next level up as their cluster",
    )
    assert view.node("a") == node("a", "H20", s2="b")
    assert view.node("x") is None
    assert (len(view), "a" in view, "x" in view) == (2, True, False)
