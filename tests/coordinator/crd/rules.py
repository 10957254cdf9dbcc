"""The rules of structural schemas (apiextensions.k8s.io/v1), as an API server holds a CRD to them.

Each breach is a line that names the place. And the way back: from a structural schema to a JSON Schema
that says the same, so that objects can be held to it here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

TYPES = {"object", "array", "string", "integer", "number", "boolean"}
FORBIDDEN = {
    *(
        "$ref",
        "$defs",
        "$schema",
        "definitions",
        "dependencies",
        "deprecated",
        "discriminator",
        "id",
    ),
    *("patternProperties", "propertyNames", "readOnly", "writeOnly", "xml", "const", "prefixItems"),
    "additionalItems",
}
STRUCTURE = {"type", "properties", "items", "additionalProperties", "nullable", "default", "title"}
VALUES = {
    *("enum", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
    *("multipleOf", "required", "uniqueItems", "anyOf", "allOf", "oneOf", "not"),
}
EXTENSIONS = {
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
}
FORMATS = {"int32", "int64", "float", "double", "date-time", "date", "duration", "byte", "uri"}
"""Others are not looked at by a server, which warns of them."""
SAID = re.compile(r"self\.([A-Za-z_]\w*)")
MOST_MESSAGE, MOST_EVENT_TEXT, MOST_EVENT_WORD = 2048, 1024, 128
QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
COLUMN_TYPES = {"integer", "number", "string", "boolean", "date"}
OPEN = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"
NO_RE2 = re.compile(r"\(\?[=!<]|\\[1-9]")
"""Look-around and back references, which Go's regular expressions do not have."""


def breaches(schema: Mapping[str, Any]) -> list[str]:
    """Return what an API server would refuse, place by place."""
    found = list(_node(schema, "", root=True))
    if schema.get("type") != "object":
        found.append("root: its type must be object")
    metadata = dict(schema.get("properties", {}).get("metadata", {}))
    metadata.pop("description", None)
    if metadata and (
        metadata.pop("type", "") != "object"
        or metadata.pop("properties", {}).keys() - {"name", "generateName"}
        or metadata
    ):
        found.append("metadata: only name and generateName may be restricted")
    return found


