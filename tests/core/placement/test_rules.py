"""A service's own rules for its placement: failure domains, who feeds whom, what is cheapest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heteroscale.words import Role
from heteroscale_coordinator.core.placement import (
    Ask,
    FleetView,
    Infeasible,
    NodeView,
    Placed,
    Standing,
    may_become,
    place,
)
from heteroscale_coordinator.core.placement.cost import cost_of
from heteroscale_coordinator.core.placement.feeds import can_feed
from heteroscale_coordinator.core.placement.plan import place_in
from heteroscale_coordinator.core.placement.spread import domain_of, limit
from heteroscale_coordinator.core.spec import PlacementSpec, RoleSpec, SpreadSpec
from tests.core.placement.fleets import (
    CALM,
    D,
    P,
    ask,
    asks,
    node,
    nodes,
    role,
    stand,
    standings,
)
from tests.core.placement.test_place import homes, placed, reasons

PODS = [node(f"n{i}", *["H20"] * 4, s1=f"pod-{i // 2}", s2=f"big-{i // 4}") for i in range(8)]


def apart(
    prefill: int,
    decode: int,
    most: float,
    level: str = "s1",
    *,
    required: bool = True,
    affinity: str = "s1",
) -> Ask:
    spread = {"level": level, "most": most, "required": required}
    spec = PlacementSpec.model_validate({"affinity": affinity, "spread": spread})
    return ask(prefill, decode, {P: role("p"), D: role("d")}, spec)


def counts(
    answer: Placed, fleet: Sequence[NodeView], level: str, standing: Sequence[Standing] = ()
) -> dict[Role, Counter[str]]:
    domains = {one.agent_id: domain_of(one, level) for one in fleet}
    found: dict[Role, Counter[str]] = {P: Counter(), D: Counter()}
    for spot in answer.spots:
        found[spot.role].update({domains[rank.agent_id] for rank in spot.ranks})
    for one in standing:
        if not one.withdrawn:
            found[one.role].update({domains[a] for a in one.agent_ids if a in domains})
    return found


# ---- spread ------------------------------------------------------------------------------------


def test_a_step_that_would_stand_in_one_domain_is_cut_where_half_may() -> None:
    answer = placed(place(apart(2, 4, 0.5), PODS, []))
    assert counts(answer, PODS, "s1") == {
        P: {"big-0/pod-0": 1, "big-0/pod-1": 1},
        D: {"big-0/pod-0": 2, "big-0/pod-1": 2},
    }
    assert answer.affinity_met == "s1"
    assert answer.reason.endswith("; at most 1 of 2 prefill, 2 of 4 decode in one s1")


def test_without_a_rule_it_stands_together() -> None:
    answer = placed(place(ask(2, 4, {P: role("p"), D: role("d")}), PODS, []))
    assert len({spot.group for spot in answer.spots}) == 1


def test_what_stands_already_counts() -> None:
    standing = [stand("p0", P, "n0"), stand("d0", D, "n0"), stand("d1", D, "n1")]
    answer = placed(place(apart(1, 2, 2), PODS, standing))
    assert not {"n0", "n1"} & set(homes(answer))
    withdrawn = [stand("p0", P, "n0", withdrawn=True), stand("d0", D, "n0", withdrawn=True)]
    assert "n0" in homes(placed(place(apart(1, 2, 2), PODS, withdrawn)))


def test_no_more_than_one_on_a_host_and_agents_of_one_host_fail_together() -> None:
    answer = placed(place(apart(1, 4, 1, "node"), PODS, []))
    assert max(counts(answer, PODS, "node")[D].values()) == 1
    same = [node(name, *["H20"] * 4, s1="pod") for name in "ab"]
    twins = [NodeView("a", "host", {"s1": "pod"}, {0: "H20"}, (0,), same[0].templates)]
    twins.append(NodeView("b", "host", {"s1": "pod"}, {0: "H20"}, (0,), same[0].templates))
    assert isinstance(place(apart(0, 2, 1, "node"), twins, []), Infeasible)


def test_the_view_is_as_before_once_a_limit_was_kept_or_could_not_be() -> None:
    view = FleetView(PODS)
    before = [
        (node, view.class_of(node.agent_id), view.free(node.agent_id, "H20")) for node in view
    ]
    for asked in (apart(3, 5, 2, affinity="cluster"), apart(8, 9, 2, affinity="cluster")):
        first, again = view.place(asked, []), view.place(asked, [])
        assert first == again
        assert before == [
            (node, view.class_of(node.agent_id), view.free(node.agent_id, "H20")) for node in view
        ]
        assert not any(view.held(node.agent_id) for node in view)


def test_a_limit_without_room_is_infeasible_in_words_or_passed_over() -> None:
    lone = [node("n0", *["H20"] * 8, s1="pod")]
    said = reasons(place(apart(1, 2, 0.5), lone, []))
    assert said[0] == "spread: at most 1 of 1 prefill, 1 of 2 decode in one s1 leaves no room"
    assert any("n0 pod has 1 of at most 1 decode" in one for one in said)
    wished = placed(place(apart(1, 2, 0.5, required=False), lone, []))
    assert wished.reason.endswith("; 2 of 2 decode in pod: the spread over s1 has no room")


def test_what_has_no_place_at_all_says_so_as_ever() -> None:
    said = reasons(place(apart(1, 20, 0.9), PODS[:1], []))
    assert said == plan_reasons(apart(1, 20, 0.9), PODS[:1])


def plan_reasons(asked: Ask, fleet: Sequence[NodeView]) -> tuple[str, ...]:
    return reasons(place_in(FleetView(fleet), asked, []))


def test_nodes_that_name_no_s1_share_the_next_level_up() -> None:
    one, two = node("a", "H20", s2="big"), node("b", "H20", s2="big")
    assert domain_of(one, "s1") == domain_of(two, "s1") == "big"
    assert domain_of(node("c", "H20"), "s1") == "fleet"
    assert domain_of(PODS[0], "cluster") == "fleet"


@pytest.mark.parametrize(
    ("most", "total", "least"), [(0.5, 1, 1), (0.5, 3, 2), (0.5, 4, 2), (0.1, 3, 1), (2, 99, 2)]
)
def test_a_share_is_rounded_up(most: float, total: int, least: int) -> None:
    assert limit(SpreadSpec(most=most), total) == least


@pytest.mark.parametrize("most", [0, -1, 1.5, 0.0])
def test_what_no_limit_can_be_is_refused(most: float) -> None:
    with pytest.raises(ValidationError):
        SpreadSpec.model_validate({"most": most})


@CALM
@given(asks(), nodes(), standings(), st.sampled_from(["node", "s1", "s2", "cluster"]), st.data())
def test_a_required_limit_is_never_broken_and_a_wished_one_never_costs_the_place(
    asked: Ask, fleet: list[NodeView], standing: list[Standing], level: str, data: st.DataObject
) -> None:
    most = data.draw(st.sampled_from([0.3, 0.5, 1, 2, 3]))
    required = data.draw(st.booleans())
    rule = SpreadSpec.model_validate({"level": level, "most": most, "required": required})
    spread = asked.placement.model_copy(update={"spread": rule})
    asked = Ask(asked.service, asked.roles, asked.delta, spread)
    without = place_in(FleetView(fleet), asked, standing)
    answer = place(asked, fleet, standing)
    if isinstance(without, Infeasible):
        assert isinstance(answer, Infeasible)
        return
    if not required:
        assert isinstance(answer, Placed)
    if isinstance(answer, Infeasible):
        return
    taken = Counter((r.agent_id, i) for s in answer.spots for r in s.ranks for i in r.gpu_indices)
    free = {(one.agent_id, i) for one in fleet if one.usable for i in one.free}
    assert set(taken) <= free
    assert max(taken.values(), default=1) == 1
    asked_for = {r: n for r, n in asked.delta.items() if n > 0}
    assert Counter(s.role for s in answer.spots) == asked_for
    if required and not answer.reason.endswith("has no room"):
        before = counts(Placed((), "", "s1"), fleet, level, standing)
        after = counts(answer, fleet, level, standing)
        for r, n in asked_for.items():
            total = n + sum(one.role is r and not one.withdrawn for one in standing)
            for domain, held in after[r].items():
                assert held <= max(limit(rule, total), before[r][domain])


# ---- who feeds whom ----------------------------------------------------------------------------

MIXED = [
    node("nv", *["H20"] * 4, s1="pod", s2="big"),
    node("nl", *["L20"] * 4, s1="pod", s2="big"),
    node("amd", *["MI300X"] * 4, s1="pod", s2="big"),
]
VENDORS = {"H20": "nvidia", "L20": "nvidia", "MI300X": "amd"}


def mixed(
    prefill: int,
    decode: int,
    types: Mapping[Role, tuple[str, ...]],
    feeds: Mapping[str, Sequence[str]] | None = None,
    vendors: Mapping[str, str] = VENDORS,
) -> Ask:
    roles = {P: role("p", *types.get(P, ())), D: role("d", *types.get(D, ()))}
    spec = PlacementSpec.model_validate({"feeds": feeds or {}})
    return Ask("chat", roles, {P: prefill, D: decode}, spec, vendors)


def on_types(answer: Placed) -> set[tuple[Role, str]]:
    return {(spot.role, spot.gpu_type) for spot in answer.spots}


def test_across_vendors_nothing_is_fed_unless_it_is_named() -> None:
    wish = {P: ("L20",), D: ("MI300X", "H20")}
    assert on_types(placed(place(mixed(1, 2, wish), MIXED, []))) == {(P, "L20"), (D, "H20")}
    named = mixed(1, 2, wish, {"L20": ["MI300X"]})
    assert on_types(placed(place(named, MIXED, []))) == {(P, "L20"), (D, "MI300X")}
    (said,) = reasons(place(mixed(1, 1, {P: ("L20",), D: ("MI300X",)}), MIXED, []))
    assert said == (
        "no prefill on L20 can feed decode on MI300X; name pairs that can in placement.feeds"
    )


def test_unknown_vendors_keep_nobody_apart() -> None:
    wish = mixed(1, 1, {P: ("L20",), D: ("MI300X",)}, vendors={})
    assert on_types(placed(place(wish, MIXED, []))) == {(P, "L20"), (D, "MI300X")}
    half = mixed(1, 1, {P: ("L20",), D: ("MI300X",)}, vendors={"L20": "nvidia", "H20": "x"})
    assert isinstance(place(half, MIXED, []), Placed)


def test_a_fleet_without_gpus_is_told_as_such_whatever_feeds_what() -> None:
    named = PlacementSpec(feeds={"L20": ("H20",)})
    asked = ask(1, 1, {P: role("p"), D: role("d")}, named)
    assert "cluster: no nodes" in reasons(place(asked, [], []))


def test_what_is_named_is_all_that_a_type_feeds() -> None:
    wish = mixed(1, 2, {P: ("L20",), D: ("H20", "L20")}, {"L20": ["L20"]})
    assert on_types(placed(place(wish, MIXED, []))) == {(P, "L20"), (D, "L20")}


def test_the_pair_that_has_room_is_taken_when_the_preferred_has_none() -> None:
    wish = mixed(1, 5, {P: ("L20", "MI300X"), D: ("H20", "MI300X")}, {"L20": ["H20"]})
    assert isinstance(place(wish, MIXED, []), Infeasible)
    less = mixed(1, 2, {P: ("L20", "MI300X"), D: ("H20", "MI300X")}, {"L20": ["H20"]})
    full = [node("nv", "H20", free=[], s1="pod"), *MIXED[1:]]
    assert on_types(placed(place(less, full, []))) == {(P, "MI300X"), (D, "MI300X")}


def test_what_stands_narrows_what_is_added() -> None:
    decode = [Standing("d", D, ("amd",), "g", gpu_type="MI300X")]
    grown = placed(place(mixed(1, 0, {}), MIXED, decode))
    assert on_types(grown) == {(P, "MI300X")}
    (said,) = reasons(place(mixed(1, 0, {P: ("L20", "H20")}), MIXED, decode))
    assert said.startswith("no prefill on L20 or H20 can feed the decode that stands on MI300X;")
    prefill = [Standing("p", P, ("nl",), "g", gpu_type="L20")]
    (said,) = reasons(place(mixed(0, 1, {D: ("MI300X",)}), MIXED, prefill))
    assert said.startswith(
        "no decode on MI300X can take the KV cache of the prefill that stands on"
    )


def test_an_instance_changes_its_role_only_where_all_pairs_stay_compatible() -> None:
    asked = mixed(0, 0, {}, {"L20": ["H20"]})
    lone = Standing("p0", P, ("nl",), "g", gpu_type="L20")
    beside = Standing("p1", P, ("nl",), "g", gpu_type="L20")
    decode = Standing("d", D, ("nv",), "g", gpu_type="H20")
    assert may_become(asked, D, lone, [lone, decode])
    assert not may_become(asked, D, lone, [lone, beside, decode])
    assert may_become(asked, P, decode, [beside, decode])
    foreign = Standing("x", D, ("amd",), "g", gpu_type="MI300X")
    assert not may_become(asked, P, decode, [beside, decode, foreign])


@CALM
@given(
    nodes(),
    st.dictionaries(
        st.sampled_from(["H20", "L20"]), st.lists(st.sampled_from(["H20", "L20"]), unique=True)
    ),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_no_pair_is_ever_placed_that_cannot_feed(
    fleet: list[NodeView], feeds: dict[str, list[str]], prefill: int, decode: int
) -> None:
    asked = mixed(prefill, decode, {}, feeds, {"H20": "a", "L20": "b"})
    answer = place(asked, fleet, [])
    if isinstance(answer, Placed):
        types = on_types(answer)
        for giver in (t for r, t in types if r is P):
            for taker in (t for r, t in types if r is D):
                assert can_feed(asked, giver, taker)


def test_many_types_are_tried_alone_and_all_together() -> None:
    names = [f"T{n}" for n in range(8)]
    fleet = [node(name, name, name, s1="pod") for name in names]
    feeds = {name: [name] for name in names}
    asked = mixed(1, 1, {P: tuple(names), D: tuple(reversed(names))}, feeds)
    (giver,) = {t for r, t in on_types(placed(place(asked, fleet, []))) if r is P}
    assert giver in names


# ---- what is cheapest --------------------------------------------------------------------------

PRICES = {"H20": 3.0, "L20": 1.0}


def priced(
    types: tuple[str, ...], choice: str, targets: Mapping[str, float], **fields: object
) -> Ask:
    spec = {"template": "d", "gpuTypes": types, "gpuChoice": choice, "target": targets, "max": 99}
    decode = RoleSpec.model_validate({**spec, **fields})
    return Ask("chat", {D: decode}, {D: 1}, prices=PRICES)


def test_cost_is_of_a_roles_own_work() -> None:
    spec = RoleSpec(template="d", gpus=2, target={"H20": 1000.0, "L20": 250.0})
    assert cost_of(spec, "H20", 3.0) == pytest.approx(3.0 * 2 / 3.6)
    assert cost_of(spec, "L20", 1.0) > cost_of(spec, "H20", 3.0)


@pytest.mark.parametrize(
    ("types", "choice", "targets", "taken"),
    [
        ((), "listed", {"H20": 1000.0, "L20": 250.0}, "H20"),
        ((), "listed", {"H20": 1000.0, "L20": 500.0}, "L20"),
        (("H20", "L20"), "listed", {"H20": 1000.0, "L20": 500.0}, "H20"),
        (("H20", "L20"), "cheapest", {"H20": 1000.0, "L20": 500.0}, "L20"),
        (("MI300X", "H20"), "cheapest", {"H20": 1000.0}, "H20"),
    ],
)
def test_the_cheapest_type_for_the_work_is_first_where_that_is_open(
    types: tuple[str, ...], choice: str, targets: dict[str, float], taken: str
) -> None:
    answer = placed(place(priced(types, choice, targets), MIXED, []))
    assert [spot.gpu_type for spot in answer.spots] == [taken]
    told = "cheapest per million tokens first: decode" in answer.reason
    assert told is (choice == "cheapest" or not types)


def test_a_price_that_is_no_number_is_none() -> None:
    asked = priced(("H20", "L20"), "cheapest", {"H20": 1.0, "L20": 9.0})
    for strange in (nan, inf):
        unknown = replace(asked, prices={"H20": strange, "L20": strange})
        assert "cheapest" not in placed(place(unknown, MIXED, [])).reason
        half = placed(place(replace(asked, prices={"H20": strange, "L20": 1.0}), MIXED, []))
        assert [spot.gpu_type for spot in half.spots] == ["L20"]


def test_without_prices_or_a_choice_nothing_is_reordered() -> None:
    unpriced = priced(("H20", "L20"), "cheapest", {"H20": 1.0, "L20": 9.0})
    unpriced = Ask(unpriced.service, unpriced.roles, unpriced.delta)
    assert "cheapest" not in placed(place(unpriced, MIXED, [])).reason
    assert place(unpriced, MIXED, []) == place_in(FleetView(MIXED), unpriced, [])


def test_a_type_without_a_price_is_still_taken_when_nothing_else_is_free() -> None:
    answer = placed(place(priced((), "listed", {"H20": 1.0}), MIXED[2:], []))
    assert [spot.gpu_type for spot in answer.spots] == ["MI300X"]
