"""Many equal units at once go where they would go one after the other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from heteroscale.words import Role
from heteroscale_coordinator.core.placement import (
    Ask,
    FleetView,
    NodeView,
    Placed,
    Standing,
    remedies,
)
from heteroscale_coordinator.core.placement.fill import STRIDES
from heteroscale_coordinator.core.placement.ground import survey
from heteroscale_coordinator.core.placement.plan import most_units, place_in
from heteroscale_coordinator.core.placement.rank import Candidate, Want
from heteroscale_coordinator.core.spec import PlacementSpec
from heteroscale_coordinator.core.topology import Path
from tests.core.placement.fleets import CALM, D, P, ask, asks, node, nodes, role, standings

Parts = dict[Path, dict[Role, int]]


def one_by_one(view: FleetView, wanted: Ask, standing: list[Standing], level: str) -> Parts | None:
    """Place a step's smallest units one after the other, and return what each domain holds."""
    ground = survey(view, wanted, standing)
    pieces = min(wanted.delta.values())
    parts: dict[Path, Candidate] = {}
    for number in range(pieces):
        unit = {
            name: count // pieces + (number < count % pieces)
            for name, count in wanted.delta.items()
        }
        want = Want(unit, wanted.roles, ground.totals, split=pieces > 1)
        ranked, _ = ground.ranked(level, want, parts, 0)
        if not ranked:
            return None
        parts[ranked[0][1].domain.path] = ranked[0][1]
    return {path: dict(part.counts) for path, part in parts.items()}


@CALM
@given(asks(most=6), nodes(most=12), standings())
def test_a_step_in_units_goes_where_they_would_go_one_after_the_other(
    wanted: Ask, fleet: list[NodeView], standing: list[Standing]
) -> None:
    if min(wanted.delta.values()) < 2:
        wanted = replace(wanted, delta={P: 3, D: 5})
    view = FleetView(fleet)
    level = wanted.placement.affinity
    narrow = replace(wanted, placement=wanted.placement.model_copy(update={"required": True}))
    answer = place_in(view, narrow, standing)
    slow = one_by_one(view, narrow, standing, level)
    found: Parts = {}
    for spot in answer.spots if isinstance(answer, Placed) else ():
        home = view.domain_of(spot.ranks[0].agent_id, level)
        assert home is not None
        here = found.setdefault(home.path, {})
        here[spot.role] = here.get(spot.role, 0) + 1
    if isinstance(answer, Placed) and len(found) > 1:
        assert found == slow
    if slow is not None:
        assert isinstance(answer, Placed)


def large(domains: int, gpus: int, *, s1: str = "m") -> list[NodeView]:
    return [node(f"{s1}{n:03d}", *["H20"] * gpus, s1=f"{s1}{n:03d}") for n in range(domains)]


def test_a_large_step_opens_one_domain_after_the_other_and_fills_it() -> None:
    pairs = STRIDES * 2
    view = FleetView(large(pairs * 2 // 8, 8))
    roles = {P: role("p", "H20"), D: role("d", "H20")}
    answer = place_in(view, ask(pairs, pairs, roles), [])
    assert isinstance(answer, Placed)
    each = Counter(spot.ranks[0].agent_id for spot in answer.spots)
    assert set(each.values()) == {8}
    assert answer.affinity_met == "s1"


def test_of_a_large_step_strides_go_beside_what_stands() -> None:
    pairs = STRIDES * 2
    view = FleetView(large(2, pairs * 2))
    roles = {P: role("p", "H20"), D: role("d", "H20")}
    standing = [
        Standing(f"{role_}{n}", role_, (f"m{n:03d}",)) for n in range(2) for role_ in (P, D)
    ]
    wide = ask(pairs + 1, pairs + 1, roles, PlacementSpec(affinity="s1", required=True))
    answer = place_in(view, wide, standing)
    assert isinstance(answer, Placed)
    homes = Counter(spot.ranks[0].agent_id for spot in answer.spots)
    assert abs(homes["m000"] - homes["m001"]) <= 2 * 2 * 2, "each in turn, a stride at a time"


@CALM
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
def test_units_that_find_a_place_are_counted(prefill: int, decode: int, domains: int) -> None:
    view = FleetView(large(domains, 4))
    near = PlacementSpec(affinity="s1", required=True)
    wanted = ask(prefill, decode, {P: role("p"), D: role("d")}, near)
    units, of = most_units(view, wanted, [])
    assert of == min(prefill, decode)
    fits = isinstance(place_in(view, wanted, []), Placed)
    assert fits or units < of


def test_a_step_of_a_hundred_thousand_is_answered() -> None:
    view = FleetView(large(200, 8))
    wanted = ask(100_000, 100_000, {P: role("p"), D: role("d")})
    found = {one.kind: one.text for one in remedies(wanted, view, [])}
    assert found["smaller"] == "a smaller step: 800 prefill and 800 decode would fit"


def test_a_domain_takes_no_more_than_it_wins_one_after_the_other() -> None:
    """Three find their first type in each domain; and of three GPUs a node has room for one of two."""
    types = ["H20"] * 3 + ["L20"] * 5 + ["H100"] * 8
    mixed = [node(f"n{n}", *types, s1=f"m{n}") for n in range(2)]
    picky = {P: role("p", "H20", "L20"), D: role("d", "H100")}
    odd = [node(f"n{n}", *["H20"] * 3, s1=f"m{n // 4}") for n in range(8)]
    pairs = {P: role("p", gpus=2), D: role("d", gpus=2)}
    near = PlacementSpec(affinity="s1", required=True)
    for fleet, roles, step in ((mixed, picky, 12), (odd, pairs, 4)):
        view, wanted = FleetView(fleet), ask(step, step, roles, near)
        answer = place_in(view, wanted, [])
        assert isinstance(answer, Placed)
        counts = Counter(
            (home.path, spot.role)
            for spot in answer.spots
            if (home := view.domain_of(spot.ranks[0].agent_id, "s1"))
        )
        slow = one_by_one(view, wanted, [], "s1")
        assert slow is not None
        assert counts == {
            (path, name): n for path, all_ in slow.items() for name, n in all_.items()
        }
        kinds = Counter((spot.role, spot.gpu_type) for spot in answer.spots)
        assert fleet is odd or kinds == {(P, "H20"): 6, (P, "L20"): 6, (D, "H100"): 12}
