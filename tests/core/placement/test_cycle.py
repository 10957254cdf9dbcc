"""Named claims about the cycle, on small random fleets and many services at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core.placement import (
    Cycle,
    FleetView,
    Infeasible,
    NodeView,
    Outcome,
    Placed,
    Request,
    Standing,
)
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
    """What the higher get is what they would get if the lower had not asked at all."""
    high = [one for one in wanted if one.priority >= least]
    both = run(FleetView(fleet), wanted)
    assert [one for one in both if one.request.priority >= least] == list(
        run(FleetView(fleet), high)
    )


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
