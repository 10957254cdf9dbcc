"""The core's values as JSON documents, and back.

A field that a newer version has added to a value is passed over, for a rolled-back coordinator must
be able to read; a field it has added to a *specification* is refused, because a promise of the user
would silently be dropped. Infinite and NaN are refused on the way in, for JSON has no word for
them.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from heteroscale_coordinator.edge.store.port import StoreCorruptError, StoreError

_T = TypeVar("_T")


_adapters: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def encode(value: object) -> Any:
    """Return ``value`` as plain JSON data.

    Raises:
        StoreError: it cannot be written as JSON.

    """
    try:
        return _adapter(type(value)).dump_python(value, mode="json")
    except (PydanticSerializationError, ValueError) as error:
        raise StoreError(f"{type(value).__name__} cannot be stored: {error}") from error


def decode(kind: type[_T], data: object, key: str) -> _T:
    """Return the value that ``encode`` made ``data`` of; ``key`` names it in errors.

    Raises:
        StoreCorruptError: it is none, or a newer version wrote what this one must not ignore.

    """
    try:
        value: _T = _adapter(kind).validate_python(data)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, wrong["loc"]))
        newer = wrong["type"] == "extra_forbidden"
        why = "is of a newer version" if newer else wrong["msg"]
        raise StoreCorruptError(f"{kind.__name__} {key!r}: {where or 'it'}: {why}") from error
    return value


def to_text(data: object) -> str:
    """Return JSON data as compact text; ValueError when a number is infinite or NaN."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
