"""Structural schemas of custom resources: fields unknown are pruned, defaults filled in, values held."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.kubernetes.server.errors import Cause, Json, required, unsupported, wrong

_KEEP = "x-kubernetes-preserve-unknown-fields"
_EITHER = "x-kubernetes-int-or-string"
_TOP = {"apiVersion", "kind", "metadata"}
_DATE = re.compile(r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$")


def prune(schema: Json, value: Any, path: str = "") -> list[str]:
    """Remove what the schema does not know, in place; returns the paths of what was there."""
    gone: list[str] = []
    if isinstance(value, dict):
        known = schema.get("properties") or {}
        rest = schema.get("additionalProperties")
        top = not path or schema.get("x-kubernetes-embedded-resource")
        for key in list(value):
            where = f"{path}.{key}" if path else key
            if top and key in _TOP:
                continue
            if key in known:
                gone += prune(known[key], value[key], where)
            elif isinstance(rest, dict):
                gone += prune(rest, value[key], where)
            elif not schema.get(_KEEP) and rest is not True:
                gone.append(where)
                del value[key]
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for i, each in enumerate(value):
            gone += prune(schema["items"], each, f"{path}[{i}]")
    return gone


def default(schema: Json, value: Any) -> None:
    """Fill in defaults, in place; null where it has a default and is not nullable is none."""
    if isinstance(value, dict):
        for key, inner in (schema.get("properties") or {}).items():
            absent = key not in value or (value[key] is None and not inner.get("nullable"))
            if absent and "default" in inner:
                value[key] = json.loads(json.dumps(inner["default"]))
            if key in value:
                default(inner, value[key])
        rest = schema.get("additionalProperties")
        if isinstance(rest, dict):
            for each in value.values():
                default(rest, each)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for each in value:
            default(schema["items"], each)


def causes(schema: Json, value: Any, path: str = "") -> Iterator[Cause]:
    """Yield what in ``value`` does not hold to its schema, in the real server's words."""
    if value is None:
        if not schema.get("nullable") and path:
            yield _typed(path, schema, "null")
        return
    if not _fits(schema, value):
        yield _typed(path, schema, _type(value))
        return
    where = path or "<nil>"
    if "enum" in schema and value not in schema["enum"]:
        yield unsupported(where, value, [str(one) for one in schema["enum"]])
    if isinstance(value, str):
        yield from _text(schema, value, where)
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        yield from _number(schema, value, where)
    elif isinstance(value, list):
        yield from _array(schema, value, path)
    elif isinstance(value, dict):
        yield from _object(schema, value, path)
    yield from _combined(schema, value, path)


def _type(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _fits(schema: Json, value: Any) -> bool:
    given, wanted = _type(value), schema.get("type")
    if schema.get(_EITHER):
        return given in {"integer", "string"}
    if not wanted or given == wanted or (wanted == "number" and given == "integer"):
        return True
    return wanted == "integer" and given == "number" and float(value).is_integer()


def _typed(path: str, schema: Json, given: str) -> Cause:
    wanted = schema.get("type") or "integer,string"
    where = path or "<nil>"
    return Cause(
        where, f'Invalid value: "{given}": {where} in body must be of type {wanted}: "{given}"',
        "FieldValueTypeInvalid",
    )  # fmt: skip


def _text(schema: Json, value: str, path: str) -> Iterator[Cause]:
    if len(value) < schema.get("minLength", 0):
        least = schema["minLength"]
        yield wrong(path, value, f"{path} in body should be at least {least} chars long")
    if len(value) > schema.get("maxLength", len(value)):
        yield Cause(
            path, f"Too long: may not be more than {schema['maxLength']} bytes", "FieldValueTooLong"
        )
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield wrong(path, value, f"{path} in body should match '{schema['pattern']}'")
    if schema.get("format") == "date-time" and not _DATE.match(value):
        yield wrong(path, value, f'{path} in body must be of type date-time: "{value}"')


def _number(schema: Json, value: float, path: str) -> Iterator[Cause]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None:
        strict = bool(schema.get("exclusiveMinimum"))
        if value < least or (strict and value == least):
            sign = "greater than" if strict else "greater than or equal to"
            yield wrong(path, value, f"{path} in body should be {sign} {least}")
    if most is not None:
        strict = bool(schema.get("exclusiveMaximum"))
        if value > most or (strict and value == most):
            sign = "less than" if strict else "less than or equal to"
            yield wrong(path, value, f"{path} in body should be {sign} {most}")
    step = schema.get("multipleOf")
    if step and value % step:
        yield wrong(path, value, f"{path} in body should be a multiple of {step}")


def _array(schema: Json, value: list[Any], path: str) -> Iterator[Cause]:
    if len(value) < schema.get("minItems", 0):
        least = schema["minItems"]
        yield wrong(path, len(value), f"{path} in body should have at least {least} items")
    if len(value) > schema.get("maxItems", len(value)):
        yield Cause(
            path,
            f"Too many: {len(value)}: must have at most {schema['maxItems']} items",
            "FieldValueTooMany",
        )
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if schema.get("x-kubernetes-list-type") == "set" or keys:
        seen: list[Any] = []
        for i, each in enumerate(value):
            mark = [each.get(key) for key in keys] if keys and isinstance(each, dict) else each
            if mark in seen:
                shown = dict(zip(keys, mark, strict=True)) if keys else mark
                yield Cause(
                    f"{path}[{i}]", f"Duplicate value: {json.dumps(shown, separators=(',', ':'))}",
                    "FieldValueDuplicate",
                )  # fmt: skip
            seen.append(mark)
    for i, each in enumerate(value):
        yield from causes(schema.get("items") or {}, each, f"{path}[{i}]")


def _object(schema: Json, value: Json, path: str) -> Iterator[Cause]:
    for key in schema.get("required") or []:
        if key not in value:
            yield required(f"{path}.{key}" if path else key)
    known = schema.get("properties") or {}
    rest = schema.get("additionalProperties")
    for key, each in value.items():
        where = f"{path}.{key}" if path else key
        if not path and key == "metadata":
            continue
        if key in known:
            yield from causes(known[key], each, where)
        elif isinstance(rest, dict):
            yield from causes(rest, each, where)
    if len(value) > schema.get("maxProperties", len(value)):
        yield Cause(
            path,
            f"Too many: {len(value)}: must have at most {schema['maxProperties']} items",
            "FieldValueTooMany",
        )


def _combined(schema: Json, value: Any, path: str) -> Iterator[Cause]:
    where = path or "<nil>"
    for each in schema.get("allOf") or []:
        yield from causes(each, value, path)
    either = [] if schema.get(_EITHER) else schema.get("anyOf") or []
    if either and all(list(causes(each, value, path)) for each in either):
        yield wrong(
            where, _type(value), f"{where} in body must validate at least one schema (anyOf)"
        )
    if "oneOf" in schema:
        fitting = sum(not list(causes(each, value, path)) for each in schema["oneOf"])
        if fitting != 1:
            yield wrong(
                where,
                _type(value),
                f"{where} in body must validate one and only one schema (oneOf)",
            )
    if "not" in schema and not list(causes(schema["not"], value, path)):
        yield wrong(where, _type(value), f"{where} in body must not validate the schema (not)")
