"""Reads YAML and remembers the line of every field, so that a complaint can point at it.

PyYAML's composer gives nodes with marks; pydantic gives the path of each violation. This room joins
the two. Duplicate keys, which YAML libraries silently accept, are violations here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

_M = TypeVar("_M", bound=BaseModel)
Path = tuple[str | int, ...]
MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_FIELDS = 50_000
MAX_DEPTH = 40


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong: where, and what would be right."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}"
        return (
            f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"
        )


class DocumentError(ValueError):
    """A document was refused; ``violations`` says all that is wrong with it, not the first only."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("\n".join(str(violation) for violation in violations))
        self.violations = tuple(violations)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its plain data, and the line on which each path begins."""

    file: str
    data: dict[str, Any]
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """Return the line of ``path``, or of its nearest ancestor that the text has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def violation(self, path: Path, message: str) -> Violation:
        """Return a violation at ``path``."""
        return Violation(self.file, self.line(path), ".".join(map(str, path)), message)

    def parse(self, model: type[_M], *, at: Path = ()) -> _M:
        """Validate the part of the document at path ``at``.

        Raises:
            DocumentError: with one violation for each of pydantic's, at its line.

        """
        data: Any = self.data
        for key in at:
            data = data.get(key) if isinstance(data, dict) else None
        if data is None:
            raise DocumentError([self.violation(at, "is missing")])
        try:
            return model.model_validate(data)
        except ValidationError as error:
            raise DocumentError(list(self._violations(error, model, at))) from error

    def _violations(
        self, error: ValidationError, model: type[BaseModel], at: Path
    ) -> Iterator[Violation]:
        known = _known_keys(model)
        for detail in error.errors(include_url=False):
            path = (*at, *(part for part in detail["loc"] if self._is_key(part)))
            message = detail["msg"].removeprefix("Value error, ")
            if detail["type"] == "extra_forbidden":
                close = get_close_matches(str(path[-1]), known, n=1)
                message = "unknown field" + (f"; did you mean `{close[0]}`?" if close else "")
            elif detail["type"] == "missing":
                message = "is missing"
            elif detail["input"] is None or isinstance(detail["input"], str | int | float):
                message += f" (got {detail['input']!r})"
            yield self.violation(path, message)

    @staticmethod
    def _is_key(part: str | int) -> bool:
        # pydantic puts names of union members and validators into the path; they are no fields.
        return isinstance(part, int) or (
            "[" not in part and "-" not in part[:1] and "(" not in part
        )


def _known_keys(model: type[BaseModel]) -> list[str]:
    """Return every property name in the model's JSON schema, nested ones included."""
    schema = model.model_json_schema(by_alias=True)
    parts = [schema, *schema.get("$defs", {}).values()]
    return sorted({name for part in parts for name in part.get("properties", {})})


def read_documents(text: str, file: str = "<input>") -> list[Document]:
    """Read every non-empty YAML document of ``text``.

    Raises:
        DocumentError: not YAML, too long, a document that is no mapping, or a key given twice.

    """
    if len(text.encode()) > MAX_DOCUMENT_BYTES:
        raise DocumentError([Violation(file, 1, "", f"longer than {MAX_DOCUMENT_BYTES} bytes")])
    try:
        nodes = [node for node in yaml.compose_all(text, yaml.SafeLoader) if node is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        line = mark.line + 1 if mark else 1
        raise DocumentError([Violation(file, line, "", f"not YAML: {problem}")]) from error
    return [_document(node, file) for node in nodes]


def _document(node: yaml.Node, file: str) -> Document:
    start = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        raise DocumentError([Violation(file, start, "", "a document is a mapping of fields")])
    lines: dict[Path, int] = {(): start}
    doubles: list[Violation] = []
    _walk(node, (), lines, doubles, file)
    if doubles:
        raise DocumentError(doubles)
    try:
        data = yaml.SafeLoader("").construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else start
        problem = getattr(error, "problem", None) or str(error)
        raise DocumentError([Violation(file, line, "", f"not YAML: {problem}")]) from error
    return Document(file, data, lines)


def _walk(
    node: yaml.Node, path: Path, lines: dict[Path, int], doubles: list[Violation], file: str
) -> None:
    if len(path) > MAX_DEPTH or len(lines) > MAX_FIELDS:  # aliases can make a small text endless
        line = node.start_mark.line + 1
        raise DocumentError([Violation(file, line, "", "nested too deep, or too many fields")])
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = str(key.value)
            below = (*path, name)
            if below in lines:
                where = ".".join(map(str, below))
                doubles.append(Violation(file, key.start_mark.line + 1, where, "is given twice"))
            lines[below] = key.start_mark.line + 1
            _walk(value, below, lines, doubles, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _walk(item, (*path, index), lines, doubles, file)
