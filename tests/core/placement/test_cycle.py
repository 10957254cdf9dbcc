"""Named claims about the cycle, on small random fleets and many services at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.taints import parse_taint
from heteroscale_coordinator.core.placement import (
    Cycle,
    FleetView,
    Infeasible,
    Limits,
    NodeView,
    Outcome,
    Placed,
    Request,
    Standing,
)
from heteroscale_coordinator.core.placement.rethink import EACH, MOVES, Attempt, in_some_order
from heteroscale_coordinator.core.spec import PlacementSpec, SpreadSpec
from tests.core.placement.fleets import CALM, D, P, ask, asks, node, nodes, role, stand
from tests.core.placement.naive import domain_of


@st.composite
def requests(draw: st.DrawFn, most: int = 5) -> list[Request]:
    """Draw what up to five services ask, some for less than they have."""
    found = []
    for number in range(draw(st.integers(1, most))):
        wanted = replace(draw(asks()), service=f"s{number}")
        standing: list[Standing] = []
        if draw(st.integers(0, 3)) == 0:
            standing = [
                stand(f"s{number}-{n}", role_, draw(st.sampled_from([f"n{m}" for m in range(6)])))
                for n, role_ in enumerate((P, D, P, D))
            ]
            wanted = replace(
                wanted, delta={P: -draw(st.integers(0, 2)), D: -draw(st.integers(0, 2))}
            )
        found.append(
            Request(wanted, standing, draw(st.integers(0, 2)), draw(st.sampled_from([0.0, 0.5])))
        )
    return found


def run(view: FleetView, wanted: Sequence[Request]) -> tuple[Outcome, ...]:
    """Run a cycle to its end."""
    cycle = Cycle(view, wanted)
    assert cycle.advance(len(wanted))
    found = cycle.commit()
    assert found is not None
    cycle.end()
    return found


LEVELS = ("s1", "s2", "cluster")


def wishes_lost(outcome: Outcome) -> int:
    """Count by how many places its instances miss their roles' first GPU type."""
    spots = outcome.placed.spots if isinstance(outcome.placed, Placed) else ()
    types = {role_: spec.gpu_types for role_, spec in outcome.request.ask.roles.items()}
    return sum(types[spot.role].index(spot.gpu_type) if types[spot.role] else 0 for spot in spots)


def taken(outcomes: Sequence[Outcome]) -> list[tuple[str, int]]:
    """Return the GPUs given away."""
    return [
        (rank.agent_id, index)
        for one in outcomes
        if isinstance(one.placed, Placed)
        for spot in one.placed.spots
        for rank in spot.ranks
        for index in rank.gpu_indices
    ]


@CALM
@given(nodes(), requests())
def test_no_node_is_over_committed_by_all_of_them_together(
    fleet: list[NodeView], wanted: list[Request]
) -> None:
    given_away = Counter(taken(run(FleetView(fleet), wanted)))
    assert set(given_away.values()) <= {1}
    assert set(given_away) <= {(one.agent_id, index) for one in fleet for index in one.free}


@CALM
@given(nodes(), requests())
def test_a_step_is_whole_or_absent(fleet: list[NodeView], wanted: list[Request]) -> None:
    for one in run(FleetView(fleet), wanted):
        delta = one.request.ask.delta
        if isinstance(one.placed, Placed):
            assert Counter(spot.role for spot in one.placed.spots) == Counter(
                {role_: n for role_, n in delta.items() if n > 0}
            )
        assert (one.placed is None) == (max(delta.values()) <= 0)
        assert (one.victims is None) == (min(delta.values()) >= 0)


@CALM
@given(nodes(), requests())
def test_hard_affinity_is_never_broken(fleet: list[NodeView], wanted: list[Request]) -> None:
    by_id = {one.agent_id: one for one in fleet}
    for one in run(FleetView(fleet), wanted):
        if not isinstance(one.placed, Placed) or not one.request.ask.placement.required:
            continue
        level = one.request.ask.placement.affinity
        homes: dict[str, set[object]] = {}
        for spot in one.placed.spots:
            for rank in spot.ranks:
                homes.setdefault(spot.group, set()).add(domain_of(by_id[rank.agent_id], level))
        assert all(len(found) == 1 and None not in found for found in homes.values())


