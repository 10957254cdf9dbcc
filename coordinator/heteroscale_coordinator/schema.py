"""``heteroscale schema``: the JSON Schema of what people write, for editors and pipelines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from heteroscale.documents import DocumentModel, Duration, format_duration
from heteroscale_coordinator.config import CoordinatorDocument
from heteroscale_coordinator.core.spec import ServiceDocument

KINDS: dict[str, type[DocumentModel]] = {
    "Service": ServiceDocument,
    "Coordinator": CoordinatorDocument,
}
_DURATION = TypeAdapter(Duration).json_schema()["pattern"]
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of documents of ``kind``; KeyError when there is no such kind."""
    body = KINDS[kind].model_json_schema(by_alias=True, mode="validation")
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
    parser.add_argument("kind", nargs="?", choices=KINDS, default="Service", help="default Service")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there instead")
    options = parser.parse_args(argv)
    text = json.dumps(schema_of(options.kind), indent=2, ensure_ascii=False) + "\n"
    if options.out is None:
        sys.stdout.write(text)
        return 0
    try:
        options.out.write_text(text, encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"error: {options.out}: {error.strerror}\n")
        return 1
    return 0
