"""`kind: Signals`: what cannot be meant is refused, with what would be right."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from heteroscale_coordinator.edge.prometheus.spec import PrometheusSpec
from heteroscale_coordinator.schema import schema_of


def test_an_address_is_tidied() -> None:
    given = {"url": "http://p:9090/prometheus/api/v1/", "select": '{job="a",}'}
    spec = PrometheusSpec.model_validate(given)
    assert (spec.url, spec.select) == ("http://p:9090/prometheus", 'job="a"')


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"url": "prometheus:9090"}, "write http://HOST:9090"),
        ({"url": "http://me:secret@p"}, "passwordFile"),
        ({"url": "http://p?x=1"}, "leave out"),
        ({"url": "http://p", "select": "job=a"}, "is no matcher"),
        ({"url": "http://p", "roles": {"prefill": ""}}, "empty matchers"),
        ({"url": "http://p", "queries": {"tokens": "x"}}, "generation_tokens"),
        ({"url": "http://p", "username": "me"}, "go together"),
        (
            {"url": "http://p", "username": "a", "passwordFile": "f", "bearerTokenFile": "g"},
            "not both",
        ),
        ({"url": "http://p", "timeout": "0s"}, "greater than 0"),
        ({"url": "http://p", "token": "secret"}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        PrometheusSpec.model_validate(given)
    assert says in str(error.value)


def test_it_has_a_schema() -> None:
    assert "PrometheusSpec" in schema_of("Signals")["$defs"]
