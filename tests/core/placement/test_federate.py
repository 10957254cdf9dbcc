"""Which sub-cluster a step goes to, which are left out, and what a quota forbids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heteroscale.taints import parse_taint
from heteroscale_coordinator.core.placement import (
    Ask,
    Cycle,
    FleetView,
    Infeasible,
    NodeView,
    Placed,
    Request,
    Standing,
    SubCluster,
    place,
    remedies,
)
from heteroscale_coordinator.core.spec import PlacementSpec
from tests.core.placement.fleets import CALM, A, D, P, ask, node, role, stand
from tests.core.placement.test_place import placed, reasons

SAME = {P: role("p"), D: role("d")}
WORDS = ("east", "north", "west")


def site(name: str, pods: int = 2, kind: str = "H20") -> list[NodeView]:
    """Return a sub-cluster: pods of one node with four GPUs."""
    return [
        node(f"{name}-{i}", *[kind] * 4, s1=f"{name}-pod-{i}", s2=name, physical_cluster=name)
        for i in range(pods)
    ]


def wish(
    prefill: int, decode: int, told: Mapping[str, SubCluster] | None = None, **placement: Any
) -> Ask:
    """Return an ask with a placement of the service's own, and what is told of sub-clusters."""
    asked = ask(prefill, decode, SAME, PlacementSpec.model_validate(placement))
    return replace(asked, sub_clusters=told or {}, prices={"H20": 2.0, "L20": 1.0})


def where(answer: Placed) -> Counter[str]:
    """Return how many instances each sub-cluster got."""
    return Counter(spot.ranks[0].agent_id.split("-")[0] for spot in answer.spots)


EAST_WEST = [*site("east"), *site("west")]


def test_without_wishes_and_rules_the_nodes_alone_decide() -> None:
    asked, plain = wish(1, 2), ask(1, 2, SAME)

    assert placed(place(asked, EAST_WEST, ())) == placed(place(plain, EAST_WEST, ()))


def test_a_required_sub_cluster_is_the_only_one() -> None:
    asked = wish(1, 2, subCluster={"require": ["west"]})

    assert where(placed(place(asked, EAST_WEST, ()))) == {"west": 3}
    full = wish(3, 6, subCluster={"require": ["west"]})
    assert reasons(place(full, EAST_WEST, ()))[0] == (
        "sub-cluster east: placement.subCluster.require is west"
    )


def test_a_required_sub_cluster_that_nobody_knows_is_named_with_those_there_are() -> None:
    asked = wish(1, 2, subCluster={"require": ["wst"]})

    assert (
        "sub-cluster wst: placement.subCluster.require names it, but no node is of it; "
        "there are east, west"
    ) in reasons(place(asked, EAST_WEST, ()))


def test_the_preferred_comes_first_and_the_next_when_it_is_full() -> None:
    fleet = [*site("east"), *site("north"), *site("west")]
    asked = wish(1, 2, subCluster={"prefer": ["west", "north"]})
    busy = [replace(one, free=()) if one.agent_id.startswith("west") else one for one in fleet]

    first, second = placed(place(asked, fleet, ())), placed(place(asked, busy, ()))

    assert where(first) == {"west": 3}
    assert where(second) == {"north": 3}
    assert "sub-cluster west, " in first.reason
    assert "east is preferred less" in first.reason


def test_the_cheaper_wins_where_class_is_equal() -> None:
    told = {"east": SubCluster(prices={"H20": 3.0}), "west": SubCluster(prices={"H20": 1.5})}

    found = placed(place(wish(1, 2, told), EAST_WEST, ()))

    assert where(found) == {"west": 3}
    assert "east costs 9 an hour, not 4.5" in found.reason
    assert "sub-cluster east: fits, but costs 9 an hour, not 4.5" in found.rejected


def test_the_fewest_high_class_gpus_come_before_the_price() -> None:
    mixed = [
        node("east-0", "H20", "H20", "L20", "L20", s1="e", s2="east", physical_cluster="east"),
        *site("west", 1),
    ]
    told = {"east": SubCluster(prices={"H20": 0.1, "L20": 0.1})}

    found = placed(place(wish(1, 2, told), mixed, ()))

    assert where(found) == {"west": 3}
    assert "east would use more high-class GPUs" in found.reason


def test_a_group_that_holds_in_an_s1_comes_before_a_cheaper_one_that_does_not() -> None:
    torn = [
        node(f"east-{i}", "H20", s1=f"p{i}", s2="east", physical_cluster="east") for i in range(3)
    ]
    told = {"east": SubCluster(prices={"H20": 0.1})}

    found = placed(place(wish(1, 2, told), [*torn, *site("west", 1)], ()))

    assert where(found) == {"west": 3}
    assert "east could hold its groups only in a wider domain" in found.reason


