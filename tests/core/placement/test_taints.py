"""Taints: who is kept away, who comes last, who leaves; and that it is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from pydantic import ValidationError

from heteroscale.taints import Taint, TaintEffect, parse_taint
from heteroscale_coordinator.core.placement import (
    Ask,
    Cycle,
    FleetView,
    Infeasible,
    NodeView,
    Placed,
    Request,
    Standing,
    choose_victims,
    place,
    remedies,
    repair,
)
from heteroscale_coordinator.core.placement.emptying import Tenant, defragment
from heteroscale_coordinator.core.spec import PlacementSpec, RatioSpec, Toleration
from tests.core.placement.fleets import (
    AWAY,
    CALM,
    LOATH,
    TRAIN,
    D,
    P,
    ask,
    asks,
    node,
    nodes,
    role,
    stand,
)

EVEN = RatioSpec(min=1.0, max=1.0)
ROLES = {P: role("p"), D: role("d")}
WIDE = PlacementSpec(affinity="cluster")


def bearing(*tolerations: Toleration, placement: PlacementSpec = WIDE) -> PlacementSpec:
    return placement.model_copy(update={"tolerations": tolerations})


def homes(answer: Placed | Infeasible) -> set[str]:
    assert isinstance(answer, Placed), answer
    return {rank.agent_id for spot in answer.spots for rank in spot.ranks}


# ---- what a taint is ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "taint"),
    [
        ("dedicated=train:NoSchedule", Taint("dedicated", "train", TaintEffect.NO_SCHEDULE)),
        (" old:PreferNoSchedule ", Taint("old", "", TaintEffect.PREFER_NO_SCHEDULE)),
        ("k8s.io/gone=:NoExecute", Taint("k8s.io/gone", "", TaintEffect.NO_EXECUTE)),
    ],
)
def test_a_taint_is_written_as_kubernetes_writes_it(text: str, taint: Taint) -> None:
    assert parse_taint(text) == taint
    assert parse_taint(str(taint)) == taint


@pytest.mark.parametrize(
    "text", ["", "dedicated", "a=b=c:NoSchedule", ":NoSchedule", "a:b:NoSchedule"]
)
def test_what_is_no_taint_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is no taint: write key=value:NoSchedule"):
        parse_taint(text)


def test_an_effect_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match="there are NoSchedule, PreferNoSchedule, NoExecute"):
        parse_taint("a=b:Never")


@pytest.mark.parametrize(
    ("fields", "taint", "tolerated"),
    [
        ({"key": "dedicated", "value": "train"}, TRAIN, True),
        ({"key": "dedicated", "value": "other"}, TRAIN, False),
        ({"key": "dedicated"}, TRAIN, False),
        ({"key": "dedicated", "operator": "Exists"}, TRAIN, True),
        ({"key": "other", "operator": "Exists"}, TRAIN, False),
        ({"operator": "Exists"}, TRAIN, True),
        ({"operator": "Exists", "effect": "NoExecute"}, TRAIN, False),
        ({"operator": "Exists", "effect": "NoExecute"}, AWAY, True),
        ({"key": "broken"}, AWAY, True),
    ],
)
def test_a_toleration_means_what_it_means_to_kubernetes(
    fields: dict[str, str], taint: str, tolerated: bool
) -> None:
    assert Toleration.model_validate(fields).tolerates(parse_taint(taint)) is tolerated


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "name the key, or write operator: Exists"),
        ({"key": "a", "operator": "Exists", "value": "b"}, "leave the value out"),
        ({"key": "a", "effect": "Never"}, "effect"),
    ],
)
def test_a_toleration_that_means_nothing_is_refused(fields: dict[str, str], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Toleration.model_validate(fields)


# ---- where nothing goes ------------------------------------------------------------------------


@pytest.mark.parametrize("taint", [TRAIN, AWAY])
def test_a_node_is_passed_over_until_its_taint_is_tolerated(taint: str) -> None:
    fleet = [node("a", "H20", "H20", taints=[taint]), node("b", *["H20"] * 8)]
    assert homes(place(ask(1, 1, ROLES, WIDE), fleet, [])) == {"b"}
    bears = bearing(Toleration(operator="Exists"))
    assert homes(place(ask(1, 1, ROLES, bears), fleet, [])) == {"a"}


def test_an_infeasible_answer_names_the_taints() -> None:
    fleet = [node(f"n{i}", "H20", taints=[TRAIN]) for i in range(3)]
    fleet += [node("m", "H20", taints=[AWAY]), node("free", "H20")]
    answer = place(ask(2, 0, ROLES, WIDE), fleet, [])
    assert isinstance(answer, Infeasible)
    (reason,) = answer.reasons
    assert reason == (
        "cluster fleet: 1 of 5 GPUs free of any type, wanted 2 (prefill); "
        "3 nodes carry the taint dedicated=train:NoSchedule, which the service does not tolerate; "
        "1 node carries the taint broken:NoExecute, which the service does not tolerate"
    )
    both = place(ask(1, 1, ROLES, WIDE), fleet, [])
    assert isinstance(both, Infeasible)
    assert "3 nodes carry the taint dedicated=train:NoSchedule" in both.reasons[-1]


def test_the_remedy_is_the_toleration_that_would_do() -> None:
    fleet = [node("a", "H20", taints=[TRAIN]), node("b", "H20", taints=[AWAY, TRAIN])]
    wish = ask(1, 0, ROLES, WIDE)
    said = [one.text for one in remedies(wish, FleetView(fleet), []) if one.kind == "taint"]
    assert said == ["a toleration: the taint dedicated=train:NoSchedule in placement.tolerations"]


# ---- what comes last ---------------------------------------------------------------------------


def test_a_node_that_would_rather_not_is_the_last_in_its_domain() -> None:
    fleet = [node("a", "H20", taints=[LOATH]), node("b", *["H20"] * 3)]
    assert homes(place(ask(1, 1, ROLES, WIDE), fleet, [])) == {"b"}
    assert homes(place(ask(2, 2, ROLES, WIDE), fleet, [])) == {"a", "b"}
    bears = bearing(Toleration(key="old", operator="Exists"))
    assert homes(place(ask(1, 0, ROLES, bears), fleet, [])) == {"a"}


def test_a_domain_that_would_rather_not_is_the_last_and_it_is_said_why() -> None:
    near = PlacementSpec(affinity="s1")
    fleet = [
        node("a", "H20", "H20", s1="m0", s2="b", taints=[LOATH]),
        node("b", "H20", "L20", *["L20"] * 6, s1="m1", s2="b"),
    ]
    answer = place(ask(1, 1, ROLES, near), fleet, [])
    assert homes(answer) == {"b"}
    assert isinstance(answer, Placed)
    assert answer.rejected == (
        "s1 m0: fits, but would use nodes whose taint says PreferNoSchedule",
    )


def test_ranks_of_one_instance_avoid_nodes_that_would_rather_not() -> None:
    roles = {P: role("p", ranks=2), D: role("d")}
    fleet = [
        node("a", "H20", taints=[LOATH], s1="m"),
        *(node(name, "H20", "H20", s1="m") for name in "bc"),
    ]
    assert homes(place(ask(1, 0, roles, WIDE), fleet, [])) == {"b", "c"}


@CALM
@given(asks(), nodes())
def test_where_every_node_would_rather_not_all_is_as_where_none_would(
    wish: Ask, fleet: list[NodeView]
) -> None:
    bare = [replace(one, taints=()) for one in fleet]
    loath = [replace(one, taints=(parse_taint(LOATH),)) for one in fleet]
    assert place(wish, loath, []) == place(wish, bare, [])


def test_in_the_stead_of_a_torn_node_no_node_is_taken_that_would_rather_not() -> None:
    halves = {0: 0, 1: 0, 2: 1, 3: 1}
    torn = replace(node("a", *["H20"] * 4, s1="m", free=[1, 2]), neighbourhoods=halves)
    used = replace(torn, agent_id="b", free=(0, 1, 2), taints=(parse_taint(LOATH),))
    roles = {P: role("p", gpus=2), D: role("d")}
    assert homes(place(ask(1, 0, roles, WIDE), [torn, used], [])) == {"a"}
    assert homes(place(ask(1, 0, roles, WIDE), [torn, replace(used, taints=())], [])) == {"b"}


# ---- what changes meanwhile --------------------------------------------------------------------


def test_a_taint_that_comes_or_goes_is_seen_at_once() -> None:
    view = FleetView([node("a", "H20", taints=[TRAIN])])
    wish = ask(1, 0, ROLES, WIDE)
    assert isinstance(view.place(wish, []), Infeasible)
    view.put(node("a", "H20"))
    assert isinstance(view.place(wish, []), Placed)
    view.put(node("a", "H20", taints=[AWAY]))
    assert isinstance(view.place(wish, []), Infeasible)


def test_a_cycle_takes_back_a_place_that_was_tainted_meanwhile() -> None:
    view = FleetView([node("a", "H20"), node("b", "H20", "H20")])
    cycle = Cycle(view, [Request(ask(1, 0, ROLES, WIDE))])
    assert cycle.advance()
    view.put(node("a", "H20", taints=[TRAIN]))
    assert cycle.commit() is None, "its place is no place any more"
    assert cycle.advance()
    (outcome,) = cycle.commit() or ()
    assert outcome.placed is not None
    assert homes(outcome.placed) == {"b"}


# ---- who leaves --------------------------------------------------------------------------------

WHY = "n1 carries the taint broken:NoExecute"


def unwelcome(name: str, agent: str) -> Standing:
    return replace(stand(name, D, agent), unwelcome=WHY)


def test_who_is_not_wanted_where_it_stands_leaves_first_and_it_is_said() -> None:
    fleet = [node("n0", "H20", "H20"), node("n1", "H20", "H20")]
    standing = [stand("p", P, "n0"), stand("d0", D, "n0"), unwelcome("d1", "n1")]
    victims = choose_victims({D: 1}, standing, fleet, EVEN)
    assert victims.instance_ids == ("d1",)
    assert f"not wanted there ({WHY})" in victims.reason


def test_who_is_not_wanted_moves_behind_the_sick() -> None:
    fleet = [node("n0", "H20", "H20"), node("n1", "H20", "H20", taints=[AWAY])]
    sick = replace(stand("s", P, "n0"), sick="n0 GPU 0: lost")
    both = [unwelcome("d", "n1"), sick]

    def placer(one: Standing, placement: PlacementSpec) -> Placed | Infeasible:
        return place(ask(0, 1, ROLES, placement), fleet, [])

    first = repair(both, fleet, EVEN, WIDE, placer)
    assert not isinstance(first, str)
    assert first.leaves is sick
    second = repair(both[:1], fleet, EVEN, WIDE, placer)
    assert not isinstance(second, str)
    assert (second.leaves.instance_id, second.why) == (
        "d",
        f"is not wanted where it stands, {WHY}",
    )
    assert homes(second.comes) == {"n0"}


def test_nothing_is_moved_onto_a_node_with_more_taints_to_empty_another() -> None:
    def two(name: str, *taints: str) -> NodeView:
        return node(name, "H20", "H20", s1="m", free=[1], taints=taints)

    tenants = [Tenant("x", "a", (0,)), Tenant("y", "b", (0,))]
    assert not defragment([two("a"), two("b", TRAIN)][::-1], tenants[:1])
    (emptied,) = defragment([two("a", TRAIN), two("b")], tenants)
    assert emptied.agent_id == "a"
