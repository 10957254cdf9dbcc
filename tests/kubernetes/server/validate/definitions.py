"""CustomResourceDefinitions themselves: a schema must be structural."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.kubernetes.server.errors import Cause, Json, required, unsupported, wrong
from tests.kubernetes.server.validate import names

_FORBIDDEN = ("$ref", "definitions", "id", "patternProperties", "dependencies", "additionalItems")
_KNOWN_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_JUNCTORS = ("allOf", "anyOf", "oneOf")
_BELOW_JUNCTOR = ("type", "description", "default", "additionalProperties", "nullable", "title")


def causes(crd: Json) -> Iterator[Cause]:
    """Yield what is wrong with a definition."""
    spec = crd.get("spec") or {}
    given = spec.get("names") or {}
    wanted = f"{given.get('plural')}.{spec.get('group')}"
    if crd["metadata"].get("name") != wanted:
        yield wrong(
            "metadata.name", crd["metadata"].get("name"), 'must be spec.names.plural+"."+spec.group'
        )
    for key in ("plural", "kind"):
        if not given.get(key):
            yield required(f"spec.names.{key}")
    if given.get("plural") and not names.is_label(given["plural"]):
        yield wrong("spec.names.plural", given["plural"], names.DNS_1035_RULE)
    if spec.get("scope") not in {"Cluster", "Namespaced"}:
        yield unsupported("spec.scope", spec.get("scope", ""), ("Cluster", "Namespaced"))
    yield from _versions(spec.get("versions") or [])


def _versions(versions: list[Json]) -> Iterator[Cause]:
    if sum(bool(one.get("storage")) for one in versions) != 1:
        yield wrong("spec.versions", "", "must have exactly one version marked as storage version")
    for i, one in enumerate(versions):
        path = f"spec.versions[{i}].schema.openAPIV3Schema"
        schema = (one.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            yield required(path, "schemas are required")
            continue
        if schema.get("type") != "object":
            yield wrong(f"{path}.type", schema.get("type", ""), "must be object at the root")
        yield from structural(schema, path)
        for j, column in enumerate(one.get("additionalPrinterColumns") or []):
            where = f"spec.versions[{i}].additionalPrinterColumns[{j}]"
            for key in ("name", "type", "jsonPath"):
                if not column.get(key):
                    yield required(f"{where}.{key}")
            if column.get("jsonPath") and not column["jsonPath"].startswith("."):
                yield wrong(
                    f"{where}.jsonPath",
                    column["jsonPath"],
                    "must be a simple json path starting with .",
                )
        scale = (one.get("subresources") or {}).get("scale")
        if scale is not None:
            yield from _scale(scale, f"spec.versions[{i}].subresources.scale")


def _scale(scale: Json, path: str) -> Iterator[Cause]:
    for key, prefix in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        value = scale.get(key, "")
        if not value:
            yield required(f"{path}.{key}")
        elif not value.startswith(prefix):
            yield wrong(f"{path}.{key}", value, f"should be a json path under {prefix.rstrip('.')}")


def structural(schema: Any, path: str, *, junctor: bool = False) -> Iterator[Cause]:
    """Yield what keeps a schema from being structural."""
    for word in _FORBIDDEN:
        if word in schema:
            yield Cause(f"{path}.{word}", "Forbidden: " + (
                "$ref is not supported" if word == "$ref" else f"{word} is not supported"
            ), "FieldValueForbidden")  # fmt: skip
    kind = schema.get("type")
    if kind and kind not in _KNOWN_TYPES:
        yield unsupported(f"{path}.type", kind, _KNOWN_TYPES)
    untyped = schema.get("x-kubernetes-int-or-string") or schema.get(
        "x-kubernetes-preserve-unknown-fields"
    )
    if not junctor and not kind and not untyped:
        yield required(f"{path}.type", "must not be empty for specified object fields")
    if junctor:
        for word in _BELOW_JUNCTOR:
            if word in schema and not schema.get("x-kubernetes-int-or-string"):
                yield Cause(
                    f"{path}.{word}",
                    "Forbidden: must be empty to be structural",
                    "FieldValueForbidden",
                )
    if schema.get("properties") and schema.get("additionalProperties"):
        yield Cause(
            f"{path}.additionalProperties",
            "Forbidden: additionalProperties and properties are mutual exclusive",
            "FieldValueForbidden",
        )  # fmt: skip
    if schema.get("additionalProperties") is False:
        yield Cause(
            f"{path}.additionalProperties",
            "Forbidden: additionalProperties cannot be set to false",
            "FieldValueForbidden",
        )
    if schema.get("uniqueItems"):
        yield Cause(
            f"{path}.uniqueItems",
            "Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            "FieldValueForbidden",
        )
    if kind == "array" and not junctor and "items" not in schema:
        yield required(f"{path}.items", "must be specified")
    yield from _below(schema, path, junctor=junctor)


def _below(schema: Any, path: str, *, junctor: bool) -> Iterator[Cause]:
    for key, inner in (schema.get("properties") or {}).items():
        yield from structural(inner, f"{path}.properties[{key}]", junctor=junctor)
    if isinstance(schema.get("items"), dict):
        yield from structural(schema["items"], f"{path}.items", junctor=junctor)
    if isinstance(schema.get("additionalProperties"), dict):
        inner = schema["additionalProperties"]
        yield from structural(inner, f"{path}.additionalProperties", junctor=junctor)
    if schema.get("x-kubernetes-int-or-string"):
        return
    for word in _JUNCTORS:
        for i, inner in enumerate(schema.get(word) or []):
            yield from structural(inner, f"{path}.{word}[{i}]", junctor=True)
