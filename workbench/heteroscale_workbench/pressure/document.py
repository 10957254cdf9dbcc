"""Writes what was found into the service file, and leaves every other character of it as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from heteroscale.words import Role
from heteroscale_workbench.pressure.values import PressureError

BY_PROMPT = "targetByPrompt"
REMARK = "  # profile: "
"""How a remark of ours begins."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a pressure test found."""

    ratio: str
    """As ``spec.ratio`` is written: 9:7, or {min: 0.9, max: 2}."""
    targets: Mapping[Role, Mapping[str, float]]
    """Tokens/s of an instance by GPU type; the empty type is any."""
    factors: Mapping[Role, Mapping[int, float]] = field(default_factory=dict)
    """On the targets, by mean prompt tokens; a role without any has one target at every length."""
    remark: str = ""
    """What a reader of the file should know of the targets; written behind the ratio."""


def write_found(path: Path, service: str, found: Found) -> None:
    """Set ratio and targets of ``service`` in the file, all or nothing.

    Raises:
        PressureError: the file cannot be read or written, or has no such service.

    """
    try:
        new = with_found(path.read_text("utf-8"), service, found)
        part = path.with_name(f".{path.name}.new")
        part.write_text(new, "utf-8")
        os.replace(part, path)  # noqa: PTH105 - one step, nothing half-written
    except OSError as error:
        raise PressureError(f"{path}: {error.strerror}") from error


def with_found(text: str, service: str, found: Found) -> str:
    """Return a file's text with what was found. PressureError: it has no such service."""
    for role, targets in found.targets.items():
        here = ("spec", "roles", role.value)
        text = _set(text, service, (*here, "target"), _written(targets))
        points = found.factors.get(role, {})
        if points or _has(text, service, (*here, BY_PROMPT)):
            text = _set(text, service, (*here, BY_PROMPT), _by_prompt(points))
    text = _set(text, service, ("spec", "ratio"), found.ratio)
    return _remarked(text, service, found.remark)


def _written(targets: Mapping[str, float]) -> str:
    if set(targets) == {""}:
        return rounded(targets[""])
    return "{" + ", ".join(f"{gpu}: {rounded(value)}" for gpu, value in targets.items()) + "}"


def _by_prompt(points: Mapping[int, float]) -> str:
    words = (f"{prompt}: {rounded(factor)}" for prompt, factor in sorted(points.items()))
    return "{" + ", ".join(words) + "}"


def rounded(value: float) -> str:
    """Return three significant digits: more were not measured."""
    short = float(f"{value:.3g}")
    return str(int(short)) if short.is_integer() else str(short)


# ---- one value of a YAML text ------------------------------------------------------------------


def _set(text: str, service: str, path: tuple[str, ...], value: str) -> str:
    """Return the text with the value at ``path`` replaced, or put in where it was left out."""
    parent = _document(text, service)
    for name in path[:-1]:
        parent = _mapping(dict(_entries(parent))[name], name)
    for key, node in parent.value:
        if key.value == path[-1]:
            return f"{text[: key.end_mark.index]}: {value}{text[_end(node) :]}"
    return _put(text, parent, f"{path[-1]}: {value}")


def _remarked(text: str, service: str, remark: str) -> str:
    """Return the text with our remark behind the ratio, and without the one of an earlier test."""
    spec = _mapping(dict(_entries(_document(text, service)))["spec"], "spec")
    ratio = next(value for key, value in spec.value if key.value == "ratio")
    end = _end(ratio)
    line, _, _ = text[end:].partition("\n")
    rest = line.partition(REMARK)[0].rstrip() if REMARK in line else line
    ours = f"{REMARK}{remark}" if remark and not spec.flow_style and not rest.strip() else ""
    return f"{text[:end]}{rest}{ours}{text[end + len(line) :]}"


def _document(text: str, service: str) -> yaml.MappingNode:
    for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
        plain = dict(_entries(node)) if isinstance(node, yaml.MappingNode) else {}
        kind, metadata = plain.get("kind"), plain.get("metadata")
        if kind is None or kind.value != "Service" or metadata is None:
            continue
        name = dict(_entries(_mapping(metadata, "metadata"))).get("name")
        if name is not None and name.value == service:
            return _mapping(node, "the document")
    raise PressureError(f"no service {service!r} in the file any more")


def _entries(node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
    return ((key.value, value) for key, value in node.value)


def _mapping(node: yaml.Node, name: str) -> yaml.MappingNode:
    if not isinstance(node, yaml.MappingNode):
        raise PressureError(f"{name} is no mapping in the file any more")
    return node


def _end(node: yaml.Node) -> int:
    """Return where a node's own text ends; a block's mark stands behind the comments after it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _has(text: str, service: str, path: tuple[str, ...]) -> bool:
    """Return whether there is a value at ``path``."""
    parent = _document(text, service)
    for name in path[:-1]:
        parent = _mapping(dict(_entries(parent))[name], name)
    return path[-1] in dict(_entries(parent))


def _put(text: str, parent: yaml.MappingNode, entry: str) -> str:
    """Return the text with an entry at the head of a mapping (which has one at least)."""
    first = parent.value[0][0].start_mark
    between = ", " if parent.flow_style else "\n" + " " * first.column
    return f"{text[: first.index]}{entry}{between}{text[first.index :]}"
