"""Reads parts of an object as JSON has it: what is missing or of another kind is empty."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
_SCALES: dict[str | None, Decimal] = {None: Decimal(1), "m": Decimal("0.001")}
_SCALES |= {unit: Decimal(1000) ** power for power, unit in enumerate("kMGT", 1)}
_SCALES |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGT", 1)}


def part(value: object, *keys: str) -> dict[str, Any]:
    """Return the map at a path of keys."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def items(value: object, *keys: str) -> list[dict[str, Any]]:
    """Return the maps of the list at a path of keys."""
    if keys:
        value = part(value, *keys[:-1]).get(keys[-1])
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def text(value: object, *keys: str) -> str:
    """Return the text at a path of keys."""
    found = part(value, *keys[:-1]).get(keys[-1])
    return found if isinstance(found, str) else ""


def labels(thing: object) -> dict[str, str]:
    """Return an object's labels."""
    return part(thing, "metadata", "labels")


def told(thing: object, key: str) -> str:
    """Return what an annotation, else a label of this key says."""
    metadata = part(thing, "metadata")
    return text(metadata, "annotations", key) or text(metadata, "labels", key)


def name(thing: object) -> str:
    """Return an object's name."""
    return text(thing, "metadata", "name")


def namespace(thing: object) -> str:
    """Return an object's namespace; empty for those of the cluster."""
    return text(thing, "metadata", "namespace")


def revision(thing: object) -> str:
    """Return an object's or a list's resource version."""
    return text(thing, "metadata", "resourceVersion")


def count(quantity: object) -> int:
    """Return a quantity (``8``, ``"8"``, ``8k``) as a whole number, rounded up; 0 if it is none."""
    found = _QUANTITY.fullmatch(str(quantity).strip())
    if found is None or isinstance(quantity, bool):
        return 0
    try:
        exact = Decimal(found[1]) * _SCALES[found[2]]
    except InvalidOperation:
        return 0
    return max(0, math.ceil(exact))


def moment(stamp: object) -> float:
    """Return an RFC 3339 time as seconds since 1970; 0 if it is none."""
    try:
        return datetime.fromisoformat(str(stamp)).timestamp()
    except ValueError:
        return 0.0


def condition(thing: object, kind: str) -> Mapping[str, Any]:
    """Return a condition of an object's status, empty if it is not there."""
    for one in items(thing, "status", "conditions"):
        if one.get("type") == kind:
            return one
    return {}
