"""The fields of built-in kinds, as kubernetes_asyncio's generated models know them.

The real server refuses a value of another type with 400, and drops fields it does not know (or
refuses them, if the client asks for strict validation).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

import kubernetes_asyncio.client.models as generated
from kubernetes_asyncio.client.configuration import Configuration

from tests.kubernetes.server.errors import Json, bad_request

_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")
_MICRO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)$")
_MICRO_FIELDS = {"acquireTime", "renewTime", "eventTime", "lastObservedTime"}
_LAYOUT = "2006-01-02T15:04:05Z07:00"
_MICRO_LAYOUT = "2006-01-02T15:04:05.000000Z07:00"


@dataclass(frozen=True)
class Field:
    """One field of a model: its JSON name, its type as the generator writes it, if it must be there."""

    name: str
    type: str
    required: bool


@functools.cache
def fields_of(model: str) -> dict[str, Field]:
    """Return the fields of a generated model by their JSON names."""
    cls = getattr(generated, model)
    loose = Configuration()
    loose.client_side_validation = False
    blank = cls(local_vars_configuration=loose)
    loose.client_side_validation = True
    found: dict[str, Field] = {}
    for attribute, name in cls.attribute_map.items():
        try:
            setattr(blank, attribute, None)
            needed = False
        except ValueError:
            needed = True
        found[name] = Field(name, cls.openapi_types[attribute], needed)
    return found


@dataclass
class Shape:
    """What a walk over an object found; ``unknown`` are the paths that were dropped."""

    kind: str
    version: str
    unknown: list[str]

    def refuse(self, why: str) -> Exception:
        return bad_request(
            f'{self.kind} in version "{self.version}" cannot be handled as a {self.kind}: {why}'
        )


def shape(model: str, kind: str, version: str, obj: Json) -> tuple[Json, list[str]]:
    """Return ``obj`` with the fields that its kind has and no null, and the paths of the others.

    Raises:
        StatusError: 400, for a value of another type.

    """
    walk = Shape(kind, version, [])
    return _model(walk, model, obj, ""), walk.unknown


def _model(walk: Shape, model: str, obj: Any, path: str) -> Json:
    if not isinstance(obj, dict):
        raise walk.refuse(_mismatch(obj, path, model))
    known = fields_of(model)
    out: Json = {}
    for name, value in obj.items():
        where = f"{path}.{name}" if path else name
        if name not in known:
            walk.unknown.append(where)
        elif value is not None:
            out[name] = _value(walk, known[name].type, value, where)
    return out


def _value(walk: Shape, kind: str, value: Any, path: str) -> Any:
    if kind.startswith("list["):
        if not isinstance(value, list):
            raise walk.refuse(_mismatch(value, path, f"[]{kind[5:-1]}"))
        return [_value(walk, kind[5:-1], one, f"{path}[{i}]") for i, one in enumerate(value)]
    if kind.startswith("dict("):
        if not isinstance(value, dict):
            raise walk.refuse(_mismatch(value, path, "map[string]string"))
        inner = kind[5:-1].split(",", 1)[1].strip()
        return {k: _value(walk, inner, v, f"{path}.{k}") for k, v in value.items() if v is not None}
    if kind in {"V1JSONSchemaProps", "object"}:
        return value
    if hasattr(generated, kind):
        return _model(walk, kind, value, path)
    return _plain(walk, kind, value, path)


_RESOURCES = {"limits", "requests", "capacity", "allocatable", "hard", "used", "overhead"}


def _plain(walk: Shape, kind: str, value: Any, path: str) -> Any:
    name = path.rsplit(".", 1)[-1]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "str":
            if number and _RESOURCES & set(re.split(r"[.\[]", path)):
                return str(value)
            if not isinstance(value, str):
                raise walk.refuse(_mismatch(value, path, "string"))
        case "int":
            if not number or int(value) != value:
                raise walk.refuse(_mismatch(value, path, "int32"))
            return int(value)
        case "float":
            if not number:
                raise walk.refuse(_mismatch(value, path, "float64"))
        case "bool":
            if not isinstance(value, bool):
                raise walk.refuse(_mismatch(value, path, "bool"))
        case "datetime":
            return _moment(walk, name, value, path)
        case _:
            raise NotImplementedError(f"the model has a type that nobody has met: {kind} at {path}")
    return value


def _moment(walk: Shape, name: str, value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise walk.refuse(_mismatch(value, path, "string"))
    micro = name in _MICRO_FIELDS
    if not (_MICRO if micro else _TIME).match(value):
        layout = _MICRO_LAYOUT if micro else _LAYOUT
        rest, part = (value[19:], ".000000") if micro and _TIME.match(value) else (value, "2006")
        raise walk.refuse(
            f'parsing time "{value}" as "{layout}": cannot parse "{rest}" as "{part}"'
        )
    return value if micro else re.sub(r"\.\d+", "", value).replace("+00:00", "Z")


def _mismatch(value: Any, path: str, wanted: str) -> str:
    match value:
        case bool():
            given = "bool"
        case str():
            given = "string"
        case int() | float():
            given = "number"
        case list():
            given = "array"
        case _:
            given = "object"
    return f"json: cannot unmarshal {given} into Go struct field .{path} of type {wanted}"


_ZERO: dict[str, Any] = {"str": "", "int": 0, "bool": False, "float": 0}


def fill(model: str, obj: Json) -> None:
    """Give what must be there and is not its zero, as the server's own types print it."""
    for one in fields_of(model).values():
        if one.name in obj:
            _fill_below(one.type, obj[one.name])
        elif one.required and one.type in _ZERO:
            obj[one.name] = _ZERO[one.type]


def _fill_below(kind: str, value: Any) -> None:
    if kind.startswith("list[") and isinstance(value, list):
        for each in value:
            _fill_below(kind[5:-1], each)
    elif hasattr(generated, kind) and isinstance(value, dict):
        fill(kind, value)
