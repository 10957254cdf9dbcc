"""The CustomResourceDefinition, made from the model that reads service files: nothing is said twice.

``heteroscale schema --crd`` prints it; a test holds the manifest of ``deploy/kubernetes`` to it, and
another to the rules of structural schemas.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from heteroscale.words import Role
from heteroscale_coordinator.edge.crd import words
from heteroscale_coordinator.edge.crd.structural import Schema, structural

_HEAD = (
    "# Made by `heteroscale schema --crd` from the model of service files: change that, not this.\n"
)
_COUNTS = {
    "wanted": "Instances that the last decision asks for.",
    "min": "Fewest, by the specification.",
    "max": "Most, by the specification.",
    "inService": "Serving.",
    "pending": "Launched or warming.",
    "withdrawn": "Ready, and kept out of traffic.",
    "draining": "Being emptied before they stop.",
    "unknown": "Of which nothing has been heard lately; they count as serving.",
}
_ROLE_SETS = (("prefill", "decode"), ("aggregated",), ("attention", "ffn", "decode"))
_COLUMNS = (
    ("P", "string", ".status.prefill", 0, "Prefill in service / wanted"),
    ("D", "string", ".status.decode", 0, "Decode (or aggregated) in service / wanted"),
    ("Ratio", "number", ".status.ratio", 0, "Prefill in service per decode in service"),
    ("Action", "string", ".status.lastDecision.action", 1, "What the last decision does"),
    (
        "Accepted",
        "string",
        '.status.conditions[?(@.type=="Accepted")].status',
        1,
        "Whether it is right",
    ),
    ("Reason", "string", ".status.reason", 0, "Why it is as it is"),
    ("Age", "date", ".metadata.creationTimestamp", 0, ""),
)


def definition(document: Schema) -> dict[str, Any]:
    """Return the manifest as plain data; ``document`` is the JSON Schema of service files."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": words.NAME},
        "spec": {
            "group": words.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": words.KIND,
                "listKind": f"{words.KIND}List",
                "plural": words.PLURAL,
                "singular": words.SINGULAR,
                "shortNames": [words.SHORT],
                "categories": ["heteroscale"],
            },
            "versions": [
                {
                    "name": words.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*one) for one in _COLUMNS],
                    "schema": {"openAPIV3Schema": schema(document)},
                }
            ],
        },
    }


def manifest(document: Schema) -> str:
    """Return it as YAML, without anchors and as ``kubectl apply`` takes it."""
    plain = json.loads(json.dumps(definition(document)))
    return _HEAD + yaml.safe_dump(plain, sort_keys=False, width=120, allow_unicode=True)


def schema(document: Schema) -> Schema:
    """Return the schema of one object: what a service file says (``document``), and what is told back."""
    about = {"description": "A service whose prefill and decode are scaled together."}
    spec = structural({**document, **about})
    parts = spec["properties"]
    name = parts["metadata"]["properties"]["name"]
    parts |= {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object", "properties": {"name": {**name, "maxLength": 63}}},
        "status": _status(),
    }
    spec["required"] = ["spec"]
    _add_rules(parts["spec"])
    return spec


def _add_rules(spec: Schema) -> None:
    """Say in CEL what is cheap to say there, so that ``kubectl apply`` refuses it at once."""
    roles = spec["properties"]["roles"]
    known = [role.value for role in Role]
    sets = [
        " && ".join(f"{'' if role in names else '!'}has(self.{role})" for role in known)
        for names in _ROLE_SETS
    ]
    roles["x-kubernetes-validations"] = [
        {
            "rule": " || ".join(f"({one})" for one in sets),
            "message": "roles must be prefill and decode, or aggregated alone, or attention, ffn and "
            "decode where prefill is split",
        }
    ]
    for role in roles["properties"].values():
        role["x-kubernetes-validations"] = [
            {
                "rule": "(has(self.min) ? self.min : 1) <= (has(self.max) ? self.max : 1)",
                "message": "min is above max; each is 1 where it is not written",
            }
        ]


def _column(name: str, kind: str, path: str, priority: int, text: str) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if text:
        column["description"] = text
    return column | ({"priority": priority} if priority else {})


def _status() -> Schema:
    counts = {
        name: {"type": "integer", "format": "int32", "description": text}
        for name, text in _COUNTS.items()
    }
    text: Schema = {"type": "string"}
    time = {"type": "string", "format": "date-time"}
    return {
        "type": "object",
        "description": "What the coordinator tells of it. Unknown is left out, never zero.",
        "properties": {
            "observedGeneration": {"type": "integer", "format": "int64"},
            "prefill": {**text, "description": "In service / wanted."},
            "decode": {**text, "description": "In service / wanted; of an aggregated service all."},
            "ratio": {"type": "number", "description": "Prefill per decode in service."},
            "reason": {**text, "description": "Why it is refused, else why it is as it is."},
            "roles": {
                "type": "object",
                "additionalProperties": {"type": "object", "properties": counts},
            },
            "lastDecision": {
                "type": "object",
                "properties": {
                    "action": text,
                    "reason": text,
                    "boundBy": {**text, "description": "What bound the counts."},
                    "delta": {"type": "object", "additionalProperties": {"type": "integer"}},
                    "time": {**time, "description": "When it was first decided so."},
                },
            },
            "conditions": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                    "properties": {
                        "type": {**text, "maxLength": 316},
                        "status": {**text, "enum": ["True", "False", "Unknown"]},
                        "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
                        "lastTransitionTime": time,
                        "reason": {**text, "minLength": 1, "maxLength": 1024},
                        "message": {**text, "maxLength": 32768},
                    },
                },
            },
        },
    }
