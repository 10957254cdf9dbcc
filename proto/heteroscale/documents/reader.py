"""Reads YAML and remembers the line of every field, so that a complaint can point at it.

PyYAML's composer gives nodes with marks; pydantic gives the path of each violation. This room joins
the two. Duplicate keys, which YAML libraries silently accept, are violations here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from heteroscale.documents.loader import MAX_DEPTH, TAG, Loader

_M = TypeVar("_M", bound=BaseModel)
Path = tuple[str | int, ...]
MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_FIELDS = 50_000
MAX_SHOWN = 80


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
        """Return one violation for each field: what the members of a union say of it is joined."""
        known = _known_keys(model)
        found: dict[Path, list[str]] = {}
        # Where a complaint further in says more: a union's member, a list of which all is wrong.
        members: set[Path] = set()
        for detail in error.errors(include_url=False):
            below, member = self._place(at, detail)
            found.setdefault((*at, *below), []).append(_message(detail, known))
            if member or detail["type"] == "too_short":
                members.add((*at, *below))
        if (kind := (*at, "kind")) in found and "kind" in self.data and not at:
            # A document of another kind: what else is wrong with it says nothing.
            found = {kind: found[kind]}
        for path, messages in found.items():
            # The member of a union that was meant is the one that complains of a field further in.
            if path in members and any(
                len(p) > len(path) and p[: len(path)] == path for p in found
            ):
                continue
            yield self.violation(path, "; or ".join(dict.fromkeys(messages)))

    def _place(self, at: Path, detail: ErrorDetails) -> tuple[Path, bool]:
        """Return the field's path as the text has it, and whether a union's member was left out.

        pydantic puts names of union members and validators among the keys; what the data does not
        have at that point is such a name, but for the last part of a field that is missing.
        """
        here: Any = self.data
        for key in at:
            here = here[key]
        path: list[str | int] = []
        for part in detail["loc"]:
            if isinstance(here, dict) and part in here:
                path.append(str(part))
                here = here[part]
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                path.append(part)
                here = here[part]
        if detail["type"] == "missing":
            return (*path, detail["loc"][-1]), False
        return tuple(path), len(path) < len(detail["loc"])


def _message(detail: ErrorDetails, known: Sequence[str]) -> str:
    """Return what is wrong in words, with what was given."""
    if detail["type"] == "extra_forbidden":
        close = get_close_matches(str(detail["loc"][-1]), known, n=1)
        return "unknown field" + (f"; did you mean `{close[0]}`?" if close else "")
    if detail["type"] == "missing":
        return "is missing"
    if detail["type"] == "too_short":
        least = detail.get("ctx", {}).get("min_length", 1)
        return f"has too few entries: at least {least} wanted"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["input"] is None or isinstance(detail["input"], str | int | float):
        given = repr(detail["input"])
        message += f" (got {given if len(given) <= MAX_SHOWN else given[:MAX_SHOWN] + '…'})"
    return message


def _known_keys(model: type[BaseModel]) -> list[str]:
    """Return every property name in the model's JSON schema, nested ones included."""
    schema = model.model_json_schema(by_alias=True)
    parts = [schema, *schema.get("$defs", {}).values()]
    return sorted({name for part in parts for name in part.get("properties", {})})


def read_file(path: FilePath) -> list[Document]:
    """Read every non-empty YAML document of a file.

    Raises:
        DocumentError: as `read_documents`, or the file is no UTF-8 text.
        OSError: the file cannot be read.

    """
    with path.open("rb") as stream:
        data = stream.read(MAX_DOCUMENT_BYTES + 1)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if len(data) <= MAX_DOCUMENT_BYTES:
            line = data.count(b"\n", 0, error.start) + 1
            raise DocumentError([Violation(str(path), line, "", "is no UTF-8 text")]) from error
        text = data.decode(errors="replace")  # cut in the midst of a character: too long anyway
    return read_documents(text, str(path))


def read_one(path: FilePath, kind: str) -> Document:
    """Read the one document of a file, of kind ``kind``: a process's own settings.

    Raises:
        DocumentError: as `read_file`, or there is not exactly one document.
        OSError: the file cannot be read.

    """
    documents = read_file(path)
    if len(documents) != 1:
        text = f"one document of kind {kind} is wanted, {len(documents)} are here"
        raise DocumentError([Violation(str(path), 1, "", text)])
    return documents[0]


def read_documents(text: str, file: str = "<input>") -> list[Document]:
    """Read every non-empty YAML document of ``text``.

    Raises:
        DocumentError: not YAML, too long, a document that is no mapping, or a key given twice.

    """
    if len(text.encode(errors="surrogatepass")) > MAX_DOCUMENT_BYTES:
        raise DocumentError([Violation(file, 1, "", f"longer than {MAX_DOCUMENT_BYTES} bytes")])
    try:
        nodes = list(yaml.compose_all(text, Loader))
    except yaml.YAMLError as error:
        raise _not_yaml(error, file, 1) from error
    return [
        _document(node, file) for node in nodes if node is not None and node.tag != TAG + "null"
    ]


def _not_yaml(error: yaml.YAMLError, file: str, line: int) -> DocumentError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return DocumentError(
        [Violation(file, mark.line + 1 if mark else line, "", f"not YAML: {problem}")]
    )


def _document(node: yaml.Node, file: str) -> Document:
    start = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        raise DocumentError([Violation(file, start, "", "a document is a mapping of fields")])
    lines: dict[Path, int] = {(): start}
    wrong: list[Violation] = []
    _walk(node, (), lines, wrong, file)
    if wrong:
        raise DocumentError(wrong)
    try:
        data = Loader("").construct_document(node)
    except yaml.YAMLError as error:
        raise _not_yaml(error, file, start) from error
    return Document(file, data, lines)


def _walk(
    node: yaml.Node, path: Path, lines: dict[Path, int], wrong: list[Violation], file: str
) -> None:
    line = node.start_mark.line + 1
    if len(path) > MAX_DEPTH or len(lines) > MAX_FIELDS:  # aliases can make a small text endless
        raise DocumentError([Violation(file, line, "", "nested too deep, or too many fields")])
    if isinstance(node, yaml.MappingNode) and node.tag == TAG + "map":
        for key, value in node.value:
            name = str(key.value)
            below = (*path, name)
            if below in lines:
                where = ".".join(map(str, below))
                wrong.append(Violation(file, key.start_mark.line + 1, where, "is given twice"))
            lines[below] = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or not _fits(key):
                wrong.append(Violation(file, key.start_mark.line + 1, "", "a key is plain text"))
            _walk(value, below, lines, wrong, file)
    elif isinstance(node, yaml.SequenceNode) and node.tag == TAG + "seq":
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _walk(item, (*path, index), lines, wrong, file)
    elif not isinstance(node, yaml.ScalarNode) or not _fits(node):
        where = ".".join(map(str, path))
        tag = node.tag.removeprefix(TAG)
        wrong.append(Violation(file, line, where, f"tag !!{tag} does not fit, or is not used here"))


def _fits(node: yaml.ScalarNode) -> bool:
    """Return whether a scalar is text, or would be read as what its tag says without the tag."""
    return node.tag in (TAG + "str", Loader("").tag_of(node.value))
