"""Errors as the real server words them: each is a ``Status`` object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    501: "NotImplemented",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True)
class Cause:
    """One field that is wrong: ``reason`` in the words of the API, for instance FieldValueInvalid."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


@dataclass
class StatusError(Exception):
    """An answer that is no object but a ``Status``."""

    code: int
    message: str
    reason: str = ""
    details: Json = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> Json:
        """Return the ``Status`` object."""
        said: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason or REASONS[self.code],
            "code": self.code,
        }
        if self.details:
            said["details"] = self.details
        return said


def _named(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def _details(name: str, group: str, kind: str) -> Json:
    return {k: v for k, v in (("name", name), ("group", group), ("kind", kind)) if v}


def not_found(resource: str, group: str, name: str) -> StatusError:
    text = f'{_named(resource, group)} "{name}" not found'
    return StatusError(404, text, details=_details(name, group, resource))


def already_exists(resource: str, group: str, name: str) -> StatusError:
    text = f'{_named(resource, group)} "{name}" already exists'
    return StatusError(409, text, "AlreadyExists", details=_details(name, group, resource))


STALE = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def conflict(resource: str, group: str, name: str, why: str = STALE) -> StatusError:
    text = f'Operation cannot be fulfilled on {_named(resource, group)} "{name}": {why}'
    return StatusError(409, text, details=_details(name, group, resource))


def forbidden(resource: str, group: str, name: str, why: str) -> StatusError:
    subject = f'{_named(resource, group)} "{name}"' if name else _named(resource, group)
    text = f"{subject} is forbidden: {why}"
    return StatusError(403, text, details=_details(name, group, resource))


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> StatusError:
    """422 with every cause, as the real server joins them."""
    said = [f"{c.field}: {c.message}" for c in causes]
    joined = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    details = _details(name, group, kind)
    details["causes"] = [
        {"reason": c.reason, "message": c.message, "field": c.field} for c in causes
    ]
    return StatusError(422, f'{_named(kind, group)} "{name}" is invalid: {joined}', details=details)


def bad_request(text: str) -> StatusError:
    return StatusError(400, text)


def expired(text: str) -> StatusError:
    return StatusError(410, text)


def required(path: str, note: str = "") -> Cause:
    return Cause(path, f"Required value{': ' + note if note else ''}", "FieldValueRequired")


def wrong(path: str, value: object, why: str) -> Cause:
    return Cause(path, f"Invalid value: {_shown(value)}: {why}")


def unsupported(path: str, value: object, allowed: Sequence[str]) -> Cause:
    offered = ", ".join(f'"{one}"' for one in allowed)
    return Cause(
        path,
        f"Unsupported value: {_shown(value)}: supported values: {offered}",
        "FieldValueNotSupported",
    )


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