def test_nodes_that_would_rather_not_come_behind_another_sub_cluster() -> None:
    loath = (parse_taint("old:PreferNoSchedule"),)
    fleet = [*(replace(one, taints=loath) for one in site("east")), *site("west")]
    told = dict.fromkeys(("east", "west"), SubCluster(prices={"H20": 1.0}))

    found = placed(place(wish(1, 2, told), fleet, ()))

    assert where(found) == {"west": 3}
    assert "east would use nodes whose taint says PreferNoSchedule" in found.reason


def test_of_equals_the_one_with_more_free_gpus() -> None:
    told = {"east": SubCluster(prices={"H20": 1.0}), "west": SubCluster(prices={"H20": 1.0})}

    found = placed(place(wish(1, 2, told), [*site("east", 1), *site("west", 2)], ()))

    assert where(found) == {"west": 3}
    assert "east has fewer GPUs free" in found.reason


def test_a_price_that_nobody_tells_comes_last() -> None:
    told = {"west": SubCluster(prices={"H20": 9.0})}
    asked = replace(wish(1, 2, told), prices={})

    found = placed(place(asked, EAST_WEST, ()))

    assert where(found) == {"west": 3}
    assert "east has no price" in found.reason


def test_one_that_is_left_out_gets_nothing_and_the_reason_is_told() -> None:
    told = {"west": SubCluster(left_out="silent: 2 of 2 agents are not heard")}
    asked = wish(1, 2, told, subCluster={"prefer": ["west"]})

    found = placed(place(asked, EAST_WEST, ()))

    assert where(found) == {"east": 3}
    assert found.reason.endswith("left out: west (silent: 2 of 2 agents are not heard)")
    assert "sub-cluster west: silent: 2 of 2 agents are not heard" in found.rejected


def test_where_all_are_left_out_the_step_has_no_place_and_each_says_why() -> None:
    told = {"east": SubCluster(left_out="refusing"), "west": SubCluster(left_out="silent")}

    assert place(wish(1, 2, told), EAST_WEST, ()) == Infeasible(
        ("sub-cluster east: refusing", "sub-cluster west: silent")
    )


def test_only_the_smallest_step_is_a_trial() -> None:
    told = {"east": SubCluster(left_out="refusing"), "west": SubCluster(trial="on trial")}

    assert isinstance(place(wish(2, 4, told), EAST_WEST, ()), Infeasible)
    assert where(placed(place(wish(1, 3, told), EAST_WEST, ()))) == {"west": 4}


def test_a_step_that_no_sub_cluster_holds_alone_is_cut_over_two_and_no_group_straddles() -> None:
    told = {"east": SubCluster(prices={"H20": 1.0})}

    found = placed(place(wish(4, 8, told), EAST_WEST, ()))

    assert where(found) == {"east": 6, "west": 6}
    assert straddling(found) == []


def test_the_quota_of_a_type_is_over_all_services() -> None:
    """Two of four H20 are others'; the quota is four."""
    east = [replace(one, free=(2, 3)) if one.agent_id == "east-0" else one for one in site("east")]
    told = {"east": SubCluster(quotas={"H20": 4})}
    asked = wish(1, 2, told, subCluster={"prefer": ["east"]})

    found = placed(place(asked, [*east, *site("west")], ()))

    assert where(found) == {"west": 3}
    alone = place(replace(asked, placement=PlacementSpec()), east, ())
    assert "its quota of H20 is 4 GPUs, 2 are in use, wanted 3 more" in reasons(alone)[0]
    assert where(placed(place(wish(1, 1, told), east, ()))) == {"east": 2}


def test_gpus_that_are_sick_or_held_by_others_use_no_quota() -> None:
    east = [replace(one, free=(0, 1), closed={2: "sick", 3: "sick"}) for one in site("east")]
    told = {"east": SubCluster(quotas={"H20": 2})}

    assert where(placed(place(wish(1, 1, told), east, ()))) == {"east": 2}


def test_another_type_is_taken_where_the_quota_of_the_first_is_used_up() -> None:
    fleet = [*site("east"), *site("east2", kind="L20")]
    fleet = [replace(one, topology={**one.topology, "physical_cluster": "east"}) for one in fleet]
    told = {"east": SubCluster(quotas={"H20": 1}, prices={"L20": 5.0})}

    found = placed(place(wish(1, 2, told), fleet, ()))

    assert {spot.gpu_type for spot in found.spots} == {"L20"}
    listed = {P: role("p", "H20"), D: role("d", "H20")}
    assert isinstance(place(replace(wish(1, 2, told), roles=listed), fleet, ()), Infeasible)


