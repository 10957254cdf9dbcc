"""What a specification may not say, and the words that name the field and the mend."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from heteroscale_coordinator.core.spec import GateSpec, ServiceSpec
from tests.core.policy.build import spec_of


def service(**changes: Any) -> ServiceSpec:
    roles = {
        name: {"template": name, "min": 1, "max": 4, "target": 1000}
        for name in ("prefill", "decode")
    }
    return ServiceSpec.model_validate({"roles": roles, "ratio": 0.5, **changes})


def role(**changes: Any) -> dict[str, Any]:
    rules = {"template": "x", "min": 1, "max": 4, "target": 1000}
    return {"roles": {"prefill": rules, "decode": {**rules, **changes}}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (role(min=5), "min 5 is above max 4"),
        (role(essential=5), "essential 5 is above max 4"),
        (role(target={}), "target: name at least one GPU type"),
        ({"roles": {"decode": {"template": "x", "min": 1, "max": 4, "target": 1}}}, "got decode"),
        ({"ratio": {"min": 2, "max": 1}}, "min 2.0 is above max 1.0"),
        ({"ratio": {"min": 1, "max": 1, "adapt": True}}, "adapt needs a band"),
        ({"maxGpus": 1}, "maxGpus 1 is below the 2 that `min` needs"),
        ({"roles": {"aggregated": {}}}, "roles.aggregated.template is missing"),
        ({"signals": {"select": 'a="b"'}}, "select: only a Prometheus is asked so"),
        ({"signals": {"source": "prometheus", "select": "a=b"}}, "'a=b' is no matcher"),
        (
            {"signals": {"source": "prometheus", "roles": {"prefill": "{}"}}},
            "empty matchers: write e.g.",
        ),
        (
            {"signals": {"source": "prometheus", "roles": {"ffn": 'a="b"'}}},
            "signals.roles: ffn is no role of this service",
        ),
    ],
)
def test_roles_ratio_and_budget(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        service(**changes)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"window_out": 0}, "window_out must be above 0s"),
        ({"freshness": 0}, "freshness must be above 0s"),
        ({"window_out": 60, "window_in": 30}, "windowIn 30s is shorter than windowOut 60s"),
        ({"driver": "signals"}, "driver: signals needs `signals`"),
        (
            {"stability": {"breaker": {"open": 900, "most_open": 60}}},
            "mostOpen 60s is shorter than open 900s",
        ),
    ],
)
def test_policy(policy: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec_of(**policy)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"kind": "sglang-router"}, "kind sglang-router needs `routers`"),
        ({"kind": "production-stack", "options": {"path": "a", "model": "m"}}, "needs `routers`"),
        ({"kind": "sglang-router", "routers": ["10.0.0.1:30000"]}, "is no http:// or https:// URL"),
        ({"kind": "upstream-file"}, "kind upstream-file needs `options.upstream`"),
        ({"kind": "http", "options": {"hook": ""}}, "kind http needs `options.hook`"),
        (
            {"kind": "production-stack", "routers": ["http://r"], "options": {"path": "a"}},
            "needs `options.model`",
        ),
    ],
)
def test_gates(gate: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        GateSpec.model_validate(gate)
    assert said in str(caught.value)


def test_each_gate_is_taken_with_what_it_needs() -> None:
    routers = ("http://10.0.0.1:30000", "https://router.example")
    assert GateSpec(kind="sglang-router", routers=routers).routers == routers
    assert GateSpec(kind="haproxy-socket", options={"haproxy": "web"}).kind == "haproxy-socket"
    assert GateSpec().kind == "none"
