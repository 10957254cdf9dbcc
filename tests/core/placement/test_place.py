"""Placement by example: the demo's fleet, and one small case for each rule."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from heteroscale_coordinator.core.placement import Ask, Infeasible, Placed, Standing, place
from heteroscale_coordinator.core.spec import PlacementSpec
from tests.core.placement.fleets import A, D, P, ask, node, role, stand, two_minipods

STRICT = PlacementSpec(affinity="s1", required=True)


def placed(answer: Placed | Infeasible) -> Placed:
    assert isinstance(answer, Placed), answer
    return answer


def reasons(answer: Placed | Infeasible) -> tuple[str, ...]:
    assert isinstance(answer, Infeasible), answer
    return answer.reasons


def homes(answer: Placed) -> list[str]:
    return [spot.ranks[0].agent_id for spot in answer.spots]


def test_the_demo_starts_in_one_minipod_each_role_on_its_type() -> None:
    answer = placed(place(ask(1, 2), two_minipods(), []))
    assert [
        (s.role, s.gpu_type, s.ranks[0].agent_id, s.ranks[0].gpu_indices) for s in answer.spots
    ] == [
        (D, "H20", "n0", (0,)),
        (D, "H20", "n0", (1,)),
        (P, "L20", "n1", (0,)),
    ]
    assert {spot.group for spot in answer.spots} == {"chat@s1=minipod-0"}
    assert answer.affinity_met == "s1"
    assert answer.reason == (
        "opens chat@s1=minipod-0 (high class) by 2 decode on H20 and 1 prefill on L20"
    )
    assert answer.rejected == ("s1 minipod-1: fits, but is equal, later by name",)


def test_the_demo_grows_the_group_it_has() -> None:
    standing = [stand("p", P, "n5"), stand("d", D, "n4")]
    answer = placed(place(ask(1, 2), two_minipods(), standing))
    assert {spot.group for spot in answer.spots} == {"chat@s1=minipod-1"}
    assert answer.reason.startswith("grows chat@s1=minipod-1")
    assert answer.rejected == ("s1 minipod-0: fits, but would be a new group",)


def test_the_whole_demo_fleet_can_be_filled() -> None:
    """16 GPUs: 5 prefill + 11 decode needs both minipods and the second choice of types."""
    answer = placed(place(ask(5, 11), two_minipods(), []))
    assert Counter(spot.role for spot in answer.spots) == {P: 5, D: 11}
    assert answer.affinity_met == "s2"


def test_a_step_larger_than_a_domain_is_split_into_balanced_parts() -> None:
    answer = placed(place(ask(4, 8, placement=STRICT), two_minipods(), []))
    parts = {(spot.group, spot.role) for spot in answer.spots}
    assert parts == {(f"chat@s1=minipod-{n}", r) for n in (0, 1) for r in (P, D)}
    for number in (0, 1):
        group = [s.role for s in answer.spots if s.group == f"chat@s1=minipod-{number}"]
        assert Counter(group) == {P: 2, D: 4}


def test_what_does_not_fit_is_infeasible_with_a_reason_for_every_level() -> None:
    said = reasons(place(ask(1, 16), two_minipods(), []))
    assert said == (
        "s1 minipod-0: 8 of 8 GPUs free of type H20 or L20, wanted 16 (decode)",
        "s1 minipod-1: 8 of 8 GPUs free of type H20 or L20, wanted 16 (decode)",
        "s2 bigpod: 16 GPUs free of the types named, wanted 17 (prefill and decode)",
        "cluster fleet: 16 GPUs free of the types named, wanted 17 (prefill and decode)",
    )


def test_required_affinity_is_infeasible_rather_than_wider() -> None:
    roles = {P: role("p", "L20"), D: role("d", "H20")}
    fleet = [node("a", "H20", s1="m0", s2="b"), node("b", "L20", s1="m1", s2="b")]
    wide = placed(place(ask(1, 1, roles), fleet, []))
    assert wide.affinity_met == "s2"
    assert wide.reason.endswith("wider than the wished s1, which has no room")
    assert wide.rejected[0].startswith("s1 m0: 0 of 0 GPUs free of type L20, wanted 1 (prefill)")
    said = reasons(place(ask(1, 1, roles, STRICT), fleet, []))
    assert [reason.split(":")[0] for reason in said] == ["s1 m0", "s1 m1"]


def test_a_node_that_names_no_s1_cannot_meet_a_required_s1() -> None:
    fleet = [node("a", "H20", "L20", s2="b")]
    assert reasons(place(ask(1, 1, placement=STRICT), fleet, [])) == ("s1: no node names its s1",)
    assert placed(place(ask(1, 1), fleet, [])).affinity_met == "s2"


def test_a_fleet_without_any_topology_is_one_cluster() -> None:
    answer = placed(place(ask(1, 1), [node("a", "H20", "L20")], []))
    assert answer.affinity_met == "cluster"
    assert {spot.group for spot in answer.spots} == {"chat@cluster=fleet"}


def test_high_class_is_spared_even_if_that_means_a_new_group() -> None:
    roles = {P: role("p"), D: role("d")}
    fleet = [
        node("a", "H20", "H20", s1="mixed", s2="b0"),
        node("b", "L20", "L20", s1="mixed", s2="b0"),
        node("c", "H20", "H20", s1="plain", s2="b1"),
    ]
    standing = [stand("p0", P, "a"), stand("d0", D, "b")]
    answer = placed(place(ask(1, 1, roles), fleet, standing))
    assert homes(answer) == ["c", "c"]
    assert answer.rejected == ("s1 mixed: fits, but would use more high-class GPUs",)


def test_a_loose_service_takes_the_low_class_nodes_of_its_domain() -> None:
    roles = {P: role("p"), D: role("d")}
    fleet = [
        node("a", "H20", "L20", s1="m0", s2="b0"),
        node("b", "H20", "H20", s1="m1", s2="b1"),
    ]
    loose = PlacementSpec(affinity="cluster")
    assert homes(placed(place(ask(1, 1, roles, loose), fleet, []))) == ["b", "b"]


def test_preferred_types_outweigh_class() -> None:
    fleet = [
        node("a", "H20", s1="mixed", s2="b0"),
        node("b", "L20", s1="mixed", s2="b0"),
        node("c", "H20", "H20", s1="plain", s2="b1"),
    ]
    assert homes(placed(place(ask(1, 1), fleet, []))) == ["a", "b"]


def test_the_least_room_that_suffices_is_taken() -> None:
    roles = {A: role("d", gpus=2)}
    fleet = [node("a", *["H20"] * 4, s1="m"), node("b", *["H20"] * 3, s1="m")]
    wanted = Ask("chat", roles, {A: 1})
    assert homes(placed(place(wanted, fleet, []))) == ["b"]


def test_the_search_steps_back_where_greedy_is_stuck() -> None:
    """Best fit puts the 3 on the 4 and leaves 1 + 3; only 3 on the 5, 2 + 2 on the 4 … fits."""
    roles = {P: role("p", gpus=2), D: role("d", gpus=3)}
    fleet = [node("a", *["H20"] * 4, s1="m"), node("b", *["H20"] * 5, s1="m")]
    answer = placed(place(ask(3, 1, roles, STRICT), fleet, []))
    by_role = [(spot.role, spot.ranks[0].agent_id) for spot in answer.spots]
    assert by_role == [(D, "b"), (P, "b"), (P, "a"), (P, "a")]


def test_ranks_of_one_instance_stand_on_different_agents_and_together_if_they_can() -> None:
    roles = {A: role("d", "H20", "L20", gpus=2, ranks=2)}
    fleet = [
        node("a", "H20", "H20", s1="m0", s2="b"),
        node("b", "H20", "H20", "L20", s1="m1", s2="b"),
        node("c", "H20", "H20", "L20", s1="m1", s2="b"),
    ]
    wanted = Ask("chat", roles, {A: 1}, PlacementSpec(affinity="s2"))
    (spot,) = placed(place(wanted, fleet, [])).spots
    assert [rank.agent_id for rank in spot.ranks] == ["b", "c"]


@pytest.mark.parametrize(
    ("short", "home"), [("m0", "a"), ("m1", "b")], ids=["first lacks", "second lacks"]
)
def test_a_repair_goes_where_the_group_lacks_the_role_most(short: str, home: str) -> None:
    fleet = [node(n, "H20", "H20", s1=s1, s2="b") for n, s1 in (("a", "m0"), ("b", "m1"))]
    standing: list[Standing] = []
    for agent, s1 in (("a", "m0"), ("b", "m1")):
        standing.append(stand(f"p-{s1}", P, agent))
        standing.extend(stand(f"d{n}-{s1}", D, agent) for n in range(1 if s1 == short else 2))
    assert homes(placed(place(ask(0, 1), fleet, standing))) == [home]


def test_a_repair_goes_where_the_role_is_lacking_even_on_a_less_preferred_type() -> None:
    fleet = [node("a", "H20", "H20", s1="m0"), node("b", "L20", "L20", s1="m1")]
    standing = [stand("p0", P, "a"), stand("d0", D, "a"), stand("p1", P, "b")]
    assert homes(placed(place(ask(0, 1), fleet, standing))) == ["b"]


def test_a_step_goes_where_it_evens_out_the_groups() -> None:
    roles = {P: role("p"), D: role("d")}
    fleet = [node(n, *["H20"] * 4, s1=s1) for n, s1 in (("a", "m0"), ("b", "m1"))]
    standing = [stand("p0", P, "a"), stand("d0", D, "a"), stand("d1", D, "a")]
    standing += [stand("p1", P, "b"), stand("d2", D, "b")]
    answer = placed(place(ask(1, 3, roles), fleet, standing))
    assert set(homes(answer)) == {"b"}
    assert answer.rejected == ("s1 m0: fits, but would be less balanced",)


def test_a_group_on_its_way_out_is_not_grown() -> None:
    standing = [stand("p", P, "n5", withdrawn=True), stand("d", D, "n4", withdrawn=True)]
    answer = placed(place(ask(1, 2), two_minipods(), standing))
    assert {spot.group for spot in answer.spots} == {"chat@s1=minipod-0"}


def test_a_split_step_opens_as_few_groups_as_can_be() -> None:
    roles = {P: role("p"), D: role("d")}
    sizes = {"a": 5, "b": 5, "c": 5}
    fleet = [node(n, *["H20"] * size, s1=f"m-{n}") for n, size in sizes.items()]
    answer = placed(place(ask(3, 3, roles), fleet, []))
    assert Counter(homes(answer)) == {"a": 4, "b": 2}


def test_each_role_goes_to_a_node_that_allows_its_template() -> None:
    roles = {P: role("p"), D: role("d")}
    only_p = node("a", "H20", s1="m", templates=frozenset({"p"}))
    fleet = [only_p, node("b", "H20", s1="m")]
    answer = placed(place(ask(1, 1, roles), fleet, []))
    assert {spot.role: spot.ranks[0].agent_id for spot in answer.spots} == {P: "a", D: "b"}


def test_a_hard_infeasible_case_is_searched_to_its_end() -> None:
    """30 of 32 GPUs wanted, but each 3 wastes one, so 4 leave room for 8 pairs only."""
    roles = {P: role("p", gpus=2), D: role("d", gpus=3)}
    fleet = [node(f"n{i}", *["H20"] * 4, *["L20"] * 4, s1="m") for i in range(4)]
    said = reasons(place(ask(9, 4, roles, STRICT), fleet, []))
    assert said == (
        "s1 m: room for each role or rank alone, not for 9 prefill and 4 decode together",
    )


def test_a_repair_of_several_groups_mends_each() -> None:
    fleet = [node(n, "H20", "H20", s1=s1, s2="b") for n, s1 in (("a", "m0"), ("b", "m1"))]
    standing = [stand("p0", P, "a"), stand("p1", P, "b")]
    assert sorted(homes(placed(place(ask(0, 2), fleet, standing)))) == ["a", "b"]


def test_a_lone_role_never_opens_a_group_far_from_its_peers() -> None:
    fleet = [node("a", "H20", s1="m0", free=()), node("b", "H20", s1="m1")]
    standing = [stand("p0", P, "a")]
    said = reasons(place(ask(0, 1, placement=STRICT), fleet, standing))
    assert "s1 m1: no prefill of the service stands there" in said
    assert placed(place(ask(0, 1), fleet, standing)).affinity_met == "cluster"


def test_unusable_nodes_and_missing_templates_are_named() -> None:
    fleet = [
        node("a", "H20", s1="m", why_not="disconnected"),
        node("b", "H20", s1="m", templates=frozenset({"p"})),
    ]
    (said,) = reasons(place(ask(0, 1, placement=STRICT), fleet, []))
    assert said.split("; ") == [
        "s1 m: 0 of 2 GPUs free of type H20 or L20, wanted 1 (decode)",
        "1 of 2 nodes do not allow template 'd'",
        "1 of 2 nodes not usable (a disconnected)",
    ]


def test_an_empty_fleet_and_a_strange_role_are_answered() -> None:
    assert reasons(place(ask(1, 1), [], []))[0] == "s1: no nodes"
    strange = Ask("chat", {A: role("d")}, {P: 1})
    assert reasons(place(strange, [], [])) == ("chat has no role prefill",)
    assert placed(place(ask(0, 0), [], [])).spots == ()


def test_a_step_far_beyond_the_fleet_is_refused_without_placing_its_parts() -> None:
    # A list of its units alone would fill the memory.
    many = 10**12
    for prefill, decode in ((many, many), (0, many), (many, 1)):
        asked = Ask("chat", ask(1, 1).roles, {P: prefill, D: decode})
        assert "wanted 1000000000000" in " ".join(reasons(place(asked, two_minipods(), [])))


def test_a_step_that_fits_only_in_part_is_refused_by_what_two_roles_leave_each_other() -> None:
    nodes = [node(f"n{i}", *["H20"] * 8, s1=f"pod-{i}") for i in range(20)]
    roles = {P: role("p", gpus=3), D: role("d", gpus=3)}
    asked = ask(20, 20, roles)
    assert placed(place(asked, nodes, []))
    assert reasons(place(ask(20, 21, roles), nodes, []))


def test_many_domains_are_summed_up() -> None:
    fleet = [node(f"n{i}", "H20", s1=f"m{i}") for i in range(6)]
    said = reasons(place(ask(1, 1, placement=STRICT), fleet, []))
    assert len(said) == 4
    assert said[-1] == "s1: 3 more without room"


def test_gpus_that_are_closed_are_told_with_the_first_reason() -> None:
    sick = replace(node("n", "H20", "H20", s1="m", free=[]), closed={0: "Xid 48", 1: "cordoned"})
    answer = place(ask(0, 1, placement=STRICT), [sick], [])
    (said,) = reasons(answer)
    assert said.startswith("s1 m: 0 of 2 GPUs free of type H20 or L20, wanted 1 (decode);")
    assert said.endswith("; 2 GPUs closed (n GPU 0: Xid 48)")


def test_ranks_that_want_more_nodes_than_there_are_need_no_search() -> None:
    """Six ranks fit on the GPUs, but each instance wants three nodes and only two have any."""
    roles = {P: role("p"), D: role("d", ranks=3)}
    fleet = [node(name, *["H20"] * 4, s1="m") for name in "ab"]
    said = reasons(place(ask(0, 2, roles, STRICT), fleet, []))
    lacks = "each takes 3 nodes of one GPU type with 1 GPU free, one for each rank"
    assert said == (f"s1 m: nodes for 0 of 2 decode: {lacks}",)


def test_ranks_on_nodes_of_two_types_are_not_one_instance() -> None:
    roles = {P: role("p"), D: role("d", gpus=2, ranks=2)}
    types = (("a", "H20"), ("b", "H20"), ("c", "L20"))
    fleet = [node(name, *[kind] * 4, s1="m") for name, kind in types]
    one = place(ask(0, 1, roles, STRICT), fleet, [])
    assert isinstance(one, Placed)
    said = reasons(place(ask(0, 3, roles, STRICT), fleet, []))
    lacks = "each takes 2 nodes of one GPU type with 2 GPUs free, one for each rank"
    assert said == (f"s1 m: nodes for 2 of 3 decode: {lacks}",)


def test_several_instances_of_several_ranks_stand_each_in_one_s1_while_they_can() -> None:
    roles = {P: role("p"), D: role("d", "H20", gpus=2, ranks=2)}
    fleet = [node(f"{s1}{n}", *["H20"] * 2, s1=s1, s2="b") for s1 in "xyz" for n in range(3)]
    wanted = ask(0, 4, roles, PlacementSpec(affinity="s2"))
    spots = placed(place(wanted, fleet, [])).spots
    homes_of = [{rank.agent_id[0] for rank in spot.ranks} for spot in spots]
    assert homes_of == [{"x"}, {"y"}, {"z"}, {"x", "y"}]


def test_units_that_find_no_place_class_by_class_are_laid_by_room_alone() -> None:
    """The widest takes the largest unit first; only the other way round do all three fit."""
    sizes = {"b0": (8, 8, 8), "b1": (8, 6, 6)}
    fleet = [
        node(f"{s2}-{n}", *["H20"] * gpus, s1=f"{s2}-{n}", s2=s2)
        for s2, all_ in sizes.items()
        for n, gpus in enumerate(all_)
    ]
    roles = {P: role("p", "H20", gpus=8), D: role("d", "H20", gpus=4)}
    near = PlacementSpec(affinity="s2", required=True)
    answer = placed(place(ask(3, 4, roles, near), fleet, []))
    held = Counter((spot.ranks[0].agent_id[:2], spot.role) for spot in answer.spots)
    assert held == {("b0", P): 2, ("b0", D): 2, ("b1", P): 1, ("b1", D): 2}