def test_the_quota_of_a_service_is_over_all_types() -> None:
    told = {"east": SubCluster(quota=4, used=2), "west": SubCluster(quota=0)}

    assert where(placed(place(wish(1, 1, told), EAST_WEST, ()))) == {"east": 2}
    assert reasons(place(wish(1, 2, told), EAST_WEST, ())) == (
        "sub-cluster west: its quota for chat is 0 GPUs, 0 are in use",
        "sub-cluster east: its quota for chat is 4 GPUs, 2 are in use, wanted 3 more",
    )


def test_a_lone_role_goes_to_its_peers_whatever_the_price_and_never_beyond_a_quota() -> None:
    here = [stand("p0", P, "east-0", group="chat@s1=east-pod-0")]
    cheap = {"east": SubCluster(prices={"H20": 9.0}), "west": SubCluster(prices={"H20": 0.1})}
    full = {"east": SubCluster(quota=1, used=1)}

    assert where(placed(place(wish(0, 1, cheap), EAST_WEST, here))) == {"east": 1}
    assert isinstance(place(wish(0, 1, full), EAST_WEST, here), Infeasible)


def test_a_service_is_spread_over_sub_clusters() -> None:
    rule = {"level": "subCluster", "most": 0.5, "required": True}
    told = {"east": SubCluster(prices={"H20": 0.1})}

    assert where(placed(place(wish(2, 2, told, spread=rule), EAST_WEST, ()))) == {
        "east": 2,
        "west": 2,
    }


def test_what_a_cycle_promises_counts_in_the_quota() -> None:
    view = FleetView(site("east"))
    told = {"east": SubCluster(quotas={"H20": 4})}

    view.ledger.promise({("east", "H20"): 2})
    assert isinstance(view.place(wish(1, 2, told), ()), Infeasible)
    view.ledger.promise({("east", "H20"): 2}, -1)
    assert isinstance(view.place(wish(1, 2, told), ()), Placed)


def test_services_of_one_cycle_share_a_quota() -> None:
    view = FleetView(site("east"))
    told = {"east": SubCluster(quotas={"H20": 5})}
    asks = [replace(wish(1, 1, told), service=name) for name in ("a", "b", "c")]
    cycle = Cycle(view, [Request(one) for one in asks])

    cycle.advance(9)
    outcomes = cycle.commit() or ()

    assert [isinstance(one.placed, Placed) for one in outcomes] == [True, True, False]
    cycle.end()
    assert view.ledger.used("east", "H20") == 0


def test_nodes_that_name_no_physical_cluster_are_one_more() -> None:
    loose = [node(f"loose-{i}", *["H20"] * 4, s1=f"l{i}", s2="l") for i in range(2)]
    told = {"east": SubCluster(left_out="silent")}

    assert where(placed(place(wish(1, 2, told), [*site("east"), *loose], ()))) == {"loose": 3}
    only = wish(1, 2, subCluster={"require": ["east"]})
    assert where(placed(place(only, [*site("east"), *loose], ()))) == {"east": 3}
    asked = wish(9, 9, subCluster={"require": ["east"]})
    assert "sub-cluster without a name: placement.subCluster.require is east" in reasons(
        place(asked, [*site("east"), *loose], ())
    )


