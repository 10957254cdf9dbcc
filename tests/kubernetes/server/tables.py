"""Lists as tables, for those who ask ``as=Table`` as kubectl does: printer columns and their cells."""

from __future__ import annotations

import re
from typing import Any

from tests.kubernetes.server.errors import Json
from tests.kubernetes.server.kinds import Kind

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+|\*|\?\(@\.([\w.]+)==[\"']([^\"']*)[\"']\))\]")
_NAME: Json = {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}
_AGE: Json = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def asked(accept: str) -> bool:
    """Tell whether an Accept header asks for a table before all else."""
    return "as=Table" in accept.split(",", maxsplit=1)[0]


def at(obj: Any, path: str) -> Any:
    """Return what a simple JSONPath (fields, indices, a filter by equality) finds first."""
    value = obj
    for found in _STEP.finditer(path.replace("\\.", "\0").lstrip(".")):
        name, index, field, wanted = found.groups()
        if name is not None:
            value = value.get(name.replace("\0", ".")) if isinstance(value, dict) else None
        elif not isinstance(value, list):
            return None
        elif field:
            value = next((one for one in value if str(one.get(field)) == wanted), None)
        else:
            place = 0 if index == "*" else int(index)
            value = value[place] if place < len(value) else None
    return value


def table(kind: Kind, items: list[Json], meta: Json) -> Json:
    """Return a Table; built-in kinds show their name and age alone."""
    columns = list(kind.columns) or [_AGE]
    heads = [
        _NAME,
        *(
            {
                "name": one["name"],
                "type": one["type"],
                "format": one.get("format", ""),
                "description": one.get("description", ""),
                "priority": one.get("priority", 0),
            }
            for one in columns
        ),
    ]
    rows = [
        {
            "cells": [obj["metadata"]["name"], *(at(obj, one["jsonPath"]) for one in columns)],
            "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": obj["metadata"],
            },
        }
        for obj in items
    ]  # fmt: skip
    head = {key: meta[key] for key in ("resourceVersion", "continue") if key in meta}
    return {
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": head,
        "columnDefinitions": heads, "rows": rows,
    }  # fmt: skip
