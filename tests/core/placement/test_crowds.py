"""Spread limits when instances leave, and when one changes sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core.placement import (
    Crowds,
    Cycle,
    FleetView,
    Request,
    Standing,
    choose_victims,
    keep_apart,
)
from heteroscale_coordinator.core.placement.spread import limit
from heteroscale_coordinator.core.spec import PlacementSpec, RatioSpec, SpreadSpec
from tests.core.placement.fleets import CALM, D, P, ask, node, stand

WIDE = RatioSpec(min=0.01, max=100)
HALF = SpreadSpec(level="s1", most=0.5)
HARD = SpreadSpec(level="s1", most=0.5, required=True)
NODES = [node(name, *["H20"] * 8, s1=f"m-{name}", s2="b") for name in "abc"]
VIEW = FleetView(NODES)


def decodes(**counts: int) -> list[Standing]:
    """Return so many decode on each node, each node's a group of its own beside a prefill."""
    return [
        stand(f"{agent}{n}", D, agent, group=agent, idle=float(n))
        for agent, count in counts.items()
        for n in range(count)
    ]


def prefills(*agents: str) -> list[Standing]:
    return [stand(f"p{n}", P, agent, group=agent) for n, agent in enumerate(agents)]


def leave(
    count: int,
    standing: Sequence[Standing],
    rule: SpreadSpec | None,
    stays: Sequence[Standing] = (),
) -> str:
    """Return the nodes that decode is taken of, in order."""
    taken = choose_victims({D: count}, standing, VIEW, WIDE, spread=rule, stays=stays)
    where = {one.instance_id: one.agent_ids[0] for one in standing}
    return "".join(where[name] for name in taken.instance_ids)


def test_the_domain_that_would_be_above_its_limit_gives_first() -> None:
    standing = [*prefills("a", "b"), *decodes(a=4, b=2)]
    # Without a limit the smallest group goes first, and four of five would stand in one S1.
    assert leave(1, standing, None) == "b"
    assert leave(1, standing, HALF) == "a"
    assert leave(2, standing, HALF) == "aa"


def test_it_gives_although_another_frees_a_high_class() -> None:
    mixed = [*NODES, node("d", "L20", s1="m-b", s2="b")]
    standing = [*prefills("a", "b"), *decodes(a=4, b=2)]
    taken = choose_victims({D: 1}, standing, mixed, WIDE, spread=HALF)
    assert taken.instance_ids == ("a0",)
    assert "its failure domain is above the spread limit" in taken.reason
    # Inside the limits the scarce position goes first.
    even = [*prefills("a", "b"), *decodes(a=4, b=3)]
    loose = SpreadSpec(level="s1", most=9)
    assert choose_victims({D: 1}, even, mixed, WIDE, spread=loose).instance_ids == ("b0",)


def test_inside_the_limits_the_fullest_domain_gives_first() -> None:
    standing = [*prefills("a", "b", "c"), *decodes(a=1, b=3, c=2)]
    loose = SpreadSpec(level="s1", most=9)
    assert leave(3, standing, loose) == "bcb"
    assert leave(1, standing, None) == "c"


def test_what_may_not_leave_now_counts_in_its_domain() -> None:
    standing = decodes(a=2, b=2)
    stays = [stand(f"s{n}", D, "b", group="b") for n in range(2)]
    assert leave(1, standing, HALF) == "a"
    assert leave(1, standing, HALF, stays) == "b"


def test_what_is_withdrawn_counts_nowhere_and_goes_first() -> None:
    gone = stand("gone", D, "c", group="c", withdrawn=True)
    standing = [*decodes(a=3, b=3), gone]
    # The limit is of the five that are left, not of six.
    assert leave(2, standing, HALF) == "ca"
    assert Crowds.of(HALF, VIEW, standing).totals[D] == 6


def test_the_last_of_a_role_and_strange_nodes_are_no_crowd() -> None:
    crowds = Crowds.of(HALF, VIEW, decodes(a=1))
    (one,) = decodes(a=1)
    assert crowds.over(one, {D: 1}) == 0
    assert crowds.fullest(replace(one, agent_ids=("nobody",))) == 0


