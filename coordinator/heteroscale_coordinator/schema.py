"""``heteroscale schema``: the JSON Schema of what people write, for editors and pipelines.

Kinds of other packages come in by the entry point group ``heteroscale.documents``: a name, and the
model of a whole document.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from heteroscale.documents import DocumentModel, Duration, format_duration
from heteroscale_coordinator.config import CoordinatorDocument
from heteroscale_coordinator.core.spec import ServiceDocument
from heteroscale_coordinator.edge.crd.definition import manifest

KINDS: dict[str, type[DocumentModel]] = {
    "Service": ServiceDocument,
    "Coordinator": CoordinatorDocument,
}
"""Our own."""
GROUP = "heteroscale.documents"
_DURATION = TypeAdapter(Duration).json_schema()["pattern"]
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def kinds() -> list[str]:
    """Return the names of all kinds there are, our own first."""
    return [*KINDS, *sorted({point.name for point in entry_points(group=GROUP)} - KINDS.keys())]


def model_of(kind: str) -> type[DocumentModel]:
    """Return the model of documents of ``kind``.

    Raises:
        KeyError: there is no such kind.
        ImportError: its package is not installed with all that it needs.

    """
    if kind in KINDS:
        return KINDS[kind]
    point = next((one for one in entry_points(group=GROUP) if one.name == kind), None)
    if point is None:
        raise KeyError(kind)
    model: type[DocumentModel] = point.load()
    return model


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of documents of ``kind``; errors as ``model_of``."""
    body = model_of(kind).model_json_schema(by_alias=True, mode="validation")
    for part in (body, *body.get("$defs", {}).values()):
        for field in part.get("properties", {}).values():
            _say_duration(field)
    return {"$schema": _DIALECT, **body, "title": f"HeteroScale {kind}"}


def _say_duration(field: dict[str, Any]) -> None:
    """Write the default of a duration as people do: 3m, not 180.0."""
    forms = (field, *field.get("anyOf", ()))
    if isinstance(field.get("default"), float) and any(
        f.get("pattern") == _DURATION for f in forms
    ):
        field["default"] = format_duration(field["default"])


def run(argv: Sequence[str]) -> int:
    """Print a schema or write it to a file. Returns the exit code: 1 when it cannot be written."""
    parser = argparse.ArgumentParser(
        prog="heteroscale schema",
        description="Print the JSON Schema of the documents people write.",
        epilog="In an editor with the YAML language server, begin a file with "
        "`# yaml-language-server: $schema=FILE`.",
    )
    parser.add_argument(
        "kind", nargs="?", choices=kinds(), default="Service", help="default Service"
    )
    parser.add_argument(
        "--crd",
        action="store_true",
        help="the CustomResourceDefinition of kind Service, for kubectl apply",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there instead")
    options = parser.parse_args(argv)
    if options.crd:
        if options.kind != "Service":
            parser.error(f"--crd is for kind Service; {options.kind} is no object of Kubernetes")
        return _write(manifest(schema_of("Service")), options.out)
    try:
        schema = schema_of(options.kind)
    except ImportError as error:
        sys.stderr.write(f"error: {options.kind} needs {error.name or error}: install its extra\n")
        return 1
    return _write(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", options.out)


def _write(text: str, out: Path | None) -> int:
    if out is None:
        sys.stdout.write(text)
        return 0
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"error: {out}: {error.strerror}\n")
        return 1
    return 0
