"""By the clock: what windows make of the bounds, and windows that are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from heteroscale_coordinator.core.policy.schedule import plan_of
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.policy.build import (
    D,
    P,
)
from tests.core.policy.clocked import MONDAY, NOON, office, plan, scheduled


def test_a_floor_lifts_the_minimum_and_the_ratio_brings_the_other_role_along() -> None:
    found = plan(scheduled(office(floor={"decode": 8})), NOON)
    assert found.lows == {P: 4, D: 8}
    assert found.highs == {P: 16, D: 32}
    assert found.text == "schedule office: floor 8 decode until 19:00 UTC"


def test_outside_of_its_time_a_window_changes_nothing() -> None:
    spec = scheduled(office(floor={"decode": 8}))
    found = plan(spec, MONDAY + 19 * 3600)
    assert found.spec == spec
    assert found.text == "no window is in force; office is next, from Tue 08:00 UTC"


def test_the_zones_own_clock_counts() -> None:
    spec = scheduled(office(floor={"decode": 8}), zone="Europe/Berlin")
    assert plan(spec, MONDAY + 5.9 * 3600).lows[D] == 2
    assert plan(spec, MONDAY + 6 * 3600).lows[D] == 8
    assert plan(spec, MONDAY + 16.9 * 3600).text.endswith("until 19:00 Europe/Berlin")
    assert plan(spec, MONDAY + 17 * 3600).lows[D] == 2


def test_a_ceiling_lowers_the_maximum_but_not_below_what_is_present() -> None:
    spec = scheduled(office(ceiling={"decode": 4}))
    found = plan(spec, NOON, prefill=3, decode=6)
    assert found.highs == {P: 2, D: 4}
    assert {role: rules.max for role, rules in found.spec.roles.items()} == {P: 3, D: 6}
    assert found.spec.roles[D].min == 2


def test_counts_are_floor_and_ceiling_in_one() -> None:
    found = plan(scheduled(office(counts={"prefill": 3, "decode": 6})), NOON)
    assert found.lows == found.highs == {P: 3, D: 6}
    assert found.static == {P, D}


def test_the_higher_priority_speaks_for_a_role_and_among_equals_the_furthest() -> None:
    low = office(name="low", floor={"decode": 12})
    high = office(name="high", floor={"decode": 6}, priority=1)
    assert plan(scheduled(low, high), NOON).text.startswith("schedule high: floor 6")
    assert plan(scheduled(low, {**high, "priority": 0}), NOON).lows[D] == 12
    ceilings = [office(name=f"c{n}", ceiling={"decode": n}) for n in (9, 5, 7)]
    assert plan(scheduled(*ceilings), NOON).highs[D] == 5


@pytest.mark.parametrize(("priority", "low", "high"), [(0, 8, 8), (1, 8, 8), (-1, 2, 4)])
def test_a_floor_against_a_ceiling(priority: int, low: int, high: int) -> None:
    """Among equals the floor holds."""
    floor = office(name="more", floor={"decode": 8}, priority=priority)
    ceiling = office(name="less", ceiling={"decode": 4})
    found = plan(scheduled(floor, ceiling, decode=(2, 8), prefill=(1, 4)), NOON)
    assert (found.lows[D], found.highs[D]) == (low, high)


def test_a_window_counts_a_start_up_time_ahead_for_what_it_lifts_alone() -> None:
    spec = scheduled(
        office(name="more", floor={"decode": 8}),
        office(name="less", ceiling={"prefill": 6}),
        office(name="just", counts={"decode": 10}, priority=-1),
    )
    eve = MONDAY + 8 * 3600 - 120
    assert plan(spec, eve, ahead=119).lows[D] == 2
    found = plan(spec, eve, ahead=120)
    assert (found.lows[D], found.highs) == (8, {P: 16, D: 32})
    assert found.text == ("schedule more: floor 8 decode from 08:00 UTC, a start-up time ahead")


def test_a_ramp_is_judged_as_its_window_is_against_the_ceiling_that_still_holds() -> None:
    night = {"name": "night", "start": "0 22 * * *", "duration": "10h", "ceiling": {"decode": 4}}
    eve = MONDAY + 8 * 3600 - 60
    for priority, low in ((1, 8), (0, 8), (-1, 2)):
        spec = scheduled(night, office(floor={"decode": 8}, priority=priority))
        assert plan(spec, eve, ahead=120).lows[D] == low


def test_floors_of_several_windows_together_stay_inside_the_budget() -> None:
    one = office(name="one", floor={"prefill": 6})
    other = office(name="other", floor={"decode": 12})
    plain = scheduled(one, other, ratio={"min": 0.25, "max": 2.0}).document()
    found = plan(ServiceSpec.model_validate({**plain, "maxGpus": 14}), NOON)
    assert sum(found.lows.values()) == 14


def test_without_the_zones_table_nothing_is_withdrawn_and_it_is_said() -> None:
    spec = scheduled(office(ceiling={"decode": 4}))
    found = plan_of(spec, {}, {P: 3, D: 6}, NOON, 0.0)
    assert found is not None
    assert found.lows == {P: 3, D: 6}
    assert "time zone UTC is not known to this coordinator" in found.text


# ---- what is refused at apply -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (office(counts={"prefill": 2, "decode": 8}),
         "counts prefill 2 and decode 8 is outside of the ratio 0.5 .* beside 8 decode there go 4"),
        (office(floor={"prefill": 17}), "floor prefill 17 is outside its bounds 1 to 16"),
        (office(ceiling={"decode": 1}), "ceiling decode 1 is outside its bounds 2 to 32"),
        (office(floor={"aggregated": 2}), "floor names aggregated, which the service has not"),
        (office(counts={"decode": 4}, floor={"decode": 4}), "`counts` are floor and ceiling in one"),
        (office(floor={"decode": 6}, ceiling={"decode": 4}), "floor decode 6 is above its ceiling 4"),
        (office(floor={"decode": 20}, ceiling={"prefill": 4}),
         "floor decode 20 with ceiling prefill 4 is outside of the ratio"),
        (office(), "give `floor`, `ceiling` or `counts`"),
        (office(duration="1h", floor={"decode": 4}), "give `end` or `duration`, one of them"),
        (office(end=None, floor={"decode": 4}), "give `end` or `duration`, one of them"),
        (office(start="0 8 * *", floor={"decode": 4}), "five fields are due"),
        (office(start="0 0 8 * * *", floor={"decode": 4}), "five fields are due"),
        (office(start="0 25 * * *", floor={"decode": 4}), "no cron time: bad hour"),
        (office(start="0 0 30 2 *", floor={"decode": 4}), "no cron time: bad day-of-month"),
        (office(name="Office", floor={"decode": 4}), "name"),
    ],
)  # fmt: skip
def test_a_window_that_cannot_be_followed_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        scheduled(fields)


def test_windows_of_one_name_and_floors_beyond_the_budget_are_refused() -> None:
    with pytest.raises(ValidationError, match="two windows are named office"):
        scheduled(office(floor={"decode": 4}), office(floor={"decode": 5}))
    plain = scheduled(office(floor={"decode": 8})).document()
    with pytest.raises(ValidationError, match="need 9 GPUs, maxGpus is 8"):
        ServiceSpec.model_validate({**plain, "maxGpus": 8})
