"""What an API server's answer means: which of the port's errors it is, and in which words it is told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from heteroscale_scheduler_adapters.port import AdapterError, RefusedError, UnavailableError

FORBIDDEN, NOT_FOUND, CONFLICT, GONE, TOO_MANY = 403, 404, 409, 410, 429
UNAUTHORIZED, SERVER_ERROR = 401, 500


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, in the words of RBAC."""

    verb: str
    """``get``, ``list``, ``watch``, ``create``, ``patch``, ``update``, ``delete``."""
    resource: str
    """``deployments.apps``, ``pods/eviction``."""
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        """Say what was asked."""
        named = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.verb} {self.resource}" + (f" {named}" if named else "")


class NotFoundError(RefusedError):
    """There is no such object, or no such kind."""


class ConflictError(RefusedError):
    """It has become different meanwhile, or another manager owns the field: read it and try anew."""


class ExistsError(RefusedError):
    """An object of this name is there already."""


class ForbiddenError(RefusedError):
    """The login lacks a right; the text names it."""


class LoginError(UnavailableError):
    """The login is not accepted; it may be a token that has just run out."""


class BusyError(UnavailableError):
    """429: it was not done, and is not to be asked again at once."""


class BudgetError(BusyError):
    """429 of an eviction: a disruption budget forbids it now."""


class GoneError(AdapterError):
    """410: what a list or a watch would go on from is no longer kept."""


_KINDS: dict[int, type[AdapterError]] = {
    UNAUTHORIZED: LoginError,
    NOT_FOUND: NotFoundError,
    CONFLICT: ConflictError,
    GONE: GoneError,
}


def fault(ask: Ask, status: int, body: str, retry_after: float = 0.0) -> AdapterError:
    """Return the error that an answer of ``status`` (400 and above) is."""
    said = status_of(body)
    reason, message = str(said.get("reason") or ""), str(said.get("message") or body.strip()[:300])
    text = f"{ask}: {message or f'HTTP {status}'}"
    if status == FORBIDDEN and message and " cannot " not in message:
        return RefusedError(
            text
        )  # a quota or an admission hook, whose words say all; no right is lacking
    if status == FORBIDDEN:
        return ForbiddenError(_forbidden(ask, message))
    if status == TOO_MANY:
        causes = said.get("details", {}).get("causes") or ()
        told = " ".join(str(one.get("message", "")) for one in causes)
        text = f"{text} {told}".strip()  # which disruption budget it is
        budget = any(one.get("reason") == "DisruptionBudget" for one in causes)
        return (BudgetError if budget else BusyError)(text, retry_after=retry_after)
    if status >= SERVER_ERROR:
        return UnavailableError(f"{text} (HTTP {status})", retry_after=retry_after)
    if status == CONFLICT and reason == "AlreadyExists":
        return ExistsError(text)
    kind = _KINDS.get(status, RefusedError)
    return kind(f"{text} (HTTP {status}{' ' if reason else ''}{reason})")


def status_of(body: str) -> dict[str, Any]:
    """Return the ``Status`` object that an answer holds, or an empty one."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


def _forbidden(ask: Ask, message: str) -> str:
    resource, _, group = ask.resource.partition(".")
    plain, slash, sub = resource.partition("/")
    group, sub = (group or ""), (f"{slash}{sub}" if sub else "")
    where = f" in namespace {ask.namespace}" if ask.namespace else ""
    rule = f'apiGroups: ["{group}"], resources: ["{plain}{sub}"], verbs: ["{ask.verb}"]'
    kind = "Role or ClusterRole" if ask.namespace else "ClusterRole"
    return f"{ask}: no right to; a {kind} must grant{where} {{{rule}}} (403: {message})"
