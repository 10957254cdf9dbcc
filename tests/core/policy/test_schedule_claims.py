"""By the clock: what no window may do, whatever it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heteroscale.words import Role
from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.core.policy import Member, decide
from heteroscale_coordinator.core.policy.bounds import gpus
from heteroscale_coordinator.core.policy.schedule import Claim, plan_of
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.policy.build import (
    D,
    P,
    decoding,
    member,
    prefilling,
    spec_of,
    starting,
    view_of,
    withdrawn,
)
from tests.core.policy.clocked import MONDAY, NOON, ZONES

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
