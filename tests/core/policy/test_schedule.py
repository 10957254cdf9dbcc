"""By the clock: what windows make of the bounds, and how counts follow them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import Member, decide
from heteroscale_coordinator.core.policy.bounds import gpus
from heteroscale_coordinator.core.policy.follow import start_ahead
from heteroscale_coordinator.core.policy.schedule import Claim, Plan, plan_of
from heteroscale_coordinator.core.spec import PolicySpec, ServiceSpec
from heteroscale_coordinator.core.sums import replay
from heteroscale_coordinator.zones import resolve
from tests.core.policy.build import (
    D,
    P,
    decoding,
    many,
    member,
    prefilling,
    spec_of,
    starting,
    view_of,
    withdrawn,
)

MONDAY = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
"""Midnight in UTC."""
ZONES = {name: resolve(name, MONDAY) for name in ("UTC", "Europe/Berlin")}
NOON = MONDAY + 12 * 3600.0


def office(**changes: Any) -> dict[str, Any]:
    """From 8 to 19 on weekdays."""
    return {"name": "office", "start": "0 8 * * mon-fri", "end": "0 19 * * mon-fri", **changes}


def scheduled(*windows: dict[str, Any], zone: str = "UTC", **changes: Any) -> ServiceSpec:
    schedule = {"timeZone": zone, "windows": list(windows)}
    return spec_of(**{"decode": (2, 32), **changes}, schedule=schedule)


def plan(spec: ServiceSpec, now: float, ahead: float = 0.0, **present: int) -> Plan:
    counts = {Role(role): n for role, n in present.items()}
    found = plan_of(spec, ZONES, counts, now, ahead)
    assert found is not None
    return found


def verdict(
    spec: ServiceSpec, *members: Member, now: float = NOON, memory: PolicyMemory | None = None
) -> Verdict:
    view = view_of(spec, *members, now=now, zones=ZONES)
    known = memory or PolicyMemory(wanted=view.present())
    return decide(replace(view, memory=known))


def calm(prefill: int, decode: int, now: float = NOON, share: float = 0.9) -> tuple[Member, ...]:
    """Members that carry ``share`` of what they should."""
    return (
        *many(prefill, P, prefilling(5000 * share), now=now),
        *many(decode, D, decoding(1000 * share), now=now),
    )


# ---- what a window makes of the bounds ----------------------------------------------------------


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


COUNT = st.integers(1, 20)
BANDS: st.SearchStrategy[Any] = st.sampled_from([0.5, 1.0, {"min": 0.25, "max": 2.0}])


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["floor", "ceiling", "counts"]))
    roles = draw(st.lists(st.sampled_from(["prefill", "decode"]), min_size=1, unique=True))
    return {
        "name": f"w{draw(st.integers(0, 10**9))}",
        "start": f"0 {draw(st.integers(0, 23))} * * *",
        "duration": f"{draw(st.integers(1, 23))}h",
        "priority": draw(st.integers(-1, 1)),
        kind: {role: draw(COUNT) for role in roles},
    }


@given(
    some=st.lists(windows(), min_size=1, max_size=4, unique_by=lambda w: w["name"]),
    ratio=BANDS,
    hour=st.floats(0, 48),
    present=st.tuples(COUNT, COUNT),
    budget=st.one_of(st.none(), st.integers(3, 40)),
)
def test_bounds_always_win_and_floors_never_lower(
    some: list[dict[str, Any]],
    ratio: Any,
    hour: float,
    present: tuple[int, int],
    budget: int | None,
) -> None:
    base = spec_of(prefill=(1, 12), decode=(2, 16), ratio=ratio)
    base = base.model_copy(update={"max_gpus": budget})
    try:
        schedule = {"windows": some}
        spec = ServiceSpec.model_validate({**base.document(), "policy": {"schedule": schedule}})
    except ValidationError:
        return  # refused at apply
    counts = dict(zip((P, D), present, strict=True))
    found = plan_of(spec, ZONES, counts, MONDAY + hour * 3600, 300.0)
    assert found is not None
    for role, rules in spec.roles.items():
        narrow = found.spec.roles[role]
        assert rules.min <= found.lows[role] <= found.highs[role] <= rules.max
        assert narrow.min == found.lows[role]
        assert found.highs[role] <= narrow.max <= rules.max
        if narrow.max > found.highs[role]:
            assert narrow.max == min(counts[role], rules.max)
    assert budget is None or gpus(found.lows, spec) <= budget
    if not found.ceilings and budget is None:
        assert all(
            found.lows[role] >= min(one.count, spec.roles[role].max)
            for role, one in found.floors.items()
        )


@st.composite
def lives(draw: st.DrawFn, role: Role) -> list[Member]:
    """Members of a role, some heard, some not, starting or on their way out."""
    found: list[Member] = []
    for kind in draw(st.lists(st.sampled_from(["heard", "mute", "starting", "out"]), max_size=9)):
        if kind == "heard":
            share = draw(st.sampled_from([0.1, 0.9, 1.4]))
            flow = prefilling(5000 * share) if role is P else decoding(1000 * share)
            found.append(member(role, flow, now=NOON))
        elif kind == "mute":
            found.append(member(role))
        else:
            found.append(starting(role) if kind == "starting" else withdrawn(role, now=NOON))
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), budget=st.one_of(st.none(), st.integers(6, 30)), wanted=COUNT)
def test_a_decision_under_any_windows_keeps_bounds_budget_and_what_is_unknown(
    data: st.DataObject, budget: int | None, wanted: int
) -> None:
    drawn = st.lists(windows(), min_size=1, max_size=3, unique_by=lambda w: str(w["name"]))
    plain = spec_of(prefill=(1, 12), decode=(2, 16), ratio=data.draw(BANDS)).document()
    written = {**plain, "policy": {"schedule": {"windows": data.draw(drawn)}}}
    try:
        spec = ServiceSpec.model_validate({**written, **({"maxGpus": budget} if budget else {})})
    except ValidationError:
        return
    members = [*data.draw(lives(P)), *data.draw(lives(D))]
    view = view_of(spec, *members, now=NOON, zones=ZONES)
    soft = SoftScaleIn("d", NOON - 400, NOON - data.draw(st.sampled_from([-50.0, 50.0])), 0.0)
    gone = any(view.withdrawn().values())
    memory = PolicyMemory(wanted={P: wanted, D: wanted}, soft=soft if gone else None)
    found = decide(replace(view, memory=memory))
    present = view.present()
    if found.action in (Action.SCALE_OUT, Action.REPAIR):
        after = {role: n + found.delta.get(role, 0) for role, n in present.items()}
        assert all(after[role] <= max(n, spec.roles[role].max) for role, n in present.items())
        assert budget is None or gpus(after, spec) <= max(budget, gpus(present, spec))
    if found.action is Action.SCALE_IN:
        assert all(present[r] - n >= spec.roles[r].min for r, n in found.delta.items())
        heard = sum(m.carrying and m.track is not None for m in members)
        given = any(plan_said.kind == "counts" for plan_said in _ceilings_of(spec, present))
        over = any(n > spec.roles[r].max for r, n in present.items())
        assert heard or given or over or (budget is not None and gpus(present, spec) > budget)


def _ceilings_of(spec: ServiceSpec, present: dict[Role, int]) -> list[Claim]:
    found = plan_of(spec, ZONES, present, NOON, 120.0)
    assert found is not None
    return list(found.ceilings.values())


# ---- how counts follow --------------------------------------------------------------------------


def test_a_floor_is_launched_as_one_step_of_both_roles_and_named() -> None:
    spec = scheduled(office(floor={"decode": 8}))
    found = verdict(spec, *calm(2, 4))
    assert (found.action, found.bound_by) == (Action.SCALE_OUT, "schedule")
    assert found.delta == {P: 2, D: 4}
    assert "schedule office: floor 8 decode until 19:00 UTC" in found.reason
    stored = found.sums["schedule_floor_decode"]
    assert replay(stored) == stored.value == 8


def test_what_is_lost_of_a_floor_is_repaired() -> None:
    spec = scheduled(office(floor={"decode": 8}))
    found = verdict(spec, *calm(4, 7), memory=PolicyMemory(wanted={P: 4, D: 8}))
    assert (found.action, found.bound_by, found.delta) == (Action.REPAIR, "schedule", {D: 1})


def test_a_ramp_begins_by_the_measured_start_up_time() -> None:
    spec = scheduled(office(floor={"decode": 8}))
    eight = MONDAY + 8 * 3600
    memory = PolicyMemory(wanted={P: 2, D: 4}, startup_times=(300.0,) * 10)
    early, due = (
        verdict(spec, *calm(2, 4, now=now), now=now, memory=memory)
        for now in (eight - 301, eight - 300)
    )
    assert early.action is Action.HOLD
    assert due.action is Action.SCALE_OUT
    assert "from 08:00 UTC, a start-up time ahead" in due.reason


@pytest.mark.parametrize(
    ("starts", "ahead"), [((), 120.0), ((30.0,), 120.0), ((200.0,), 200.0), ((30.0,) * 10, 30.0)]
)
def test_few_measured_start_ups_do_not_shorten_the_assumed_one(
    starts: tuple[float, ...], ahead: float
) -> None:
    assert start_ahead(PolicyMemory(startup_times=starts), PolicySpec()) == ahead


def test_what_was_launched_ahead_is_not_asked_for_twice() -> None:
    spec = scheduled(office(floor={"decode": 8}))
    members = (*calm(2, 4), *(starting(P) for _ in range(2)), *(starting(D) for _ in range(4)))
    assert verdict(spec, *members).action is Action.HOLD


def test_scale_in_stops_at_the_floor_and_says_so() -> None:
    spec = scheduled(office(floor={"decode": 8}), cooldown_in="1s")
    members = calm(4, 8, share=0.2)
    memory = PolicyMemory(wanted={P: 4, D: 8}, low_since=NOON - 3600)
    found = verdict(spec, *members, memory=memory)
    assert (found.action, found.bound_by) == (Action.HOLD, "schedule")
    assert "floor 8 decode until 19:00" in found.reason


def test_after_the_window_scale_in_is_the_ordinary_one() -> None:
    spec = scheduled(office(floor={"decode": 8}))
    evening = MONDAY + 20 * 3600
    memory = PolicyMemory(wanted={P: 4, D: 8}, low_since=evening - 3600)
    found = verdict(spec, *calm(4, 8, now=evening, share=0.2), now=evening, memory=memory)
    assert (found.action, found.bound_by) == (Action.SCALE_IN, "demand")
    # Dampened: eight decode for a demand of two do not leave at once.
    assert found.delta == {P: 1, D: 2} or found.delta[D] < 5


def test_a_need_beyond_the_ceiling_is_held_by_the_schedule() -> None:
    spec = scheduled(office(ceiling={"decode": 4}))
    found = verdict(spec, *calm(2, 4, share=1.5))
    assert (found.action, found.bound_by) == (Action.HOLD, "schedule")
    assert "ceiling 4 decode until 19:00 UTC" in found.reason


def test_a_ceiling_is_reached_softly_in_dampened_steps() -> None:
    spec = scheduled(office(ceiling={"decode": 4}))
    found = verdict(spec, *calm(6, 12, share=0.9))
    assert (found.action, found.bound_by) == (Action.SCALE_IN, "schedule")
    assert found.delta == {P: 2, D: 4}
    assert found.done.wanted == {P: 4, D: 8}
    assert found.done.soft is not None
    again = replace(found.done, soft=None)
    held = verdict(spec, *calm(4, 8), memory=again)
    assert (held.action, held.bound_by) == (Action.HOLD, "cooldown")
    later = replace(again, last_in_at=NOON - 601)
    assert verdict(spec, *calm(4, 8), memory=later).delta == {P: 1, D: 2}


def test_what_dies_above_a_ceiling_is_not_replaced() -> None:
    spec = scheduled(office(ceiling={"decode": 4}))
    memory = PolicyMemory(wanted={P: 4, D: 8}, last_in_at=NOON - 10)
    found = verdict(spec, *calm(4, 7), memory=memory)
    assert found.action is Action.HOLD
    assert found.memory.wanted[D] == 7


# ---- counts that need no signal -----------------------------------------------------------------


def mute(n: int, role: Role, state: InstanceState = InstanceState.IN_SERVICE) -> tuple[Member, ...]:
    """Members whose agents are heard and whose engines tell nothing."""
    return tuple(member(role, state=state) for _ in range(n))


JUST = scheduled(office(counts={"prefill": 3, "decode": 6}))


def test_static_counts_are_launched_with_no_signal_at_all() -> None:
    found = verdict(JUST, *mute(1, P), *mute(2, D))
    assert (found.action, found.bound_by) == (Action.SCALE_OUT, "schedule")
    assert found.delta == {P: 2, D: 4}


def test_static_counts_that_are_there_hold_without_a_signal() -> None:
    found = verdict(JUST, *mute(3, P), *mute(6, D))
    assert (found.action, found.bound_by) == (Action.HOLD, "schedule")
    assert "counts 3 prefill, 6 decode until 19:00 UTC" in found.reason


def test_static_counts_are_reached_from_above_without_a_signal_and_settled() -> None:
    found = verdict(JUST, *mute(5, P), *mute(10, D))
    assert (found.action, found.bound_by) == (Action.SCALE_IN, "schedule")
    assert found.delta == {P: 1, D: 2}
    soft = SoftScaleIn("d", NOON - 400, NOON - 100, 0.0)
    memory = replace(found.done, soft=soft)
    left = (*mute(4, P), *mute(8, D), withdrawn(P), withdrawn(D), withdrawn(D))
    done = verdict(JUST, *left, memory=memory)
    assert (done.action, done.bound_by) == (Action.FINISH_SCALE_IN, "observation")
    watching = replace(memory, soft=replace(soft, until=NOON + 10))
    held = verdict(JUST, *left, memory=watching)
    assert (held.action, held.bound_by) == (Action.HOLD, "observation")


def test_a_mere_ceiling_takes_nothing_away_unheard() -> None:
    spec = scheduled(office(ceiling={"decode": 4}))
    found = verdict(spec, *mute(4, P), *mute(8, D))
    assert (found.action, found.bound_by) == (Action.HOLD, "coverage")


def test_unheard_only_the_role_that_is_given_leaves() -> None:
    """Beside four decode at most eight prefill go, but no window gives their count."""
    spec = scheduled(office(counts={"decode": 4}), ratio={"min": 0.25, "max": 2.0})
    found = verdict(spec, *mute(12, P), *mute(4, D))
    assert (found.action, found.bound_by) == (Action.HOLD, "schedule")
    assert verdict(spec, *calm(12, 4)).delta.keys() == {P}  # heard, it comes back to the band


def test_a_mere_ceiling_finishes_no_observation_that_is_unknown() -> None:
    spec = scheduled(office(ceiling={"decode": 4}))
    silent: dict[str, Any] = {"tbt": None, "ttft": None}
    some = (*many(2, P, prefilling(4500, **silent), now=NOON), withdrawn(D, now=NOON))
    some = (*some, *many(4, D, decoding(900, **silent), now=NOON))
    soft = SoftScaleIn("d", NOON - 400, NOON - 100, 3600.0)
    found = verdict(spec, *some, memory=PolicyMemory(wanted={P: 2, D: 4}, soft=soft))
    assert (found.action, found.bound_by) == (Action.HOLD, "observation")


def test_demand_moves_nothing_while_counts_are_given() -> None:
    for share in (0.1, 1.0, 3.0):
        found = verdict(JUST, *calm(3, 6, share=share))
        assert found.action is Action.HOLD


def test_during_a_partition_nothing_is_withdrawn_by_the_clock() -> None:
    view = view_of(JUST, *mute(5, P), *mute(10, D), now=NOON, zones=ZONES, partition=True)
    assert decide(view).action is Action.HOLD


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