@CALM
@given(st.lists(st.integers(0, 4), min_size=3, max_size=3), st.data())
def test_a_scale_in_leaves_no_domain_above_its_limit_where_it_can(
    counts: list[int], data: st.DataObject
) -> None:
    total = sum(counts)
    leaving = data.draw(st.integers(0, total))
    every = [*prefills("a"), *decodes(**dict(zip("abc", counts, strict=True)))]
    standing = [replace(one, group="g") for one in every]
    left = Counter(dict(zip("abc", counts, strict=True)))
    left.subtract(leave(leaving, standing, HALF))
    most = limit(HALF, total - leaving)
    could = sum(max(0, count - most) for count in counts) <= leaving
    if could and total > leaving:
        assert max(left.values()) <= most


def test_a_cycle_frees_by_the_limit_of_the_service() -> None:
    standing = (*prefills("a", "b"), *decodes(a=4, b=2))
    spec = PlacementSpec(spread=HALF)
    wish = ask(0, -1, placement=spec)
    cycle = Cycle(FleetView(NODES), [Request(wish, standing=standing, ratio=WIDE)])
    cycle.advance()
    victims = cycle.outcomes[0].victims
    assert victims is not None
    assert victims.instance_ids == ("a0",)


# ---- one changes sides -------------------------------------------------------------------------


def may(standing: Sequence[Standing], rule: SpreadSpec | None) -> tuple[str, str]:
    """Return on which nodes decode may become prefill, and what forbids it everywhere."""
    crowds = Crowds.of(rule, VIEW, standing) if rule is not None else None
    candidates = [one for one in standing if one.role is D]
    found, why_not = keep_apart(candidates, P, crowds)
    return "".join(dict.fromkeys(one.agent_ids[0] for one in found)), why_not


def test_a_switch_comes_where_its_new_role_has_room() -> None:
    standing = [*prefills("a", "a", "b"), *decodes(a=2, b=2)]
    assert may(standing, None) == ("ab", "")
    assert may(standing, HARD) == ("b", "")
    assert may(standing, HALF) == ("b", "")


def test_a_limit_that_is_required_forbids_every_switch_and_a_wished_one_none() -> None:
    standing = [*prefills("a", "a", "b"), *decodes(a=3)]
    assert may(standing, HALF) == ("a", "")
    assert may(standing, HARD) == ("", "placement.spread: 3 of 4 prefill in b/m-a")
    assert may(prefills("a"), HARD) == ("", "")


def test_the_role_that_gives_keeps_its_limit_too() -> None:
    # Of five decode three may share an S1, of four only two: one of the three has to go.
    standing = [*prefills("a", "b"), *decodes(a=3, b=2)]
    assert may(standing, HARD) == ("a", "")
    few = [one for one in standing if one.agent_ids == ("b",) or one.role is P]
    crowds = Crowds.of(HARD, VIEW, standing)
    assert keep_apart([one for one in few if one.role is D], P, crowds) == (
        [],
        "placement.spread: 3 of 4 decode in b/m-a",
    )


@pytest.mark.parametrize("most", [0.5, 0.3, 2])
@CALM
@given(st.lists(st.tuples(st.sampled_from((P, D)), st.sampled_from("abc")), max_size=12))
def test_no_switch_that_is_allowed_makes_any_domain_worse(
    most: float, where: list[tuple[object, str]]
) -> None:
    rule = SpreadSpec(level="s1", most=most, required=True)
    standing = [
        stand(f"i{n}", D if role is D else P, agent) for n, (role, agent) in enumerate(where)
    ]
    crowds = Crowds.of(rule, VIEW, standing)
    for one in (one for one in standing if one.role is D):
        switched = [replace(o, role=P) if o is one else o for o in standing]
        before, after = _excess(standing, rule), _excess(switched, rule)
        worse = any(n > before[key] for key, n in after.items())
        assert bool(crowds.broken_by(one, P)) == worse


def _excess(standing: Sequence[Standing], rule: SpreadSpec) -> Counter[tuple[object, str]]:
    totals = Counter(one.role for one in standing)
    held = Counter((one.role, one.agent_ids[0]) for one in standing)
    return Counter({key: max(0, n - limit(rule, totals[key[0]])) for key, n in held.items()})
