"""Repair: what stands badly, the one move that heals most, and that a series of moves ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.words import Role
from heteroscale_coordinator.core.placement import (
    Ask,
    Infeasible,
    Move,
    NodeView,
    Placed,
    Standing,
    flaws,
    pairs_of,
    place,
    repair,
)
from heteroscale_coordinator.core.placement.repair import excess
from heteroscale_coordinator.core.spec import PlacementSpec, RatioSpec
from tests.core.placement.fleets import CALM, D, P, node, nodes, role, stand, standings

HALF = RatioSpec(min=0.5, max=0.5)
PLAIN = PlacementSpec()
ROLES = {P: role("p"), D: role("d")}


def fleet(*free: int) -> list[NodeView]:
    """Return one node in each minipod, with so many GPUs free of eight."""
    return [
        node(f"n{i}", *["H20"] * 8, s1=f"m{i}", s2="b", free=range(n)) for i, n in enumerate(free)
    ]


def found(
    standing: Sequence[Standing],
    where: Sequence[NodeView],
    ratio: RatioSpec = HALF,
    placement: PlacementSpec = PLAIN,
) -> Move | str:
    def placer(one: Standing, wish: PlacementSpec) -> Placed | Infeasible:
        rest = [other for other in standing if other is not one]
        return place(Ask("chat", ROLES, {one.role: 1}, wish), where, rest)

    return repair(standing, where, ratio, placement, placer)


def group(agent: str, prefill: int, decode: int) -> list[Standing]:
    return [stand(f"{agent}-p{n}", P, agent) for n in range(prefill)] + [
        stand(f"{agent}-d{n}", D, agent) for n in range(decode)
    ]


def move(answer: Move | str) -> tuple[str, str]:
    """Return who leaves, and the agent where another comes."""
    assert isinstance(answer, Move), answer
    return answer.leaves.instance_id, answer.comes.spots[0].ranks[0].agent_id


def test_where_all_stand_well_nothing_is_wrong() -> None:
    assert found(group("n0", 1, 2) + group("n1", 2, 4), fleet(4, 4)) == ""
    assert found([], fleet(4)) == ""


def test_a_group_over_two_domains_comes_together_where_there_is_room() -> None:
    apart = [stand("p", P, "n0"), stand("d0", D, "n0"), stand("d1", D, "n1")]
    assert move(found(apart, fleet(1, 5))) == ("d1", "n0")
    said = found(apart, fleet(0, 5))
    assert isinstance(said, str)
    assert said.startswith(
        "decode d1 stands with no prefill in its s1, but nothing better is free:"
    )


def test_a_group_out_of_balance_gives_to_the_one_that_lacks() -> None:
    standing = group("n0", 2, 6) + group("n1", 2, 2)
    leaves, comes = move(found(standing, fleet(2, 2)))
    assert leaves.startswith("n0-d")
    assert comes == "n1"


def test_what_rounding_makes_is_no_flaw() -> None:
    assert found(group("n0", 1, 1) + group("n1", 2, 3), fleet(4, 4)) == ""


def test_an_instance_on_sick_hardware_goes_first_and_anywhere() -> None:
    sick = replace(stand("n0-d9", D, "n0"), sick="n0 GPU 3: lost")
    standing = [*group("n0", 2, 3), sick, *group("n1", 1, 1), *group("n2", 0, 1)]
    answer = found(standing, fleet(2, 2, 2))
    assert move(answer)[0] == "n0-d9"
    assert isinstance(answer, Move)
    assert answer.why == "stands on sick hardware, n0 GPU 3: lost"


def test_who_is_on_the_way_out_is_left_alone_and_so_is_a_cordon() -> None:
    leaving = replace(stand("d", D, "n1", withdrawn=True), sick="n1 GPU 0: lost")
    assert found([*group("n0", 1, 2), leaving], fleet(4, 4)) == ""
    cordoned = [replace(one, cordoned=True) for one in group("n0", 1, 2)]
    assert found(cordoned, fleet(4, 4)) == ""


A, F = Role.ATTENTION, Role.FFN
SPLIT = {**ROLES, A: role("p"), F: role("p")}


def healed(
    standing: Sequence[Standing], where: Sequence[NodeView], inner: RatioSpec | None
) -> Move | str:
    """Return what repair finds for a service whose prefill is split."""

    def placer(one: Standing, placement: PlacementSpec) -> Placed | Infeasible:
        rest = [other for other in standing if other is not one]
        return place(Ask("moe", SPLIT, {one.role: 1}, placement), where, rest)

    return repair(standing, where, HALF, PLAIN, placer, inner=inner)


ONE_TO_ONE = RatioSpec(min=1, max=1)


def test_half_of_a_split_prefill_goes_to_its_other_half() -> None:
    standing = [
        *(stand("a0", A, "n0"), stand("f0", F, "n0"), stand("d0", D, "n0")),
        *(stand("f1", F, "n1"), stand("a1", A, "n2"), stand("d1", D, "n2")),
    ]
    answer = healed(standing, fleet(2, 2, 2), ONE_TO_ONE)
    assert isinstance(answer, Move)
    # As good as a1 beside f1, and the first by its domain.
    assert (answer.leaves.instance_id, answer.comes.spots[0].ranks[0].agent_id) == ("f1", "n2")
    assert answer.why == "stands with no attention in its s1"
    assert healed(standing, fleet(0, 0, 0), ONE_TO_ONE) != ""


def test_of_a_split_prefill_decode_goes_to_attention_and_no_pair_is_moved() -> None:
    pair = [stand("a", A, "n0"), stand("f", F, "n0")]
    answer = healed([*pair, stand("d", D, "n1")], fleet(2, 2), ONE_TO_ONE)
    assert isinstance(answer, Move)
    assert (answer.leaves.instance_id, answer.why) == ("d", "stands with no attention in its s1")
    assert healed(pair, fleet(2, 2), ONE_TO_ONE) == "", (
        "attention without decode stays with its ffn"
    )


def test_of_a_split_prefill_without_an_inner_ratio_only_decode_and_the_sick_move() -> None:
    standing = [stand("a", A, "n0"), stand("f", F, "n1"), stand("d", D, "n0")]
    assert healed(standing, fleet(1, 1, 1), None) == ""
    standing[1] = replace(standing[1], sick="n1 GPU 0: lost")
    answer = healed(standing, fleet(1, 1, 1), None)
    assert isinstance(answer, Move)
    assert answer.leaves.instance_id == "f"


@CALM
@given(st.lists(st.tuples(st.sampled_from((A, F, D)), st.integers(0, 3)), max_size=9))
def test_moves_of_a_split_prefill_end_and_keep_the_counts(
    where: list[tuple[Role, int]],
) -> None:
    standing = [stand(f"i{n}", role_, f"n{home}") for n, (role_, home) in enumerate(where)]
    nodes_ = fleet(2, 2, 2, 2)
    counts = Counter(one.role for one in standing)
    for _ in range(3 * len(standing) + 1):
        answer = healed(standing, nodes_, ONE_TO_ONE)
        if isinstance(answer, str):
            break
        agents = (answer.comes.spots[0].ranks[0].agent_id,)
        new = replace(answer.leaves, agent_ids=agents)
        standing = [one for one in standing if one is not answer.leaves] + [new]
    else:
        pytest.fail("the moves do not end")
    assert Counter(one.role for one in standing) == counts


def test_a_wider_affinity_is_content_with_less() -> None:
    apart = [stand("p", P, "n0"), stand("d0", D, "n0"), stand("d1", D, "n1")]
    assert found(apart, fleet(1, 5), placement=PlacementSpec(affinity="s2")) == ""


def test_ranks_in_two_domains_are_nobodys_peers() -> None:
    wide = [stand("p", P, "n0"), stand("d0", D, "n0"), stand("d1", D, "n0", "n1")]
    where = fleet(2, 2)
    pairs = pairs_of(wide, where, HALF, "s1")
    assert [flaw.one.instance_id for flaw in flaws(wide, where, pairs)] == ["d1"]


def test_a_place_that_is_no_better_is_not_taken() -> None:
    def elsewhere(one: Standing, _: PlacementSpec) -> Placed | Infeasible:
        return place(Ask("chat", ROLES, {one.role: 1}, PLAIN), fleet(0, 0, 1), [])

    apart = [stand("p", P, "n0"), stand("d0", D, "n0"), stand("d1", D, "n1")]
    said = repair(apart, fleet(0, 0, 1), HALF, PLAIN, elsewhere)
    assert said == "decode d1 stands with no prefill in its s1, but no other place is better"


@CALM
@given(
    standings(),
    nodes(),
    st.sampled_from([HALF, RatioSpec(min=0.2, max=3.0), RatioSpec(min=2.0, max=2.0)]),
    st.sampled_from(["s1", "s2", "cluster"]),
)
def test_moves_end_and_each_makes_it_better_and_keeps_the_counts(
    standing: list[Standing], where: list[NodeView], ratio: RatioSpec, level: str
) -> None:
    placement = PlacementSpec.model_validate({"affinity": level})
    counts = Counter(one.role for one in standing)
    pairs = pairs_of(standing, where, ratio, level)
    left = excess(standing, pairs)
    for _ in range(left + 1):
        answer = found(standing, where, ratio, placement)
        if isinstance(answer, str):
            break
        spot = answer.comes.spots[0]
        agents = tuple(rank.agent_id for rank in spot.ranks)
        new = replace(answer.leaves, agent_ids=agents, sick="")
        standing = [one for one in standing if one is not answer.leaves] + [new]
        where = [_taken(one, set(agents)) for one in where]
        now = excess(standing, pairs)
        assert now < left
        left = now
    else:
        pytest.fail("the moves do not end")
    assert Counter(one.role for one in standing) == counts


def _taken(one: NodeView, agents: set[str]) -> NodeView:
    return replace(one, free=one.free[1:]) if one.agent_id in agents else one
