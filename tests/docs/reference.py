"""The field tables of docs/{service,agent,coordinator,fleet,kubernetes-options}.md, from the models.

``python -m tests.docs.reference`` (with the sources on the path) writes them; a test checks that what
stands there is what the models say.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from heteroscale.documents import format_duration
from heteroscale_agent.config import AgentSpec
from heteroscale_coordinator.config import CoordinatorSpec
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_scheduler_adapters.kubernetes.settings import KubernetesSettings
from heteroscale_simulator.fleet import FleetSpec

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES: dict[str, type[BaseModel]] = {
    "service.md": ServiceSpec,
    "agent.md": AgentSpec,
    "coordinator.md": CoordinatorSpec,
    "fleet.md": FleetSpec,
    "kubernetes-options.md": KubernetesSettings,
}
ROOTS: dict[type[BaseModel], str] = {KubernetesSettings: "options"}
"""Where a model stands; `spec` for those that are none of these."""
BEGIN, END = "<!-- fields: begin -->", "<!-- fields: end -->"
DURATION = ["string", "number"]
WHOLE = "^[1-9][0-9]*$"
"""What a schema says of keys that are whole numbers."""
GENERIC = "A duration such as 300s, 1m30s or 250ms; a plain number is seconds."
"""What the schema says of a duration that has no words of its own."""


def render(model: type[BaseModel]) -> str:
    """Return a table for each part of a document, as Markdown."""
    schema = model.model_json_schema(by_alias=True)
    parts = {"": schema, **schema.get("$defs", {})}
    titles = _titles(schema, parts, ROOTS.get(model, "spec"))
    return "\n".join(_part(parts[name], title, titles) for name, title in titles.items())


def _titles(schema: dict[str, Any], parts: dict[str, Any], root: str) -> dict[str, str]:
    """Return the path under which each model is reached, in the order of the fields."""
    titles = {"": root}

    def visit(path: str, part: dict[str, Any]) -> None:
        for name, field in part.get("properties", {}).items():
            for reference, below in _references(field, f"{path}.{name}"):
                if reference not in titles and parts[reference].get("properties"):
                    titles[reference] = below
                    visit(below, parts[reference])

    visit(root, schema)
    return titles


def _references(field: dict[str, Any], path: str) -> list[tuple[str, str]]:
    if "$ref" in field:
        return [(field["$ref"].rpartition("/")[2], path)]
    found = []
    for one in (*field.get("anyOf", ()), *field.get("allOf", ())):
        found += _references(one, path)
    if field.get("type") == "object":
        found += _references(_values(field), f"{path}.NAME")
    if isinstance(items := field.get("items"), dict):
        found += _references(items, f"{path}[]")
    return found


def _values(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a map's values."""
    patterns = list(field.get("patternProperties", {}).values())
    values = patterns[0] if patterns else field["additionalProperties"]
    return values if isinstance(values, dict) else {}  # true: anything


def _part(part: dict[str, Any], title: str, titles: dict[str, str]) -> str:
    required = part.get("required", [])
    rows = [
        f"| `{name}` | {_kind(field, titles)} | {_default(name, field, required)} "
        f"| {_meaning(field, titles)} |"
        for name, field in part["properties"].items()
    ]
    about = inspect.cleandoc(part.get("description", "")).replace("\n", " ").replace("  ", "\n\n")
    head = ["| field | value | default | meaning |", "|---|---|---|---|"]
    return "\n".join([f"### `{title}`", "", about, "", *head, *rows, ""])


def _kind(field: dict[str, Any], titles: dict[str, str]) -> str:  # noqa: PLR0911
    """Return what a value looks like, in a few words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"`{titles[name]}`" if name in titles else "a role"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`" if field["const"] else "empty"
    if "anyOf" in field:
        kinds = [_kind(one, titles) for one in field["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if field.get("type") == DURATION:
        return "duration"
    if field.get("type") == "array":
        return f"list of {_kind(field['items'], titles)}"
    if field.get("type") == "object":
        key = "whole number" if WHOLE in field.get("patternProperties", {}) else "name"
        return f"map of {key} to {_kind(_values(field), titles)}"
    words = {"integer": "whole number", "boolean": "true or false", "string": "text"}
    word = str(field.get("format") or field.get("type", "anything"))
    return words.get(word, word) + _limits(field)


def _limits(field: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field]
    return f" {', '.join(limits)}" if limits else ""


def _default(name: str, field: dict[str, Any], required: list[str]) -> str:
    if name in required:
        return "**required**"
    value = field.get("default")
    if value in (None, "", [], {}) or isinstance(value, dict):
        return "–"
    if _kind(field, {}) == "duration" and not isinstance(value, str):
        value = format_duration(value)
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _meaning(field: dict[str, Any], titles: dict[str, str]) -> str:
    text = field.get("description") or ""
    if not text or text == GENERIC:
        found = [titles[one] for one, _ in _references(field, "") if one in titles]
        text = f"See `{found[0]}` below." if found else ""
    return inspect.cleandoc(text).replace("\n", " ").replace("|", "\\|")


def standing(page: str) -> str:
    """Return the tables that stand in a page."""
    return (DOCS / page).read_text().partition(BEGIN)[2].partition(END)[0].strip("\n") + "\n"


def drawn(page: str) -> str:
    """Return the tables as the models draw them."""
    return render(PAGES[page]).strip("\n") + "\n"


def write() -> None:
    """Put the tables into the pages."""
    for page in PAGES:
        head, _, rest = (DOCS / page).read_text().partition(BEGIN)
        (DOCS / page).write_text(f"{head}{BEGIN}\n\n{drawn(page)}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    write()
