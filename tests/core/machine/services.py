"""Services for the state machine to run: of one role, two or three, in ratios or bands, under any law."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from hypothesis import strategies as st
from pydantic import ValidationError

from heteroscale_coordinator.core.spec import ServiceSpec

POLICY: dict[str, Any] = {
    "windowOut": "4s",
    "windowIn": "12s",
    "cooldownOut": "15s",
    "cooldownIn": "40s",
    "observation": "25s",
    "backlogHorizon": "8s",
    "freshness": "6s",
    "guard": {"startup": "10s"},
}
BY_SLO = {"ttft": "1s", "tbt": "50ms"}
TIERS = {"startup": "10s", "tiers": [{"breach": 1.1, "step": 0.1}, {"breach": 1.5, "step": 0.3}]}
SCHEDULE = {
    "timeZone": "UTC",
    "windows": [
        {"name": "busy", "start": "*/4 * * * *", "duration": "2m", "floor": {"decode": 3}},
        {"name": "calm", "start": "1-59/8 * * * *", "duration": "3m", "ceiling": {"decode": 4}},
    ],
}
LAWS: dict[str, dict[str, Any]] = {
    "demand": {},
    "tiers": {"guard": TIERS},
    "latency": {"driver": "latency", "guard": TIERS},
    "signals": {
        "driver": "signals",
        "signals": [{"signal": "prefill_sm_activity", "target": 0.5}],
    },
    "velocity": {"velocity": {}},
    "velocity alone": {"velocity": {"mode": "alone"}},
    "schedule": {"schedule": SCHEDULE},
    "no hold": {"hold": "0s", "reserve": {"deviations": 2}},
}
"""Settings of a policy, by what they try."""
BY_PROMPT: tuple[dict[int, float], ...] = ({}, {}, {200: 1.5, 2000: 0.5}, {500: 0.8})
"""Factors on a target by the mean prompt of the requests; most roles have none."""
USUAL = ("demand",) * 4
ALONE = frozenset({"demand", "tiers", "latency", "no hold"})
"""Those that say nothing of prefill or decode, and so suit a service of one role."""
Kind = Literal["one", "pair", "split"]
FITS: Mapping[Kind, frozenset[str]] = {
    "one": ALONE,
    "pair": frozenset(LAWS),
    # A clock's windows are refused for a prefill that is split.
    "split": frozenset(LAWS) - {"schedule"},
}


@st.composite
def specs(draw: st.DrawFn, kind: Kind = "pair") -> ServiceSpec:
    """Return a service whose bounds are narrow enough to be met often."""
    roles = draw({"one": _one_role, "pair": _two_roles, "split": _three_roles}[kind]())
    names = sorted(FITS[kind])
    law = draw(st.sampled_from([*USUAL, *names]))
    slo = BY_SLO if law == "latency" else draw(st.sampled_from([{}, BY_SLO]))
    spec: dict[str, Any] = {
        "roles": roles,
        "slo": slo,
        "policy": POLICY | LAWS[law],
        "drain": {"lease": "10s"},
        "maxGpus": draw(st.sampled_from([None, None, 6, 12])),
        "advisory": draw(st.integers(0, 15)) == 15,
    }
    for rules in roles.values():
        rules["targetByPrompt"] = draw(st.sampled_from(BY_PROMPT))
    if kind != "one":
        spec["ratio"] = draw(_bands([0.25, 0.5, 1.0]))
    if kind == "split":
        spec["innerRatio"] = draw(_bands([0.5, 1.0, 1.5]))
    try:
        return ServiceSpec.model_validate(spec)
    except ValidationError:
        # Its clock's windows do not fit the bounds that were drawn: without them, then.
        return ServiceSpec.model_validate({**spec, "policy": POLICY})


@st.composite
def _two_roles(draw: st.DrawFn) -> dict[str, Any]:
    least = {role: draw(st.integers(1, 2)) for role in ("prefill", "decode")}
    most = {"prefill": draw(st.integers(3, 7)), "decode": draw(st.integers(3, 12))}
    return {
        role: {"template": role, "min": least[role], "max": most[role], "target": target}
        for role, target in (("prefill", 5000), ("decode", 1000))
    }


@st.composite
def _three_roles(draw: st.DrawFn) -> dict[str, Any]:
    """Prefill in two parts. Beside 2 attention 4 ffn may be asked for, and fewer are refused."""
    least = {role: draw(st.integers(1, 2)) for role in ("attention", "ffn", "decode")}
    most = {
        "attention": draw(st.integers(3, 6)),
        "ffn": draw(st.integers(4, 8)),
        "decode": draw(st.integers(3, 9)),
    }
    found = {role: {"template": role, "min": least[role], "max": most[role]} for role in most}
    return found | {
        role: found[role] | {"target": target}
        for role, target in (("attention", 5000), ("decode", 1000))
    }


@st.composite
def _bands(draw: st.DrawFn, lows: list[float]) -> dict[str, float]:
    """Return a ratio, fixed or a band."""
    low = draw(st.sampled_from(lows))
    return {"min": low, "max": low * draw(st.sampled_from([1, 1, 2]))}


@st.composite
def _one_role(draw: st.DrawFn) -> dict[str, Any]:
    least, most = draw(st.integers(1, 2)), draw(st.integers(3, 12))
    return {"aggregated": {"template": "whole", "min": least, "max": most, "target": 1000}}
