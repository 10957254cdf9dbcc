"""Which GPUs of a node an instance gets: free ones, of one neighbourhood where one has room."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heteroscale_coordinator.core.model import Rank
from heteroscale_coordinator.core.placement import Ask, FleetView, NodeView, Placed, choose, place
from heteroscale_coordinator.core.placement.indices import Layout, deal, torn
from heteroscale_coordinator.core.placement.spots import LOOKED_AT
from tests.core.placement import fleets
from tests.core.placement.fleets import CALM, D, P, ask, node, role

TWO = {0: 0, 1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 1, 7: 1}
"""Two NUMA nodes of four GPUs."""
NUMA = Layout(TWO)
PAIRS = {index: index // 2 for index in range(8)}
"""NVLink bridges between two and two."""
BRIDGED = Layout(TWO, PAIRS)
H20S = ("H20",) * 8

_nears = st.dictionaries(st.integers(0, 7), st.integers(0, 2), max_size=8)
_frees = st.frozensets(st.integers(0, 7))


@pytest.mark.parametrize(
    ("free", "gpus", "chosen"),
    [
        ((0, 1, 2, 3, 4, 5, 6, 7), 4, (0, 1, 2, 3)),
        ((3, 4, 5, 6, 7), 4, (4, 5, 6, 7)),
        ((1, 2, 4, 5, 6, 7), 2, (1, 2)),
        ((0, 1, 2, 3, 6, 7), 2, (6, 7)),
        ((0, 1, 2, 3, 6, 7), 3, (0, 1, 2)),
        ((1, 2, 3, 4, 6, 7), 4, (1, 2, 3, 4)),
        ((2, 3, 4, 5, 6), 4, (2, 4, 5, 6)),
        ((0, 1, 2, 3, 4, 5, 6, 7), 6, (0, 1, 2, 3, 4, 5)),
        ((1, 6), 2, (1, 6)),
        ((1, 6), 3, (1, 6)),
        ((1, 6), 0, ()),
    ],
)
def test_the_tightest_neighbourhood_else_as_few_as_will_do(
    free: tuple[int, ...], gpus: int, chosen: tuple[int, ...]
) -> None:
    assert choose(free, gpus, NUMA) == chosen


def test_untold_neighbourhoods_are_one_and_the_lowest_go_first() -> None:
    assert choose((7, 1, 5, 2), 3, Layout()) == (1, 2, 5)
    assert deal((7, 1, 5, 2), (1, 2), Layout()) == [(1,), (2, 5)]


def test_what_is_told_goes_before_what_is_not() -> None:
    assert choose((0, 1, 6, 7), 2, Layout({6: 1, 7: 1})) == (6, 7)
    assert choose((0, 1, 7), 2, Layout({6: 1, 7: 1})) == (0, 1)


def test_of_equal_room_the_broken_neighbourhood_goes_first() -> None:
    near = {0: 0, 1: 0, 2: 1, 3: 1, 4: 1}
    assert choose((0, 1, 3, 4), 2, Layout(near)) == (3, 4)


@given(free=_frees, gpus=st.integers(0, 8), near=_nears)
@example(frozenset(range(8)), 4, TWO)
@CALM
def test_only_free_gpus_and_as_many_as_are_asked(
    free: frozenset[int], gpus: int, near: dict[int, int]
) -> None:
    chosen = choose(free, gpus, Layout(near))
    assert set(chosen) <= free
    assert len(set(chosen)) == len(chosen) == min(gpus, len(free))
    assert list(chosen) == sorted(chosen)
    assert choose(sorted(free, reverse=True), gpus, Layout(dict(reversed(near.items())))) == chosen


@given(free=_frees, gpus=st.integers(1, 8), near=_nears)
@CALM
def test_no_other_choice_lies_in_fewer_neighbourhoods(
    free: frozenset[int], gpus: int, near: dict[int, int]
) -> None:
    chosen = choose(free, gpus, Layout(near))
    homes = {near.get(index) for index in chosen}
    if len(free) > gpus:
        others = combinations(sorted(free), gpus)
        assert len(homes) == min(len({near.get(index) for index in other}) for other in others)


@given(free=_frees, gpus=st.integers(1, 8), near=_nears)
@CALM
def test_no_neighbourhood_with_room_is_tighter(
    free: frozenset[int], gpus: int, near: dict[int, int]
) -> None:
    room = Counter(near[index] for index in free if index in near)
    roomy = [count for count in room.values() if count >= gpus]
    homes = {near.get(index) for index in choose(free, gpus, Layout(near))}
    if roomy:
        (home,) = homes
        assert room[home or 0] == min(roomy)


@given(
    free=_frees,
    sizes=st.lists(st.integers(1, 4), max_size=4),
    near=_nears,
)
@CALM
def test_no_gpu_is_dealt_twice(
    free: frozenset[int], sizes: list[int], near: dict[int, int]
) -> None:
    dealt = deal(free, sizes, Layout(near))
    every = [index for one in dealt for index in one]
    assert len(every) == len(set(every))
    assert set(every) <= free
    if sum(sizes) <= len(free):
        assert [len(one) for one in dealt] == sizes


def test_the_largest_choose_first() -> None:
    assert deal(range(8), (1, 2, 2, 3), NUMA) == [(3,), (4, 5), (6, 7), (0, 1, 2)]


@pytest.mark.parametrize(
    ("free", "gpus", "chosen"),
    [
        ((0, 1, 2, 3, 4, 5, 6, 7), 2, (0, 1)),
        ((0, 2, 4, 5), 2, (4, 5)),
        ((1, 2, 3, 4, 5, 6, 7), 1, (1,)),
        ((0, 1, 2, 5, 6, 7), 1, (2,)),
        ((0, 2, 5, 7), 2, (0, 2)),
        ((0, 1, 2, 4, 5, 6, 7), 3, (0, 1, 2)),
        ((1, 2, 3, 4, 5, 6, 7), 3, (1, 2, 3)),
        ((0, 2, 3, 4, 5, 6, 7), 4, (4, 5, 6, 7)),
        ((0, 1, 2, 4, 6, 7), 4, (0, 1, 2, 4)),
    ],
)
def test_an_nvlink_pair_before_a_numa_node_and_whole_pairs_within_it(
    free: tuple[int, ...], gpus: int, chosen: tuple[int, ...]
) -> None:
    assert choose(free, gpus, BRIDGED) == chosen


def test_with_a_switch_or_without_any_link_numa_decides() -> None:
    switched = Layout(TWO, dict.fromkeys(range(8), 0))
    alone = Layout(TWO, {index: index for index in range(8)})
    for free, gpus in [((1, 2, 4, 5, 6, 7), 1), ((1, 2, 4, 5, 6, 7), 4), ((1, 2, 3, 4, 6, 7), 4)]:
        assert choose(free, gpus, switched) == choose(free, gpus, NUMA)
        assert choose(free, gpus, alone) == choose(free, gpus, NUMA)


def test_links_that_are_told_of_some_are_no_word_against_the_others() -> None:
    assert choose((0, 1, 2, 3), 2, Layout({}, {2: 7, 3: 7})) == (2, 3)
    assert choose((0, 1, 2), 2, Layout({}, {2: 7, 3: 7})) == (0, 1)


def test_who_limps_goes_last_among_equals_alone() -> None:
    limping = frozenset({0, 1, 4})
    assert choose(range(8), 2, Layout(limping=limping)) == (2, 3)
    assert choose(range(8), 2, Layout(TWO, limping=limping)) == (2, 3)
    assert choose(range(8), 4, Layout(TWO, limping=limping)) == (4, 5, 6, 7)
    assert choose(range(8), 2, Layout(TWO, PAIRS, limping)) == (2, 3)
    assert choose((0, 1, 4, 5, 6, 7), 2, Layout(TWO, limping=limping)) == (0, 1), "tighter first"


@given(free=_frees, gpus=st.integers(1, 8), numa=_nears, links=_nears, limping=_frees)
@CALM
def test_one_nvlink_group_else_one_numa_node_wherever_one_has_room(
    free: frozenset[int],
    gpus: int,
    numa: dict[int, int],
    links: dict[int, int],
    limping: frozenset[int],
) -> None:
    chosen = choose(free, gpus, Layout(numa, links, limping))
    assert set(chosen) <= free
    assert len(chosen) == min(gpus, len(free))
    if len(free) <= gpus:
        return
    linked = [n for n in Counter(links[i] for i in free if i in links).values() if n >= gpus]
    near = [n for n in Counter(numa[i] for i in free if i in numa).values() if n >= gpus]
    if linked:
        assert len({links[index] for index in chosen}) == 1
    elif near:
        assert len({numa[index] for index in chosen}) == 1


def test_an_instance_of_a_whole_node_is_not_torn() -> None:
    assert torn(range(8), TWO, range(8)) == 0
    assert torn((2, 3, 4, 5), TWO, range(8)) == 2
    assert torn((0, 4), TWO, (0, 4)) == 0, "no neighbourhood has two GPUs of the type"
    assert torn((0, 1, 9), TWO, range(8)) == 0, "what is not told is not known to be apart"


# ---- in a placement ----------------------------------------------------------------------------


def host(name: str, *free: int, s1: str = "m0") -> NodeView:
    return replace(node(name, *H20S, s1=s1, free=free), neighbourhoods=TWO)


def decodes(count: int, gpus: int, *hosts: NodeView) -> Placed:
    found = place(ask(0, count, {P: role("p"), D: role("d", "H20", gpus=gpus)}), hosts, ())
    assert isinstance(found, Placed)
    return found


def test_an_instance_keeps_to_one_neighbourhood_and_small_ones_leave_a_whole_one() -> None:
    (spot,) = decodes(1, 4, host("h1", 1, 2, 4, 5, 6, 7)).spots
    assert spot.ranks[0].gpu_indices == (4, 5, 6, 7)
    found = decodes(2, 1, host("h1", 0, 1, 2, 3, 6, 7))
    assert [spot.ranks[0].gpu_indices for spot in found.spots] == [(6,), (7,)]
    assert "NUMA" not in found.reason


def test_a_torn_instance_is_told() -> None:
    found = decodes(1, 4, host("h1", 1, 2, 6, 7))
    assert found.spots[0].ranks[0].gpu_indices == (1, 2, 6, 7)
    assert "; GPUs 1,2,6,7 of h1 lie in 2 NUMA nodes: none has 4 free" in found.reason


def test_an_instance_that_no_nvlink_pair_holds_is_told_and_another_node_taken_if_there_is_one() -> (
    None
):
    def bridged(name: str, *free: int) -> NodeView:
        return replace(host(name, *free), links=PAIRS)

    found = decodes(1, 2, bridged("h1", 0, 2, 5))
    assert found.spots[0].ranks == (Rank("h1", (0, 2)),)
    assert "; GPUs 0,2 of h1 lie in 2 NVLink groups: none has 2 free" in found.reason
    better = decodes(1, 2, bridged("h1", 0, 2, 5), bridged("h2", 0, 6, 7))
    assert better.spots[0].ranks == (Rank("h2", (6, 7)),)
    assert "NVLink" not in better.reason
    four = decodes(1, 4, bridged("h1", 4, 5, 6, 7))
    assert "NVLink" not in four.reason, "no pair has four"


def test_of_very_many_torn_instances_three_are_told() -> None:
    hosts = [host(f"h{number}", 1, 2, 6, 7) for number in range(5)]
    found = decodes(5, 4, *hosts)
    assert found.reason.count("NUMA") == 3
    assert found.reason.endswith("; 2 more instances likewise")


def test_among_equal_nodes_one_is_taken_on_which_nothing_is_torn() -> None:
    whole = host("h2", 4, 5, 6, 7)
    found = decodes(1, 4, host("h1", 1, 2, 6, 7), whole)
    assert found.spots[0].ranks[0].agent_id == "h2"
    assert "NUMA" not in found.reason
    both = decodes(2, 4, host("h1", 1, 2, 6, 7), whole)
    assert {spot.ranks[0].agent_id for spot in both.spots} == {"h1", "h2"}
    beyond = decodes(1, 4, host("h1", 1, 2, 6, 7), host("h2", 4, 5, 6, 7, s1="m1"))
    assert beyond.spots[0].ranks[0].agent_id == "h1", "equal is who stands in the same S1"
    many = [host(f"h{number:02}", 1, 2, 6, 7) for number in range(LOOKED_AT + 1)]
    late = decodes(1, 4, *many, host("z", 4, 5, 6, 7))
    assert late.spots[0].ranks[0].agent_id == "h00"


def test_else_the_tightest_node_in_use_but_never_a_whole_one() -> None:
    split, whole = host("h1", 1, 2, 6, 7), host("h4", *range(8))
    five, six = host("h3", 0, 4, 5, 6, 7), host("h2", 0, 1, 2, 3, 6, 7)
    assert decodes(1, 4, split, six, five, whole).spots[0].ranks == (Rank("h3", (4, 5, 6, 7)),)
    assert decodes(1, 4, split, six, whole).spots[0].ranks == (Rank("h2", (0, 1, 2, 3)),)
    kept = decodes(1, 4, split, whole)
    assert kept.spots[0].ranks == (Rank("h1", (1, 2, 6, 7)),)
    assert "NUMA" in kept.reason
    prefill_only = replace(five, templates=frozenset({"p"}))
    assert decodes(1, 4, split, prefill_only).spots[0].ranks[0].agent_id == "h1"
    other_type = replace(five, gpu_types=dict.fromkeys(range(8), "L20"))
    assert decodes(1, 4, split, other_type).spots[0].ranks[0].agent_id == "h1"


def test_the_least_torn_node_is_taken_where_none_is_whole() -> None:
    roles = {P: role("p", "H20", gpus=3), D: role("d", "H20", gpus=3)}
    hosts = (host("h1", 0, 1, 2, 3, 4, 5), host("h2", 0, 1, 2, 4, 5, 6))
    found = place(ask(1, 1, roles), hosts, ())
    assert isinstance(found, Placed)
    assert {rank.agent_id for spot in found.spots for rank in spot.ranks} == {"h2"}


@st.composite
def _told(draw: st.DrawFn) -> list[NodeView]:
    return [
        replace(one, neighbourhoods=draw(st.dictionaries(st.integers(0, 3), st.integers(0, 1))))
        for one in draw(fleets.nodes())
    ]


@given(hosts=_told(), step=fleets.asks())
@CALM
def test_neighbourhoods_decide_nothing_but_which_of_equals(
    hosts: list[NodeView], step: Ask
) -> None:
    """The same step with and without them: the same types, classes and groups; only free GPUs."""
    blind = place(step, [replace(one, neighbourhoods={}) for one in hosts], ())
    seen = place(step, hosts, ())
    assert place(step, list(reversed(hosts)), ()) == seen
    if not isinstance(seen, Placed) or not isinstance(blind, Placed):
        assert seen == blind
        return
    assert [(s.role, s.group, s.gpu_type) for s in seen.spots] == [
        (s.role, s.group, s.gpu_type) for s in blind.spots
    ]
    view, taken = FleetView(hosts), set[tuple[str, int]]()
    for spot in seen.spots:
        assert len({rank.agent_id for rank in spot.ranks}) == len(spot.ranks)
        for rank in spot.ranks:
            free = set(view.free(rank.agent_id, spot.gpu_type))
            mine = {(rank.agent_id, index) for index in rank.gpu_indices}
            assert len(mine) == step.roles[spot.role].gpus
            assert set(rank.gpu_indices) <= free
            assert not mine & taken
            taken |= mine