def test_one_role_alone_is_placed_by_price_too() -> None:
    told = {"east": SubCluster(prices={"H20": 3.0})}
    asked = Ask("chat", {A: role("p")}, {A: 2}, sub_clusters=told, prices={"H20": 2.0})

    assert where(placed(place(asked, EAST_WEST, ()))) == {"west": 2}


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"require": ["a", "a"]}, "require names a twice: leave one out"),
        ({"prefer": ["a", "b", "a"]}, "prefer names a twice: leave one out"),
        ({"require": ["a"], "prefer": ["b"]}, "prefer names b, which require leaves out"),
        ({"require": [""]}, "at least 1 character"),
    ],
)
def test_what_is_written_wrongly_is_refused_in_words(given_: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        PlacementSpec.model_validate({"subCluster": given_})


def helped(asked: Ask, fleet: Sequence[NodeView]) -> list[str]:
    return [
        one.text for one in remedies(asked, FleetView(fleet), ()) if one.kind in ("rule", "quota")
    ]


def test_what_would_help_is_another_sub_cluster_or_a_larger_quota() -> None:
    west = [replace(one, free=()) for one in site("west")]
    told = {"east": SubCluster(quotas={"H20": 2}), "north": SubCluster(quota=1)}
    fleet = [*site("east"), *west]

    assert helped(wish(1, 2, subCluster={"require": ["west"]}), fleet) == [
        "a rule less: without placement.subCluster.require it would fit"
    ]
    assert helped(wish(1, 2, told), fleet) == [
        "larger quotas in rules.subClusters.east of the coordinator"
    ]
    assert helped(wish(1, 2, told, subCluster={"require": ["west"]}), fleet) == []


# ---- claims -----------------------------------------------------------------------------------


def straddling(answer: Placed) -> list[str]:
    """Return the groups with instances in two sub-clusters."""
    homes: dict[str, set[str]] = {}
    for spot in answer.spots:
        homes.setdefault(spot.group, set()).update(r.agent_id.split("-")[0] for r in spot.ranks)
    return sorted(group for group, names in homes.items() if len(names) > 1)


@st.composite
def worlds(draw: st.DrawFn) -> list[NodeView]:
    """Return up to three sub-clusters that share the names of their inner domains."""
    fleet = []
    for name in WORDS[: draw(st.integers(1, 3))]:
        for number in range(draw(st.integers(1, 4))):
            kinds = [draw(st.sampled_from(["H20", "L20"]))] * 4
            s1, s2 = draw(st.sampled_from(["", "x", "y"])), draw(st.sampled_from(["", "b"]))
            free = sorted(draw(st.sets(st.integers(0, 3))))
            one = node(f"{name}-{number}", *kinds, s1=s1, s2=s2, free=free, physical_cluster=name)
            fleet.append(one)
    return fleet


@st.composite
def tales(draw: st.DrawFn) -> dict[str, SubCluster]:
    """Return what is told of some sub-clusters."""
    small = st.none() | st.integers(0, 8)
    prices = st.dictionaries(st.sampled_from(["H20", "L20"]), st.floats(0.1, 9))
    quotas = st.dictionaries(st.sampled_from(["H20", "L20"]), st.integers(0, 8))
    told = st.builds(
        SubCluster,
        left_out=st.sampled_from(["", "", "silent"]),
        prices=prices,
        quotas=quotas,
        quota=small,
        used=st.integers(0, 3),
    )
    return draw(st.dictionaries(st.sampled_from(WORDS), told))


PLACEMENTS = st.fixed_dictionaries(
    {
        "affinity": st.sampled_from(["s1", "s2", "cluster"]),
        "subCluster": st.fixed_dictionaries(
            {"prefer": st.sampled_from([[], ["west"], ["north", "east"]])}
        ),
        "spread": st.none() | st.just({"level": "subCluster", "most": 0.5}),
    }
)
STANDING = st.lists(
    st.builds(
        lambda number, role_, agent: stand(f"i{number}", role_, agent),
        st.integers(0, 99),
        st.sampled_from([P, D]),
        st.sampled_from([f"{name}-{number}" for name in WORDS for number in range(2)]),
    ),
    max_size=3,
)


@CALM
@given(worlds(), tales(), PLACEMENTS, st.tuples(st.integers(0, 3), st.integers(0, 4)), STANDING)
def test_claims_of_sub_clusters(
    fleet: list[NodeView],
    told: dict[str, SubCluster],
    placement: dict[str, Any],
    counts: tuple[int, int],
    standing: list[Standing],
) -> None:
    """No quota is exceeded, none left out gets anything, no group straddles two; equal in, equal out."""
    asked = wish(*counts, told, **placement)
    found = place(asked, fleet, standing)

    assert found == place(asked, fleet[::-1], standing)
    if isinstance(found, Infeasible):
        return
    assert straddling(found) == []
    assert Counter(spot.role for spot in found.spots) == Counter(asked.delta)
    _keeps(found, fleet, told)


def _keeps(found: Placed, fleet: Sequence[NodeView], told: Mapping[str, SubCluster]) -> None:
    mine = where(found)
    by_type = Counter((spot.ranks[0].agent_id.split("-")[0], spot.gpu_type) for spot in found.spots)
    before: Counter[tuple[str, str]] = Counter()
    for one in fleet:
        for index in one.gpu_types.keys() - set(one.free):
            before[one.agent_id.split("-")[0], one.gpu_types[index]] += 1
    for name, one_told in told.items():
        if one_told.left_out:
            assert not mine[name]
        if one_told.quota is not None and mine[name]:
            assert one_told.used + mine[name] <= one_told.quota
        for kind, most in one_told.quotas.items():
            if by_type[name, kind]:
                assert before[name, kind] + by_type[name, kind] <= most
