"""Objects as sets of fields, the way ``managedFields`` names them: who owns what, down to the leaf."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.server.errors import Json
from tests.kubernetes.server.kinds import Kind
from tests.kubernetes.server.patch.lists import (
    ATOMIC_MAPS,
    DEFAULT_KEYS,
    PRIMITIVE_SETS,
    apply_keys,
)

Path = tuple[str, ...]
"""Steps as FieldsV1 has them: ``f:spec``, ``k:{"name":"main"}``, ``v:"x"``; ``.`` is an item itself."""

IGNORED = {
    ("f:apiVersion",),
    ("f:kind",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            "name", "namespace", "uid", "creationTimestamp", "selfLink", "resourceVersion", "generation",
            "managedFields", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName",
        )
    ),
}  # fmt: skip
META_SCHEMA: Json = {"x-own": True}


@dataclass(frozen=True)
class Shape:
    """How one value merges: by its schema (custom) or by its name (built in)."""

    kind: str
    name: str = ""
    schema: Json | None = None
    """None: a built-in kind."""

    def below(self, key: str) -> Shape:
        """Return the shape of a field."""
        if self.schema is None or (not self.name and key == "metadata"):
            return Shape(self.kind, key)
        known = (self.schema.get("properties") or {}).get(key)
        inner = known if known is not None else self.schema.get("additionalProperties")
        return Shape(self.kind, key, inner if isinstance(inner, dict) else {})

    def item(self) -> Shape:
        """Return the shape of an item of a list."""
        if self.schema is None:
            return Shape(self.kind, f"{self.name}[]")
        return Shape(self.kind, f"{self.name}[]", self.schema.get("items") or {})

    def atomic_map(self) -> bool:
        if self.schema is None:
            return self.name in ATOMIC_MAPS
        return self.schema.get("x-kubernetes-map-type") == "atomic"

    def keys(self) -> tuple[str, ...] | None:
        """Return by which keys items are told apart; None: they are not."""
        if self.schema is None:
            return apply_keys(self.kind, self.name)
        if self.schema.get("x-kubernetes-list-type") == "map":
            return tuple(self.schema["x-kubernetes-list-map-keys"])
        return None

    def is_set(self) -> bool:
        if self.schema is None:
            return self.name in PRIMITIVE_SETS
        return self.schema.get("x-kubernetes-list-type") == "set"


def shape_of(kind: Kind) -> Shape:
    return Shape(kind.kind, "", kind.schema if kind.custom else None)


def key_step(item: Json, keys: tuple[str, ...]) -> str:
    """Return the step of an item of a list that is merged by keys."""
    said = {key: item.get(key, DEFAULT_KEYS.get(key)) for key in sorted(keys)}
    said = {key: value for key, value in said.items() if value is not None}
    return "k:" + json.dumps(said, separators=(",", ":"))


def value_step(value: Any) -> str:
    return "v:" + json.dumps(value, separators=(",", ":"))


def leaves(kind: Kind, obj: Json) -> dict[Path, Any]:
    """Return the fields of an object that can be owned, with their values."""
    return {
        path: value
        for path, value in _walk(shape_of(kind), obj, ())
        if not any(path[: len(one)] == one for one in IGNORED)
    }


def _walk(shape: Shape, value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and not shape.atomic_map():
        for key, each in value.items():
            yield from _walk(shape.below(key), each, (*path, f"f:{key}"))
    elif isinstance(value, list) and value and shape.is_set():
        for each in value:
            yield (*path, value_step(each)), each
    elif isinstance(value, list) and value and (keys := shape.keys()):
        for each in value:
            at = (*path, key_step(each, keys))
            yield (*at, "."), None
            yield from _walk(shape.item(), each, at)
    else:
        yield path, value


def merged(shape: Shape, live: Any, applied: Any) -> Any:
    """Return ``live`` with ``applied`` laid over it."""
    if isinstance(applied, dict) and isinstance(live, dict) and not shape.atomic_map():
        out = dict(live)
        for key, each in applied.items():
            out[key] = merged(shape.below(key), live.get(key), each)
        return out
    if isinstance(applied, list) and isinstance(live, list):
        if shape.is_set():
            return live + [one for one in applied if one not in live]
        if keys := shape.keys():
            return _merged_items(shape.item(), keys, live, applied)
    return applied


def _merged_items(
    shape: Shape, keys: tuple[str, ...], live: list[Json], applied: list[Json]
) -> list[Json]:
    out = list(live)
    places = {key_step(one, keys): i for i, one in enumerate(out)}
    for one in applied:
        step = key_step(one, keys)
        if step in places:
            out[places[step]] = merged(shape, out[places[step]], one)
        else:
            out.append(one)
    return out


def remove(shape: Shape, value: Any, path: Path) -> None:
    """Remove one field from an object, in place; one that is not there is left so."""
    step, rest = path[0], path[1:]
    if step.startswith("f:") and isinstance(value, dict):
        key = step[2:]
        if not rest:
            value.pop(key, None)
        elif key in value:
            remove(shape.below(key), value[key], rest)
    elif step.startswith("v:") and isinstance(value, list):
        value[:] = [one for one in value if value_step(one) != step]
    elif step.startswith("k:") and isinstance(value, list):
        keys = shape.keys() or ()
        for one in [one for one in value if key_step(one, keys) == step]:
            if rest == (".",):
                value.remove(one)
            else:
                remove(shape.item(), one, rest)


def encode(paths: set[Path]) -> Json:
    """Return a set of fields as FieldsV1."""
    tree: Json = {}
    for path in sorted(paths):
        place = tree
        for step in path:
            place = place.setdefault(step, {})
    return tree


def decode(tree: Json, path: Path = ()) -> set[Path]:
    """Return the set of fields that FieldsV1 means."""
    if not tree:
        return {path} if path else set()
    found: set[Path] = set()
    for step, below in tree.items():
        found |= decode(below, (*path, step))
    return found


def spoken(path: Path) -> str:
    """Return a path as messages print it: ``.spec.containers[name="main"].image``."""
    said = ""
    for step in path:
        if step.startswith("f:"):
            said += f".{step[2:]}"
        elif step.startswith("k:"):
            pairs = json.loads(step[2:]).items()
            said += "[" + ",".join(f"{k}={json.dumps(v)}" for k, v in pairs) + "]"
        elif step.startswith("v:"):
            said += f"[={step[2:]}]"
    return said
