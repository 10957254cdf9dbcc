"""From the JSON Schema of a pydantic model to a *structural* schema, the only kind that a CRD may have.

A structural schema (apiextensions.k8s.io/v1) names one type for each field, has no references, and
keeps unions to a few forms. What cannot be said in it is left open, and checked by the same model once
the object is read:

- ``$ref`` is written out; ``null`` in a union becomes ``nullable``; ``const`` an ``enum`` of one.
- ``exclusiveMinimum: 0`` becomes ``minimum: 0, exclusiveMinimum: true``, as OpenAPI 3.0 has it.
- A number or text (a duration) is ``x-kubernetes-int-or-string``: whole seconds, or text such as 250ms.
- A map whose keys are of an enum becomes an object with these properties.
- Any other union (a number, a map, or a word) becomes ``x-kubernetes-preserve-unknown-fields``.
- ``additionalProperties: false`` goes: the API server prunes, and refuses for whoever asks it to.
- A ``default`` goes into the description: written into stored objects it would outlive the release
  that it was right for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_VALUES = ("pattern", "enum", "maxLength", "minLength", "maxItems", "minItems", "multipleOf")
_LIMITS = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}
_OPEN = {"x-kubernetes-preserve-unknown-fields": True}
_SCALARS = ("boolean", "integer", "number", "string")


class UnstructuredError(ValueError):
    """A part of a schema for which there is no structural form."""


def structural(schema: Mapping[str, Any]) -> Schema:
    """Return ``schema``, a JSON Schema with its ``$defs``, in structural form.

    Raises:
        UnstructuredError: a part has no such form; the text names it.

    """
    return _Converter(schema.get("$defs", {})).convert(schema)


class _Converter:
    def __init__(self, defs: Mapping[str, Any]) -> None:
        self._defs = defs

    def convert(self, node: Mapping[str, Any]) -> Schema:
        node = self._resolved(node)
        members = node.get("anyOf") or node.get("oneOf")
        result = self._union(members) if members else self._plain(node)
        return _described(node, result)

    def _resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the node with its reference written out; what stands beside the reference wins."""
        while (name := node.get("$ref")) is not None:
            beside = {key: value for key, value in node.items() if key != "$ref"}
            node = {**self._defs[str(name).removeprefix("#/$defs/")], **beside}
        return node

    def _union(self, members: list[Mapping[str, Any]]) -> Schema:
        rest = [one for one in members if one.get("type") != "null"]
        nullable = len(rest) < len(members)
        forms = [self.convert(one) for one in rest]
        for form in forms:
            form.pop("description", None)
        return _nullable(forms[0] if len(forms) == 1 else _joined(forms), nullable=nullable)

    def _plain(self, node: Mapping[str, Any]) -> Schema:
        if "const" in node:
            node = {**node, "enum": [node["const"]]}
        kind = node.get("type")
        if isinstance(kind, list):
            if set(kind) != {"string", "number"}:
                raise UnstructuredError(f"no form for the types {kind}")
            return {"x-kubernetes-int-or-string": True, **_values(node)}
        if kind == "object":
            return self._object(node)
        if kind == "array":
            return {"type": "array", "items": self.convert(node["items"]), **_values(node)}
        if kind in _SCALARS:
            return {"type": kind, **_values(node)}
        raise UnstructuredError(f"no form for {json.dumps(node)[:120]}")

    def _object(self, node: Mapping[str, Any]) -> Schema:
        named, further = node.get("properties"), node.get("additionalProperties")
        if named is not None:
            result: Schema = {
                "type": "object",
                "properties": {name: self.convert(one) for name, one in named.items()},
            }
            if required := node.get("required"):
                result["required"] = list(required)
            return result
        for one in (node.get("patternProperties") or {}).values():
            further = one
        if not isinstance(further, Mapping):
            raise UnstructuredError("an object names neither properties nor what its values are")
        value = self.convert(further)
        if keys := node.get("propertyNames"):
            names = self._resolved(keys).get("enum", ())
            return {"type": "object", "properties": dict.fromkeys(names, value)}
        return {"type": "object", "additionalProperties": value}


def _values(node: Mapping[str, Any]) -> Schema:
    result = {key: node[key] for key in _VALUES if key in node}
    for limit, exclusive in _LIMITS.items():
        if limit in node:
            result[limit] = node[limit]
        if exclusive in node:
            result |= {limit: node[exclusive], exclusive: True}
    return result


def _joined(forms: list[Schema]) -> Schema:
    """Return one form for several: of whole and other numbers a number, of others anything."""
    if {form.get("type") for form in forms} == {"integer", "number"}:
        return {"type": "number", "anyOf": [_of_numbers(form) for form in forms]}
    return dict(_OPEN)


def _of_numbers(form: Schema) -> Schema:
    whole = {"multipleOf": 1} if form["type"] == "integer" else {}
    return whole | {key: value for key, value in form.items() if key != "type"}


def _nullable(form: Schema, *, nullable: bool) -> Schema:
    if not nullable or form == _OPEN:
        return form
    if "enum" in form:
        form["enum"] = [*form["enum"], None]
    return {**form, "nullable": True}


def _described(node: Mapping[str, Any], form: Schema) -> Schema:
    said = [" ".join(str(node["description"]).split())] if node.get("description") else []
    if "default" in node and not isinstance(node["default"], dict | None) and node["default"] != []:
        said.append(f"Default: {_written(node['default'])}.")
    return {"description": " ".join(said), **form} if said else form


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