@CALM
@given(nodes(), requests(), st.integers(0, 2))
def test_a_lower_priority_never_beats_a_higher_for_the_same_resource(
    fleet: list[NodeView], wanted: list[Request], least: int
) -> None:
    """What the higher get is as good as what they would get if the lower had not asked at all."""
    high = [one for one in wanted if one.priority >= least]
    both = run(FleetView(fleet), wanted)
    alone = run(FleetView(fleet), high)
    for now, before in zip([o for o in both if o.request.priority >= least], alone, strict=True):
        if not isinstance(before.placed, Placed):
            assert now == before
            continue
        assert isinstance(now.placed, Placed)
        assert LEVELS.index(now.placed.affinity_met) <= LEVELS.index(before.placed.affinity_met)
        assert wishes_lost(now) <= wishes_lost(before)
        assert now.victims == before.victims


@CALM
@given(nodes(), requests(), st.integers(0, 2))
def test_without_second_thoughts_the_higher_do_not_see_the_lower_at_all(
    fleet: list[NodeView], wanted: list[Request], least: int
) -> None:
    cycles = [
        Cycle(FleetView(fleet), some, moves=0)
        for some in (wanted, [one for one in wanted if one.priority >= least])
    ]
    assert all(cycle.advance(len(wanted)) for cycle in cycles)
    both, alone = (cycle.outcomes for cycle in cycles)
    assert [one for one in both if one.request.priority >= least] == list(alone)


@CALM
@given(nodes(), requests(), st.data())
def test_same_input_same_output_in_any_order_and_in_pieces_of_any_size(
    fleet: list[NodeView], wanted: list[Request], data: st.DataObject
) -> None:
    whole = run(FleetView(fleet), wanted)
    view = FleetView(reversed(fleet))
    cycle = Cycle(view, data.draw(st.permutations(wanted)))
    while not cycle.advance(data.draw(st.integers(1, 3))):
        assert cycle.commit() is None, "it is not done"
    assert cycle.commit() == whole
    cycle.end()
    assert view.root.total == FleetView(fleet).root.total


def test_freed_is_not_reused_in_the_cycle_even_if_it_is_free_before_its_end() -> None:
    view = FleetView([node("a", "H20", "H20", s1="m", free=())])
    leaving = Request(replace(ask(0, -1), service="old"), [stand("i", D, "a")], priority=1)
    coming = Request(replace(ask(0, 1, {P: role("p"), D: role("d")}), service="new"))
    cycle = Cycle(view, [coming, leaving])
    assert not cycle.advance()
    assert cycle.left == 1
    view.put(node("a", "H20", "H20", s1="m", free=(0, 1)))
    assert cycle.advance()
    outcomes = cycle.commit()
    assert outcomes is not None
    assert [one.victims and one.victims.instance_ids for one in outcomes] == [("i",), None]
    assert isinstance(outcomes[1].placed, Infeasible)
    cycle.end()
    (again,) = run(view, [coming])
    assert isinstance(again.placed, Placed)


def test_what_no_longer_holds_is_taken_back_with_all_that_came_after_it() -> None:
    both = {P: role("p"), D: role("d")}
    fleet = [node("a", "H20", "H20", s1="m0"), node("b", "H20", "H20", s1="m1")]
    first = Request(replace(ask(1, 1, both), service="first"), priority=2)
    second = Request(replace(ask(1, 1, both), service="second"), priority=1)
    for change in (
        node("a", "H20", "H20", s1="m0", free=(1,)),
        node("a", "H20", "H20", s1="m0", why_not="cordoned"),
        node("a", "H20", "H20", s1="m0", templates=frozenset({"d"})),
        node("a", "H20", "L20", s1="m0"),
        node("a", "H20", "H20", s1="elsewhere"),
        None,
    ):
        view = FleetView(fleet)
        cycle = Cycle(view, [second, first])
        assert cycle.advance(2)
        if change is None:
            view.remove("a")
        else:
            view.put(change)
        assert cycle.commit() is None
        assert cycle.left == 2
        assert cycle.advance(2)
        outcomes = cycle.commit()
        assert outcomes is not None
        assert isinstance(outcomes[0].placed, Placed), change
        cycle.end()
        assert not view.held("a") | view.held("b")