def _node(node: Mapping[str, Any], at: str, *, root: bool = False) -> Iterator[str]:
    at = at or "root"
    unknown = node.keys() - STRUCTURE - VALUES - EXTENSIONS - {"description"}
    yield from (f"{at}: {key} is forbidden" for key in sorted(unknown | (node.keys() & FORBIDDEN)))
    kind = node.get("type")
    if kind is None and (root or not (node.get(OPEN) or node.get(INT_OR_STRING))):
        yield f"{at}: type must not be empty"
    if kind is not None and kind not in TYPES:
        yield f"{at}: type {kind!r} is none"
    if node.get(OPEN, True) is not True or (node.get(OPEN) and node.get(INT_OR_STRING)):
        yield f"{at}: {OPEN} is true, or left out, and not beside int-or-string"
    if "properties" in node and "additionalProperties" in node:
        yield f"{at}: properties and additionalProperties exclude each other"
    if node.get("additionalProperties") is False:
        yield f"{at}: additionalProperties must not be false"
    if root and "additionalProperties" in node:
        yield f"{at}: additionalProperties must not be used at the root"
    if kind == "array" and not isinstance(node.get("items"), Mapping):
        yield f"{at}: items must be one schema"
    yield from _values(node, at)
    yield from _list_rules(node, at)
    yield from _cel(node, at)
    for name, part in node.get("properties", {}).items():
        yield from _node(part, f"{at}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), Mapping):
            yield from _node(node[key], f"{at}[{key}]")


def _values(node: Mapping[str, Any], at: str) -> Iterator[str]:
    if node.get("uniqueItems"):
        yield f"{at}: uniqueItems must not be true"
    for key in ("exclusiveMinimum", "exclusiveMaximum"):
        if not isinstance(node.get(key, False), bool):
            yield f"{at}: {key} is a boolean in OpenAPI 3.0"
        if key in node and key.removeprefix("exclusive").lower() not in node:
            yield f"{at}: {key} needs its limit"
    if node.get("format", "int32") not in FORMATS:
        yield f"{at}: format {node['format']!r} is not known"
    if node.get("nullable") and "enum" in node and None not in node["enum"]:
        yield f"{at}: nullable, but its enum has no null"
    if NO_RE2.search(str(node.get("pattern", ""))):
        yield f"{at}: pattern is no RE2"
    if set(node.get("required", ())) - node.get("properties", {}).keys():
        yield f"{at}: required names what is not there"
    for key in ("anyOf", "allOf", "oneOf"):
        for number, part in enumerate(node.get(key, ())):
            yield from _nested(part, f"{at}.{key}[{number}]")
    if "not" in node:
        yield from _nested(node["not"], f"{at}.not")


def _nested(node: Mapping[str, Any], at: str) -> Iterator[str]:
    """Inside junctors only values are restricted, never the structure."""
    for key in sorted(node.keys() - (VALUES | {"properties", "items"})):
        yield f"{at}: {key} must not stand there"
    yield from _values(node, at)


def _cel(node: Mapping[str, Any], at: str) -> Iterator[str]:
    """Yield what is wrong with rules; below a list or a map their cost counts for all it may hold."""
    for number, one in enumerate(node.get("x-kubernetes-validations", ())):
        where = f"{at}.x-kubernetes-validations[{number}]"
        message = str(one.get("message", ""))
        if not message.strip() or "\n" in message or len(message) > MOST_MESSAGE:
            yield f"{where}: message is one line of at most {MOST_MESSAGE} signs"
        unknown = set(SAID.findall(one["rule"])) - node.get("properties", {}).keys()
        if unknown:
            yield f"{where}: the rule names {sorted(unknown)}, which the schema does not have"
    for key, limit in (("items", "maxItems"), ("additionalProperties", "maxProperties")):
        inner = node.get(key)
        if isinstance(inner, Mapping) and limit not in node and _has_cel(inner):
            yield f"{at}: rules below {key} need {limit}, or they cost too much"


def _has_cel(node: Mapping[str, Any]) -> bool:
    below = [
        *node.get("properties", {}).values(),
        node.get("items"),
        node.get("additionalProperties"),
    ]
    return "x-kubernetes-validations" in node or any(
        _has_cel(one) for one in below if isinstance(one, Mapping)
    )


def column_breaches(column: Mapping[str, Any]) -> list[str]:
    """Return what a server would refuse of a printer column."""
    found = [f"{key} is missing" for key in ("name", "type", "jsonPath") if not column.get(key)]
    if column.get("type") not in COLUMN_TYPES:
        found.append(f"type {column.get('type')!r} is none")
    if not str(column.get("jsonPath", "")).startswith("."):
        found.append("jsonPath must start with .")
    return found


def event_breaches(event: Mapping[str, Any]) -> list[str]:
    """Return what a server would refuse of an event, by the stricter rules of events.k8s.io/v1."""
    meta, about = event["metadata"], event["involvedObject"]
    found = []
    if about.get("namespace", "") != meta["namespace"]:
        found.append("involvedObject.namespace: does not match event.namespace")
    if len(meta["name"]) > 253 or not DNS_SUBDOMAIN.fullmatch(meta["name"]):
        found.append("metadata.name: is no DNS subdomain")
    if event["type"] not in ("Normal", "Warning"):
        found.append("type: Normal or Warning")
    found += [
        f"{key}: is needed, of at most {MOST_EVENT_WORD} signs"
        for key in ("reason", "reportingInstance", "reportingComponent")
        if not 0 < len(event.get(key, "")) <= MOST_EVENT_WORD
    ]
    if not QUALIFIED.fullmatch(event.get("reportingComponent", "")):
        found.append("reportingComponent: is no qualified name")
    if len(event["message"].encode()) > MOST_EVENT_TEXT:
        found.append(f"message: may have at most {MOST_EVENT_TEXT} bytes")
    stamps = ("firstTimestamp", "lastTimestamp")
    return found + [f"{key}: is no time" for key in stamps if not STAMP.fullmatch(event[key])]


def _list_rules(node: Mapping[str, Any], at: str) -> Iterator[str]:
    keys = node.get("x-kubernetes-list-map-keys", ())
    if keys and node.get("x-kubernetes-list-type") != "map":
        yield f"{at}: list-map-keys need list-type map"
    item = node.get("items", {})
    for key in keys:
        if key not in item.get("required", ()) and "default" not in item["properties"][key]:
            yield f"{at}: the key {key} must be required, or have a default"


def as_json_schema(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON Schema of the same meaning; what would be pruned is refused."""
    result = {key: value for key, value in node.items() if not key.startswith("x-")}
    if node.get(INT_OR_STRING):
        result["type"] = ["integer", "string"]
    if result.pop("nullable", False):
        kinds = result.get("type", [])
        result["type"] = [*(kinds if isinstance(kinds, list) else [kinds]), "null"]
    for limit, key in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if result.pop(key, False):
            result[key] = result.pop(limit)
    for key in ("anyOf", "allOf", "oneOf"):
        if key in result:
            result[key] = [as_json_schema(one) for one in result[key]]
    if "properties" in result:
        result["properties"] = {k: as_json_schema(v) for k, v in result["properties"].items()}
        result["additionalProperties"] = bool(node.get(OPEN))
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), Mapping):
            result[key] = as_json_schema(result[key])
    return result
