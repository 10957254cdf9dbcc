"""Label and field selectors, as strings of a query and as objects of a specification."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.kubernetes.server.errors import Json, bad_request

Matcher = Callable[[Mapping[str, str]], bool]

_SET = re.compile(r"^\s*(!)?\s*([^\s=!(),]+)\s*(?:(in|notin)\s*\(([^)]*)\))?\s*$")
_EQUAL = re.compile(r"^\s*([^\s=!(),]+)\s*(==|=|!=)\s*([^\s=!(),]*)\s*$")
_NUMBER = re.compile(r"^\s*([^\s=!(),<>]+)\s*([<>])\s*(-?\d+)\s*$")


def _pieces(text: str) -> list[str]:
    return [piece for piece in re.split(r",(?![^(]*\))", text) if piece.strip()]


def _one(piece: str) -> Matcher:
    if found := _EQUAL.match(piece):
        key, sign, value = found.groups()
        if sign == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _NUMBER.match(piece):
        return _compares(*found.groups())
    found = _SET.match(piece)
    if not found:
        raise bad_request(
            f"unable to parse requirement: found '{piece.strip()}', "
            "expected: in, notin, =, ==, !=, gt, lt"
        )
    absent, key, operator, listed = found.groups()
    if not operator:
        return (lambda labels: key not in labels) if absent else (lambda labels: key in labels)
    values = {value.strip() for value in listed.split(",")}
    if operator == "in":
        return lambda labels: labels.get(key) in values
    return lambda labels: labels.get(key) not in values


def _compares(key: str, sign: str, bound: str) -> Matcher:
    def matches(labels: Mapping[str, str]) -> bool:
        value = labels.get(key, "")
        if not value.lstrip("-").isdigit():
            return False
        return int(value) > int(bound) if sign == ">" else int(value) < int(bound)

    return matches


def labels(text: str) -> Matcher:
    """Return what a ``labelSelector`` of a query matches; 400 if it cannot be read."""
    wants = [_one(piece) for piece in _pieces(text)]
    return lambda have: all(want(have) for want in wants)


def selector(spec: Mapping[str, Any] | None) -> Matcher:
    """Return what a LabelSelector object matches: everything if empty, nothing if there is none."""
    if spec is None:
        return lambda _: False
    wants = [f"{key}={value}" for key, value in (spec.get("matchLabels") or {}).items()]
    wants += [as_text(expression) for expression in spec.get("matchExpressions") or []]
    return labels(",".join(wants))


def as_text(expression: Mapping[str, Any]) -> str:
    """Return one of ``matchExpressions`` (or of a node affinity) as a query would say it."""
    key, listed = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "Exists":
            return str(key)
        case "DoesNotExist":
            return f"!{key}"
        case "In":
            return f"{key} in ({','.join(listed)})"
        case "NotIn":
            return f"{key} notin ({','.join(listed)})"
        case "Gt":
            return f"{key} > {listed[0]}"
        case "Lt":
            return f"{key} < {listed[0]}"
        case other:
            raise bad_request(f'"{other}" is not a valid label selector operator')


def field_value(obj: Json, path: str) -> str:
    """Return the value that a field selector compares; empty if it is not set."""
    value: Any = obj
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def fields(text: str, allowed: frozenset[str], kind: str) -> Callable[[Json], bool]:
    """Return what a ``fieldSelector`` matches; 400 for one that the kind has not."""
    wants: list[tuple[str, bool, str]] = []
    for piece in _pieces(text):
        found = _EQUAL.match(piece)
        if not found:
            raise bad_request(f"invalid selector: '{piece}'; can't understand '{piece}'")
        path, sign, value = found.groups()
        if path not in allowed:
            raise bad_request(f"field label not supported: {path}")
        wants.append((path, sign != "!=", value))
    return lambda obj: all((field_value(obj, p) == v) is same for p, same, v in wants)