def test_a_report_that_does_not_touch_what_is_held_changes_nothing() -> None:
    view = FleetView([node("a", *["H20"] * 4, s1="m0")])
    wanted = Request(ask(1, 1, {P: role("p"), D: role("d")}))
    cycle = Cycle(view, [wanted])
    assert cycle.advance()
    view.put(node("a", *["H20"] * 4, s1="m0", free=(0, 1, 2)))
    assert cycle.commit() == cycle.outcomes
    cycle.end()


def test_among_equals_the_one_with_the_smaller_share_goes_first() -> None:
    view = FleetView([node("a", "H20", "H20", s1="m")])
    both = {P: role("p"), D: role("d")}
    rich = Request(replace(ask(1, 1, both), service="a"), share=0.9)
    poor = Request(replace(ask(1, 1, both), service="b"), share=0.1)
    served = run(view, [rich, poor])
    assert [(one.request.ask.service, isinstance(one.placed, Placed)) for one in served] == [
        ("b", True),
        ("a", False),
    ]


# ---- second thoughts ---------------------------------------------------------------------------

NEAR = PlacementSpec(affinity="s1", required=True)


def wants(name: str, *types: str, gpus: int = 1, priority: int = 0) -> Request:
    """Return a request for one prefill and one decode in one S1, on the first type that has room."""
    roles = {P: role("p", *types, gpus=gpus), D: role("d", *types, gpus=gpus)}
    return Request(replace(ask(1, 1, roles, NEAR), service=name), priority=priority)


