"""Strategic merge patch: lists of objects merge by a key, and directives delete and replace."""

from __future__ import annotations

import copy
from typing import Any

from tests.kubernetes.server.errors import Json, bad_request
from tests.kubernetes.server.patch.lists import PRIMITIVE_SETS, strategic_key

_ORDER, _DROP = "$setElementOrder/", "$deleteFromPrimitiveList/"


def strategic(kind: str, target: Json, patch: Json) -> Json:
    """Return ``target``, a built-in ``kind``, with a strategic merge patch laid over it."""
    if "$patch" in patch:
        return _directed(target, patch)
    keep = patch.get("$retainKeys")
    out = dict(target)
    if keep is not None:
        out = {key: value for key, value in out.items() if key in keep}
    for key, value in patch.items():
        if key.startswith("$"):
            _directive(out, key, value)
        elif value is None:
            out.pop(key, None)
        else:
            out[key] = _merged(kind, key, out.get(key), value)
    for key, value in patch.items():
        if key.startswith(_ORDER):
            _reorder(kind, out, key.removeprefix(_ORDER), value)
    return out


def _directed(target: Json, patch: Json) -> Json:
    rest = {key: value for key, value in patch.items() if key != "$patch"}
    match patch["$patch"]:
        case "replace":
            return rest
        case "delete":
            return {}
        case "merge":
            return {**target, **rest}
        case other:
            raise bad_request(f"Unknown patch type found: {other}")


def _directive(out: Json, key: str, value: Any) -> None:
    if key.startswith(_DROP):
        name = key.removeprefix(_DROP)
        out[name] = [one for one in out.get(name) or [] if one not in value]
    elif key != "$retainKeys" and not key.startswith(_ORDER):
        raise bad_request(f"unknown directive in a strategic merge patch: {key}")


def _merged(kind: str, name: str, old: Any, new: Any) -> Any:
    if isinstance(new, dict):
        return strategic(kind, old if isinstance(old, dict) else {}, new)
    if not isinstance(new, list):
        return new
    if name in PRIMITIVE_SETS:
        kept = list(old or [])
        return kept + [one for one in new if one not in kept]
    key = strategic_key(kind, name)
    if key is None or not all(isinstance(one, dict) for one in new):
        return copy.deepcopy(new)
    return _by_key(kind, key, old or [], new)


def _by_key(kind: str, key: str, old: list[Json], new: list[Json]) -> list[Json]:
    if any(one == {"$patch": "replace"} for one in new):
        return [one for one in new if "$patch" not in one]
    out = [dict(one) for one in old]
    for item in new:
        if key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        place = next((i for i, one in enumerate(out) if one.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if place is not None:
                del out[place]
        elif place is None:
            out.append(strategic(kind, {}, item))
        else:
            out[place] = strategic(kind, out[place], item)
    return out


def _reorder(kind: str, out: Json, name: str, order: list[Any]) -> None:
    if name not in out:
        return
    key = strategic_key(kind, name)
    wanted = [one[key] if isinstance(one, dict) and key else one for one in order]

    def place(one: Any) -> int:
        value = one[key] if isinstance(one, dict) and key else one
        return wanted.index(value) if value in wanted else len(wanted)

    out[name] = sorted(out[name], key=place)
