"""What an API server's refusals mean, and that they name verb, object and the right that is missing."""

from __future__ import annotations

import json

import pytest

from heteroscale_scheduler_adapters.kubernetes.errors import (
    Ask,
    BudgetError,
    BusyError,
    ConflictError,
    ExistsError,
    ForbiddenError,
    GoneError,
    LoginError,
    NotFoundError,
    fault,
)
from heteroscale_scheduler_adapters.port import AdapterError, RefusedError, UnavailableError

ASK = Ask("patch", "deployments/scale.apps", "chat-decode", "llm")


def answer(status: int, reason: str = "", message: str = "it cannot be, said") -> AdapterError:
    body = {
        "kind": "Status",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": status,
    }
    return fault(ASK, status, json.dumps(body), 3.0)


@pytest.mark.parametrize(
    ("status", "reason", "kind", "base"),
    [
        (400, "BadRequest", RefusedError, RefusedError),
        (401, "Unauthorized", LoginError, UnavailableError),
        (403, "Forbidden", ForbiddenError, RefusedError),
        (404, "NotFound", NotFoundError, RefusedError),
        (409, "Conflict", ConflictError, RefusedError),
        (409, "AlreadyExists", ExistsError, RefusedError),
        (410, "Expired", GoneError, AdapterError),
        (422, "Invalid", RefusedError, RefusedError),
        (429, "TooManyRequests", BusyError, UnavailableError),
        (500, "InternalError", UnavailableError, UnavailableError),
        (504, "Timeout", UnavailableError, UnavailableError),
    ],
)
def test_each_status_is_one_of_the_ports_errors(
    status: int, reason: str, kind: type[AdapterError], base: type[AdapterError]
) -> None:
    error = answer(status, reason)
    assert type(error) is kind
    assert isinstance(error, base)
    assert "patch deployments/scale.apps llm/chat-decode" in str(error)
    assert "said" in str(error)


def test_a_missing_right_is_told_as_the_rule_that_grants_it() -> None:
    assert (
        'a Role or ClusterRole must grant in namespace llm {apiGroups: ["apps"], '
        'resources: ["deployments/scale"], verbs: ["patch"]}' in str(answer(403))
    )
    said = str(fault(Ask("list", "nodes"), 403, "User x cannot list nodes"))
    assert (
        'a ClusterRole must grant {apiGroups: [""], resources: ["nodes"], verbs: ["list"]}' in said
    )


def test_how_long_to_wait_is_kept() -> None:
    for status in (429, 503):
        error = answer(status)
        assert isinstance(error, UnavailableError)
        assert error.retry_after == 3.0


def test_an_answer_of_something_else_is_told_as_it_is() -> None:
    assert "<html>bad gateway</html>" in str(fault(ASK, 502, "<html>bad gateway</html>"))
    assert "HTTP 404" in str(fault(ASK, 404, '["no status"'))


def test_of_an_eviction_a_budget_is_told_from_a_busy_server() -> None:
    said = {"reason": "DisruptionBudget", "message": "The disruption budget guard needs 2"}
    body = {"kind": "Status", "reason": "TooManyRequests", "details": {"causes": [said]}}
    ask = Ask("create", "pods/eviction", "a", "llm")
    assert type(fault(ask, 429, json.dumps(body))) is BudgetError
    assert type(fault(ask, 429, json.dumps({**body, "details": {}}))) is BusyError