def homes(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return the node of each service; empty where it has none."""
    return {
        one.request.ask.service: one.placed.spots[0].ranks[0].agent_id
        if isinstance(one.placed, Placed)
        else ""
        for one in outcomes
    }


TWO = [node("x", "H20", "H20", s1="m0"), node("y", "L20", "L20", s1="m1")]


def test_equals_make_room_for_one_that_has_no_choice() -> None:
    easy, picky = wants("a", "H20", "L20"), wants("b", "H20")
    view = FleetView(TWO)
    assert homes(run(view, [easy, picky])) == {"a": "y", "b": "x"}
    assert not view.held("x") | view.held("y")


def test_a_higher_priority_keeps_the_types_it_wishes_for_whoever_is_refused_for_it() -> None:
    easy, picky = wants("a", "H20", "L20", priority=1), wants("b", "H20")
    assert homes(run(FleetView(TWO), [easy, picky])) == {"a": "x", "b": ""}


ROOMY = [node("x", *["H20"] * 4, s1="m0"), node("y", *["H20"] * 3, "L20", "L20", s1="m1")]
"""Two small ones fit on either and fit x best; two of two GPUs each fit on x alone."""


def test_a_higher_priority_goes_where_it_stands_as_well_for_a_lower() -> None:
    easy, large = wants("a", "H20", priority=1), wants("b", "H20", gpus=2)
    assert homes(run(FleetView(ROOMY), [easy])) == {"a": "x"}
    assert homes(run(FleetView(ROOMY), [easy, large])) == {"a": "y", "b": "x"}


@pytest.mark.parametrize("why", ["a lone role", "a spread", "its sub-cluster", "its taint"])
def test_a_higher_priority_keeps_what_a_place_does_not_say_how_well_it_does(why: str) -> None:
    easy, large = wants("a", "H20", priority=1), wants("b", "H20", gpus=2)
    x, y = ROOMY
    if why == "a lone role":
        easy = replace(easy, ask=replace(easy.ask, delta={D: 2}))
    elif why == "a spread":
        limit = SpreadSpec(level="s2", most=9)
        near = easy.ask.placement.model_copy(update={"spread": limit})
        easy = replace(easy, ask=replace(easy.ask, placement=near))
    elif why == "its sub-cluster":
        y = replace(y, topology={**y.topology, "physical_cluster": "other"})
    else:
        y = replace(y, taints=(parse_taint("old:PreferNoSchedule"),))
    assert homes(run(FleetView([x, y]), [easy, large])) == {"a": "x", "b": ""}
    equal = replace(easy, priority=0)
    assert homes(run(FleetView([x, y]), [equal, large])) == {"a": "y", "b": "x"}


def test_orders_are_tried_until_one_comes_again_or_patience_ends() -> None:
    asked: list[tuple[int, ...]] = []

    def never(order: Sequence[int]) -> Attempt:
        asked.append(tuple(order))
        return Attempt(order[-1], len(order))

    assert sum(in_some_order(9, [1, 2], never, 10**6)) == 9
    assert asked == [(9, 1, 2), (2, 9, 1), (1, 2, 9)], "the fourth would be the first again"
    asked.clear()
    assert sum(in_some_order(9, list(range(1, 8)), never, 10**6)) == EACH // 8 * 8
    assert sum(in_some_order(9, [1, 2], never, 2)) == 0


def test_nobody_loses_its_place_to_an_equal() -> None:
    first, second = wants("a", "H20"), wants("b", "H20")
    view = FleetView(TWO)
    cycle = Cycle(view, [first, second])
    cycle.advance(2)
    assert homes(cycle.outcomes) == {"a": "x", "b": ""}
    assert view.held("x") == {0, 1}
    cycle.end()


def test_what_fits_nowhere_moves_nobody() -> None:
    easy, huge = wants("a", "H20", "L20"), wants("b", "H20", gpus=2)
    view = FleetView(TWO)
    assert homes(run(view, [easy, huge])) == {"a": "x", "b": ""}


LATE = [
    node("x", *["H20"] * 8, s1="m0"),
    node("y", *["L20"] * 4, s1="m1"),
    node("z", *["M"] * 2, s1="m2"),
]


def late() -> list[Request]:
    """Small takes part of y, middle part of x; with large first on x, middle needs all of y."""
    small, middle = wants("a", "L20", "M"), wants("b", "H20", "L20", gpus=2)
    return [small, middle, wants("c", "H20", gpus=4)]


def test_where_the_refused_first_will_not_do_who_lost_by_it_goes_first() -> None:
    assert homes(run(FleetView(LATE), late())) == {"a": "z", "b": "y", "c": "x"}


def test_second_thoughts_pause_between_orders_and_come_to_the_same() -> None:
    view = FleetView(LATE)
    cycle, pieces = Cycle(view, late()), 1
    while not cycle.advance(3, places=1):
        pieces += 1
        held = {one.agent_id: len(view.held(one.agent_id)) for one in LATE}
        assert sum(held.values()) in (2, 6, 14), "whole places alone"
    assert pieces > len(cycle.outcomes)
    assert homes(cycle.outcomes) == homes(run(FleetView(LATE), late()))
    cycle.end()


def test_a_cycle_that_ends_amid_second_thoughts_holds_nothing() -> None:
    view = FleetView(LATE)
    cycle = Cycle(view, late())
    while cycle.left != 1 or len(cycle.outcomes) < 3:
        assert not cycle.advance(3, places=1)
    assert cycle.commit() is None
    cycle.end()
    assert not any(view.held(one.agent_id) for one in LATE)
    assert cycle.left == 3


class Raising(FleetView):
    """Fails at one of the places that it is asked for."""

    until = 0

    def place(self, *args: Any, **named: Any) -> Placed | Infeasible:
        """Place, or fail."""
        self.until -= 1
        if not self.until:
            raise ArithmeticError
        return super().place(*args, **named)


@pytest.mark.parametrize("at", [4, 5, 6, 7])
def test_what_is_held_stays_held_where_second_thoughts_raise(at: int) -> None:
    view = Raising(LATE)
    view.until = at
    cycle = Cycle(view, late())
    with pytest.raises(ArithmeticError):
        cycle.advance(3)
    assert sum(len(view.held(one.agent_id)) for one in LATE) == 6
    cycle.end()
    assert not any(view.held(one.agent_id) for one in LATE)


def test_the_small_come_first_among_equals() -> None:
    fleet = [node("x", *["H20"] * 4, s1="m0")]
    large, small, other = wants("a", "H20", gpus=2), wants("b", "H20"), wants("c", "H20")
    assert homes(run(FleetView(fleet), [large, small, other])) == {"b": "x", "c": "x", "a": ""}


def test_a_cycle_thinks_again_only_so_often() -> None:
    pairs = MOVES // 2
    fleet = [node(f"x{n:03d}", "H20", "H20", s1=f"m{n}") for n in range(2)]
    wanted = [wants(f"a{n:03d}", "H20") for n in range(2 + pairs)]
    cycle = Cycle(FleetView(fleet), wanted)
    assert cycle.advance(len(wanted))
    assert sum(isinstance(one.placed, Placed) for one in cycle.outcomes) == 2
    assert cycle.moves_left <= 1
    cycle.end()


@CALM
@given(nodes(), requests(), st.integers(0, 2))
def test_thinking_again_places_more_or_the_same(
    fleet: list[NodeView], wanted: list[Request], priority: int
) -> None:
    """Of one priority none has a place before that has none after."""
    alike = [replace(one, priority=priority) for one in wanted]
    before = Cycle(FleetView(fleet), alike, moves=0)
    before.advance(len(alike))
    after = homes(run(FleetView(fleet), alike))
    assert {name for name, home in homes(before.outcomes).items() if home} <= {
        name for name, home in after.items() if home
    }


# ---- parts, limits, pieces ----------------------------------------------------------------------


def test_where_the_whole_has_no_place_a_part_has_and_says_why_it_is_no_more() -> None:
    roles = {P: role("p"), D: role("d")}
    whole, half, least = (replace(ask(n, n, roles, NEAR), service="a") for n in (3, 2, 1))
    view = FleetView([node("x", *["H20"] * 4, s1="m0")])
    (one,) = run(view, [Request(whole, parts=[half, least])])
    assert isinstance(one.placed, Placed)
    assert len(one.placed.spots) == 4
    assert one.part is half
    assert one.refused is not None
    (none,) = run(FleetView([node("x", "H20", s1="m0")]), [Request(whole, parts=[half, least])])
    assert isinstance(none.placed, Infeasible)
    assert none.part is None


def test_nobody_moves_for_a_part_nor_is_a_part_moved() -> None:
    roles = {P: role("p", "H20"), D: role("d", "H20")}
    big, small = (replace(ask(n, n, roles, NEAR), service="b") for n in (2, 1))
    fleet = [node("x", "H20", "H20", s1="m0"), node("y", "H20", "H20", s1="m1")]
    wanted = [wants("a", "H20", "L20"), Request(big, parts=[small]), wants("c", "H20")]
    found = run(FleetView(fleet), wanted)
    assert homes(found) == {"a": "x", "c": "y", "b": ""}
    alone = run(FleetView(fleet[:1]), [Request(big, parts=[small]), replace(wanted[2], share=0.5)])
    assert homes(alone) == {"b": "x", "c": ""}


def test_the_looser_limits_are_for_where_the_stricter_leave_no_place() -> None:
    strict, loose = Limits({"x": "not again"}), Limits()
    request = replace(wants("a", "H20"), limits=[strict, loose])
    assert homes(run(FleetView(TWO[:1]), [request])) == {"a": "x"}
    other = node("z", "H20", "H20", s1="m2")
    view = FleetView([*TWO, other])
    cycle = Cycle(view, [request])
    cycle.advance()
    assert homes(cycle.outcomes) == {"a": "z"}
    assert cycle.places == 1
    cycle.end()
    assert view.root.total == FleetView([*TWO, other]).root.total
    assert homes(run(FleetView(TWO[:1]), [replace(request, limits=[strict])])) == {"a": ""}


def test_a_piece_ends_when_so_many_places_were_sought() -> None:
    fleet = [node(f"x{n}", "H20", "H20", s1=f"m{n}") for n in range(5)]
    cycle = Cycle(FleetView(fleet), [wants(f"a{n}", "H20") for n in range(5)])
    assert not cycle.advance(5, places=2)
    assert cycle.left == 3
    assert cycle.commit(1) is None, "it is not done"
    assert not cycle.advance(5, places=2)
    assert cycle.advance(5, places=2)
    cycle.end()


def test_committed_in_pieces_the_first_stay_and_the_rest_is_done_again() -> None:
    fleet = [node(f"x{n}", "H20", "H20", s1=f"m{n}") for n in range(5)]
    view = FleetView(fleet)
    cycle = Cycle(view, [wants(f"a{n}", "H20", priority=9 - n) for n in range(4)])
    assert cycle.advance(4)
    assert homes(cycle.commit(1) or ()) == {"a0": "x0"}
    view.remove("x2")
    assert homes(cycle.commit(9) or ()) == {"a1": "x1"}, "those before it that does not hold"
    assert cycle.left == 2
    assert cycle.commit(9) is None
    assert cycle.advance(4)
    view.remove("x3")
    assert cycle.commit(9) is None
    assert cycle.advance(4)
    before = cycle.over
    assert homes(cycle.commit(9) or ()) == {"a2": "x4", "a3": ""}
    assert [before, cycle.over] == [False, True]
    assert view.held("x0") == {0, 1}, "until the end nobody else is offered it"
    cycle.end()
    assert not view.held("x0") | view.held("x4")
