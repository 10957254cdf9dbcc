"""Named safety claims about placement, on small random fleets, and a naive oracle beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hypothesis import given, settings

from heteroscale.words import Role
from heteroscale_coordinator.core.placement import (
    Ask,
    Infeasible,
    NodeView,
    Placed,
    Spot,
    Standing,
    place,
)
from tests.core.placement.fleets import CALM, D, P, asks, nodes, standings
from tests.core.placement.naive import bears, domain_of, fits_in_one_domain, fits_one_by_one

LEVELS = ("s1", "s2", "cluster")


def spots_of(answer: Placed | Infeasible) -> tuple[Spot, ...]:
    return answer.spots if isinstance(answer, Placed) else ()


def seats(
    answer: Placed | Infeasible, fleet: Sequence[NodeView]
) -> Iterator[tuple[Spot, NodeView]]:
    by_id = {node.agent_id: node for node in fleet}
    return ((spot, by_id[rank.agent_id]) for spot in spots_of(answer) for rank in spot.ranks)


@CALM
@given(asks(), nodes(), standings())
def test_all_or_nothing(ask: Ask, fleet: list[NodeView], standing: list[Standing]) -> None:
    answer = place(ask, fleet, standing)
    if isinstance(answer, Infeasible):
        assert answer.reasons
        return
    placed = {role: sum(spot.role is role for spot in answer.spots) for role in ask.delta}
    assert placed == dict(ask.delta)
    assert answer.reason


@CALM
@given(asks(), nodes())
def test_no_placement_exceeds_a_node_and_no_gpu_is_given_twice(
    ask: Ask, fleet: list[NodeView]
) -> None:
    given_away = [
        (rank.agent_id, index)
        for spot in spots_of(place(ask, fleet, []))
        for rank in spot.ranks
        for index in rank.gpu_indices
    ]
    assert len(given_away) == len(set(given_away))
    assert set(given_away) <= {(node.agent_id, index) for node in fleet for index in node.free}


@CALM
@given(asks(), nodes())
def test_every_instance_has_all_its_ranks_and_gpus(ask: Ask, fleet: list[NodeView]) -> None:
    for spot in spots_of(place(ask, fleet, [])):
        spec = ask.roles[spot.role]
        assert len({rank.agent_id for rank in spot.ranks}) == len(spot.ranks) == spec.ranks
        assert all(len(rank.gpu_indices) == spec.gpus for rank in spot.ranks)


@CALM
@given(asks(), nodes())
def test_one_gpu_type_for_each_instance_and_never_one_not_named(
    ask: Ask, fleet: list[NodeView]
) -> None:
    by_id = {node.agent_id: node for node in fleet}
    for spot in spots_of(place(ask, fleet, [])):
        types = {by_id[r.agent_id].gpu_types[index] for r in spot.ranks for index in r.gpu_indices}
        assert types == {spot.gpu_type}
        named = ask.roles[spot.role].gpu_types
        assert not named or spot.gpu_type in named


@CALM
@given(asks(), nodes())
def test_the_node_is_usable_and_allows_the_template(ask: Ask, fleet: list[NodeView]) -> None:
    for spot, node in seats(place(ask, fleet, []), fleet):
        assert node.usable
        assert ask.roles[spot.role].template in node.templates


@CALM
@given(asks(), nodes(), standings())
def test_a_group_lies_in_one_domain_and_required_affinity_is_never_violated(
    ask: Ask, fleet: list[NodeView], standing: list[Standing]
) -> None:
    answer = place(ask, fleet, standing)
    if isinstance(answer, Infeasible):
        return
    wished, met = ask.placement.affinity, answer.affinity_met
    assert LEVELS.index(met) >= LEVELS.index(wished)
    assert met == wished or not ask.placement.required
    for group in {spot.group for spot in answer.spots}:
        homes = {domain_of(n, met) for s, n in seats(answer, fleet) if s.group == group}
        assert len(homes) == 1
        assert None not in homes


@CALM
@given(asks(), nodes(), standings())
def test_every_part_of_a_step_of_both_roles_has_both(
    ask: Ask, fleet: list[NodeView], standing: list[Standing]
) -> None:
    answer = place(ask, fleet, standing)
    if ask.delta[P] and ask.delta[D]:
        for group in {spot.group for spot in spots_of(answer)}:
            assert {s.role for s in spots_of(answer) if s.group == group} == {P, D}


@CALM
@given(asks(), nodes(), standings())
def test_a_lone_role_stands_beside_a_peer_when_there_is_one(
    ask: Ask, fleet: list[NodeView], standing: list[Standing]
) -> None:
    lone: list[Role] = [role for role, count in ask.delta.items() if count]
    answer = place(ask, fleet, standing)
    if len(lone) != 1 or isinstance(answer, Infeasible):
        return
    peer_homes = _peer_homes(D if lone[0] is P else P, fleet, standing, answer.affinity_met)
    for _, node in seats(answer, fleet):
        assert not peer_homes or domain_of(node, answer.affinity_met) in peer_homes


def _peer_homes(
    peer: Role, fleet: list[NodeView], standing: list[Standing], level: str
) -> set[tuple[str, ...] | None]:
    by_id = {node.agent_id: node for node in fleet}
    agents = {one.agent_ids[0] for one in standing if one.role is peer and not one.withdrawn}
    return {domain_of(by_id[agent], level) for agent in agents & by_id.keys()}


@CALM
@given(asks(), nodes(), standings())
def test_the_order_of_the_arguments_does_not_matter(
    ask: Ask, fleet: list[NodeView], standing: list[Standing]
) -> None:
    assert place(ask, fleet, standing) == place(ask, fleet[::-1], standing[::-1])


@settings(max_examples=400, deadline=None)
@given(asks(), nodes())
def test_what_the_naive_oracle_can_place_at_the_wished_affinity_is_placed_there(
    ask: Ask, fleet: list[NodeView]
) -> None:
    level = ask.placement.affinity
    possible = fits_in_one_domain if all(ask.delta.values()) else fits_one_by_one
    if possible(ask, fleet, level):
        answer = place(ask, fleet, [])
        assert isinstance(answer, Placed)
        assert answer.affinity_met == level


@settings(max_examples=200, deadline=None)
@given(asks(), nodes())
def test_what_is_called_infeasible_the_naive_oracle_cannot_place_either(
    ask: Ask, fleet: list[NodeView]
) -> None:
    if isinstance(place(ask, fleet, []), Infeasible):
        widest = ask.placement.affinity if ask.placement.required else "cluster"
        assert not fits_in_one_domain(ask, fleet, widest)


@CALM
@given(asks(), nodes(), standings())
def test_an_untolerated_taint_is_never_placed_upon(
    ask: Ask, fleet: list[NodeView], standing: list[Standing]
) -> None:
    for _, node in seats(place(ask, fleet, standing), fleet):
        assert bears(ask, node)
