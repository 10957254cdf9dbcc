"""JSON patch (RFC 6902) and merge patch (RFC 7386), with the real server's refusals."""

from __future__ import annotations

import copy
from typing import Any

from tests.kubernetes.server.errors import StatusError, bad_request


def merge(target: Any, patch: Any) -> Any:
    """Return ``target`` with a merge patch laid over it; null removes."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), value)
    return out


def _failed(why: str) -> StatusError:
    return StatusError(
        422, f"the server rejected our request due to an error in our request: {why}"
    )


def _steps(pointer: str) -> list[str]:
    if pointer and not pointer.startswith("/"):
        raise bad_request(f'jsonpatch path "{pointer}" does not begin with /')
    return [s.replace("~1", "/").replace("~0", "~") for s in pointer.split("/")[1:]]


def _index(holder: list[Any], step: str, *, grow: bool = False) -> int:
    if step == "-" and grow:
        return len(holder)
    if not step.isdigit() or int(step) > len(holder) - (0 if grow else 1):
        raise _failed(f"invalid index referenced: {step}")
    return int(step)


def _find(value: Any, steps: list[str], path: str) -> Any:
    for step in steps:
        if isinstance(value, list):
            value = value[_index(value, step)]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            raise _failed(f"unable to find path {path}: missing value")
    return value


def _add(holder: Any, step: str, value: Any, path: str) -> None:
    if isinstance(holder, list):
        holder.insert(_index(holder, step, grow=True), value)
    elif isinstance(holder, dict):
        holder[step] = value
    else:
        raise _failed(f"unable to add at {path}: not a container")


def _remove(holder: Any, step: str, path: str) -> Any:
    if isinstance(holder, list):
        return holder.pop(_index(holder, step))
    if isinstance(holder, dict) and step in holder:
        return holder.pop(step)
    raise _failed(f"unable to remove nonexistent key: {path}: missing value")


def _one(document: Any, operation: dict[str, Any]) -> None:
    kind, path = operation.get("op"), str(operation.get("path", ""))
    *above, last = _steps(path) or [""]
    holder = _find(document, above, path)
    match kind:
        case "add":
            _add(holder, last, copy.deepcopy(operation["value"]), path)
        case "remove":
            _remove(holder, last, path)
        case "replace":
            _find(holder, [last], path)
            holder[_index(holder, last) if isinstance(holder, list) else last] = operation["value"]
        case "test":
            if _find(holder, [last], path) != operation.get("value"):
                raise _failed(f"testing value {path} failed")
        case "move" | "copy":
            source = str(operation["from"])
            *before, end = _steps(source)
            origin = _find(document, before, source)
            value = copy.deepcopy(_find(origin, [end], source))
            if kind == "move":
                _remove(origin, end, source)
            _add(holder, last, value, path)
        case _:
            raise bad_request(f"unknown operation {kind!r} in a JSON patch")


def json_patch(document: Any, operations: Any) -> Any:
    """Return ``document`` after all ``operations``.

    Raises:
        StatusError: 400 for what is no patch, 422 for one that cannot be done or whose test fails.

    """
    if not isinstance(operations, list):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal object into jsonpatch.Patch"
        )
    out = copy.deepcopy(document)
    for operation in operations:
        _one(out, operation)
    return out
