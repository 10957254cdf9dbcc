"""Victims: exactly the step, and the order in which they are chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement import NodeView, Standing, choose_victims
from heteroscale_coordinator.core.spec import RatioSpec
from tests.core.placement.fleets import CALM, D, P, node, nodes, stand, standings

HALF = RatioSpec(min=0.5, max=0.5)
FLEET = [node(name, "H20", s1=f"m-{name}", s2=f"b-{name}") for name in "abc"]


def victims(
    delta: Counts, standing: Sequence[Standing], fleet: Sequence[NodeView] = FLEET
) -> list[str]:
    return list(choose_victims(delta, standing, fleet, HALF).instance_ids)


def victims_in(band: RatioSpec, delta: Counts, standing: Sequence[Standing]) -> list[str]:
    return list(choose_victims(delta, standing, FLEET, band).instance_ids)


def group(name: str, prefill: int, decode: int, agent: str = "a") -> list[Standing]:
    return [stand(f"{name}-p{n}", P, agent, group=name) for n in range(prefill)] + [
        stand(f"{name}-d{n}", D, agent, group=name) for n in range(decode)
    ]


@CALM
@given(st.integers(0, 3), st.integers(0, 3), standings(), nodes())
def test_victims_are_exactly_the_step_or_none(
    prefill: int, decode: int, standing: list[Standing], fleet: list[NodeView]
) -> None:
    taken = victims({P: prefill, D: decode}, standing, fleet)
    roles = Counter(one.role for one in standing if one.instance_id in taken)
    have = Counter(one.role for one in standing)
    assert len(set(taken)) == len(taken)
    if have[P] >= prefill and have[D] >= decode:
        assert (roles[P], roles[D], len(taken)) == (prefill, decode, prefill + decode)
    else:
        assert taken == []


@CALM
@given(standings(), nodes())
def test_the_order_of_the_arguments_does_not_matter(
    standing: list[Standing], fleet: list[NodeView]
) -> None:
    delta = {P: 1, D: 2}
    assert victims(delta, standing, fleet) == victims(delta, standing[::-1], fleet[::-1])


@CALM
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_balanced_groups_lose_whole_units_and_leave_no_stump(
    first: int, second: int, units: int
) -> None:
    standing = group("x", first, 2 * first) + group("y", second, 2 * second, agent="b")
    units = min(units, first + second)
    taken = victims({P: units, D: 2 * units}, standing)
    left = Counter((one.group, one.role) for one in standing if one.instance_id not in taken)
    for name in "xy":
        assert bool(left[name, P]) == bool(left[name, D])
        assert 2 * left[name, P] == left[name, D]


def test_a_role_that_has_too_few_stops_the_whole_step() -> None:
    answer = choose_victims({P: 1, D: 2}, group("x", 1, 1), FLEET, HALF)
    assert answer.instance_ids == ()
    assert answer.reason == "wanted 2 decode, only 1 may be taken"


def test_what_stands_on_a_cordon_goes_before_what_does_not_and_after_what_is_withdrawn() -> None:
    standing = [*group("g", 2, 4), stand("out", D, "b", group="g", withdrawn=True)]
    standing[3] = replace(standing[3], cordoned=True)
    chosen = choose_victims({D: 2}, standing, FLEET, HALF)
    assert chosen.instance_ids == ("out", standing[3].instance_id)
    assert f"{standing[3].instance_id} of g: on what is cordoned" in chosen.reason


def test_withdrawn_go_first() -> None:
    standing = [*group("x", 1, 2), stand("z", D, "a", group="x", withdrawn=True)]
    answer = choose_victims({D: 1}, standing, FLEET, HALF)
    assert answer.instance_ids == ("z",)
    assert answer.reason == "decode z of x: already withdrawn"


def test_a_stump_is_not_made_even_of_a_sick_node() -> None:
    fleet = [*FLEET, node("sick", "H20", s1="m", why_not="ECC errors")]
    last = [stand("last", D, "sick", group="x"), stand("x-p", P, "a", group="x")]
    assert victims({D: 1}, [*last, *group("y", 1, 2)], fleet)[0] != "last"
    spare = stand("z", D, "sick", group="y")
    assert victims({D: 1}, [*last, *group("y", 1, 2), spare], fleet) == ["z"]


def test_an_instance_without_a_peer_goes_before_one_with() -> None:
    assert victims({D: 1}, [*group("y", 1, 9), stand("z", D, "a", group="z")]) == ["z"]


def test_the_most_unbalanced_group_gives() -> None:
    standing = group("x", 2, 4) + group("y", 2, 5, agent="b") + group("z", 3, 4, agent="c")
    assert victims({D: 1}, standing) == ["y-d0"]
    assert victims({P: 1}, standing) == ["z-p0"]


def test_high_class_goes_before_the_balance_inside_the_band() -> None:
    """Both groups stay in the band, so the scarce position counts, not the nearer half of the band."""
    band = RatioSpec(min=0.2, max=5.0)
    fleet = [node("a", "H20", s1="m0", s2="b0"), node("b", "H20", "L20", s1="m1", s2="b1")]
    standing = group("x", 1, 4, agent="a") + group("y", 2, 2, agent="b")
    assert choose_victims({D: 1}, standing, fleet, band).instance_ids == ("y-d0",)


def test_high_class_is_not_freed_at_the_price_of_a_group_out_of_its_band() -> None:
    band = RatioSpec(min=0.5, max=1.0)
    fleet = [node("a", "H20", s1="m0", s2="b0"), node("b", "H20", "L20", s1="m1", s2="b1")]
    standing = group("x", 2, 4, agent="a") + group("y", 2, 2, agent="b")
    answer = choose_victims({D: 1}, standing, fleet, band)
    assert answer.instance_ids == ("x-d0",)


@CALM
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), min_size=1, max_size=4), st.data())
def test_no_group_leaves_its_band_while_another_could_give_without(
    sizes: list[tuple[int, int]], data: st.DataObject
) -> None:
    band = RatioSpec(min=0.4, max=1.5)
    standing = [
        one
        for number, (prefill, decode) in enumerate(sizes)
        for one in group(f"g{number}", prefill, decode)
    ]
    role = data.draw(st.sampled_from([P, D]))
    taken = victims_in(band, {role: 1}, standing)[0]

    def outside(lost: str) -> float:
        left = Counter(
            one.role for one in standing if one.group == home(lost) and one.instance_id != lost
        )
        before = Counter(one.role for one in standing if one.group == home(lost))
        gap = max(0.0, left[P] - band.max * left[D], band.min * left[D] - left[P])
        return gap if min(left[P], left[D]) or not sum(before.values()) else float("inf")

    def home(name: str) -> str:
        return name.split("-", maxsplit=1)[0]

    could = [outside(one.instance_id) for one in standing if one.role is role]
    assert outside(taken) == min(could)


def test_high_class_is_freed_first() -> None:
    fleet = [node("a", "H20", s1="m0", s2="b0"), node("b", "H20", "L20", s1="m1", s2="b1")]
    standing = group("x", 1, 2, agent="a") + group("y", 1, 2, agent="b")
    assert sorted(victims({P: 1, D: 2}, standing, fleet)) == ["y-d0", "y-d1", "y-p0"]


def test_the_smallest_group_is_emptied() -> None:
    standing = group("x", 2, 4) + group("y", 1, 2, agent="b")
    assert sorted(victims({P: 1, D: 2}, standing)) == ["y-d0", "y-d1", "y-p0"]


def test_idle_before_busy_before_unknown_then_the_oldest() -> None:
    standing = [
        stand("p", P, "a"),
        stand("unknown", D, "a", idle=None, age=9),
        stand("busy", D, "a", idle=3.0, age=9),
        stand("young", D, "a", idle=0.0, age=1),
        stand("old", D, "a", idle=0.0, age=2),
    ]
    assert victims({D: 3}, standing) == ["old", "young", "busy"]


def test_a_node_that_the_step_can_empty_is_emptied_before_idle_ones_elsewhere() -> None:
    full = node("full", "H20", "H20", "H20", s1="m", free=[])
    half = node("half", "H20", "H20", "H20", s1="m", free=[0])
    standing = [
        stand("p", P, "half"),
        *[stand(f"f{n}", D, "full", idle=0.0) for n in range(3)],
        stand("h", D, "half", idle=5.0),
    ]
    # Of "half" the prefill stays, so decode alone can empty neither: the idle one goes.
    assert victims({D: 1}, standing, [full, half]) == ["f0"]
    # With it the node can be empty, and is.
    more = [*standing, stand("p2", P, "full")]
    answer = choose_victims({P: 1, D: 1}, more, [full, half], HALF)
    assert set(answer.instance_ids) == {"h", "p"}
    assert "empties its node" in answer.reason


def test_of_two_that_are_idle_the_one_cold_in_cache_goes_and_unknown_is_not_cold() -> None:
    standing = [
        stand("p", P, "a"),
        replace(stand("warm", D, "a", idle=0.0, age=9), warmth=0.8),
        replace(stand("cold", D, "a", idle=0.0, age=1), warmth=0.05),
        replace(stand("untold", D, "a", idle=0.0, age=99), warmth=None),
    ]
    answer = choose_victims({D: 3}, standing, FLEET, HALF)
    assert answer.instance_ids == ("cold", "warm", "untold")
    assert "decode cold of g: most of its role there, idle, cold in cache;" in answer.reason


def test_cold_does_not_beat_idle() -> None:
    busy = replace(stand("busy", D, "a", idle=1.0), warmth=0.0)
    idle = replace(stand("idle", D, "a", idle=0.0), warmth=0.9)
    assert victims({D: 1}, [stand("p", P, "a"), busy, idle]) == ["idle"]


def test_what_stands_on_sick_hardware_goes_first_and_is_told() -> None:
    sick = replace(stand("sick", D, "a", age=0), sick="a GPU 1 Xid 48")
    answer = choose_victims({D: 1}, [*group("g", 2, 4), sick], FLEET, HALF)
    assert answer.instance_ids == ("sick",)
    assert "on sick hardware (a GPU 1 Xid 48)" in answer.reason
