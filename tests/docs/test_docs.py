"""Tables, examples, links and folders: what is written down is held against the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from heteroscale.documents import read_documents, read_file
from heteroscale.words import InstanceState, WithdrawReason
from heteroscale_agent.config import AgentDocument, AgentSpec
from heteroscale_agent.leases import complaint
from heteroscale_cli.handover import DESCRIPTIONS, OWN_COMMANDS
from heteroscale_coordinator.config import CoordinatorDocument
from heteroscale_coordinator.core.model import Verb
from heteroscale_coordinator.core.spec import GateSpec, ServiceDocument
from heteroscale_coordinator.edge.adapters.settings import AdapterSettings
from heteroscale_coordinator.edge.prometheus.spec import SignalsDocument
from heteroscale_scheduler_adapters.kubernetes.settings import read_settings
from heteroscale_scheduler_adapters.slurm.settings import options_of
from heteroscale_simulator.fleet import FleetDocument
from tests.docs import reference

ROOT = reference.DOCS.parent
KINDS: dict[str, type[BaseModel]] = {
    "Agent": AgentDocument,
    "Service": ServiceDocument,
    "Coordinator": CoordinatorDocument,
    "Fleet": FleetDocument,
    "Signals": SignalsDocument,
}
FOLDERS = (
    *("proto", "agent", "coordinator", "scheduler_adapters", "simulator"),
    *("advisor", "workbench", "cli", "tests", "examples"),
)


def pages() -> list[Path]:
    """Return every Markdown file of ours."""
    tops = [ROOT / name for name in (*FOLDERS, "benchmarks", "docs", "deploy")]
    nested = [path for top in tops for path in top.rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *nested])


@pytest.mark.parametrize("page", reference.PAGES)
def test_the_tables_stand_as_the_models_draw_them(page: str) -> None:
    assert reference.standing(page) == reference.drawn(page), "run: python -m tests.docs.reference"


@pytest.mark.parametrize("page", reference.PAGES)
def test_every_field_is_explained(page: str) -> None:
    rows = [line for line in reference.drawn(page).splitlines() if line.startswith("| `")]
    assert len(rows) > 20
    assert [row for row in rows if row.endswith("|  |")] == []


def blocks(page: Path) -> Iterator[str]:
    yield from re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)


def test_documents_in_the_text_are_right() -> None:
    seen = set()
    for page in pages():
        for text in blocks(page):
            for document in read_documents(text, str(page)):
                kind = document.data.get("kind")
                if kind in KINDS:
                    document.parse(KINDS[kind])
                    seen.add(kind)
    assert seen == set(KINDS)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_examples_are_right(path: Path) -> None:
    (document,) = read_file(path)
    document.parse(KINDS[document.data["kind"]])
    assert path.name in (ROOT / "examples" / "README.md").read_text() or "*" in path.name


def test_the_readme_names_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert [p.name for p in reference.DOCS.glob("*.md") if f"`docs/{p.name}`" not in text] == []


def test_commands_in_the_text_are_there() -> None:
    """Of code alone: between backticks, or at the beginning of a line in a block."""
    known = OWN_COMMANDS | DESCRIPTIONS.keys()
    for page in pages():
        said = re.findall(
            r"(?:^(?:\$ )?|-- |[`…] ?)heteroscale ([a-z][a-z-]+)", page.read_text(), re.MULTILINE
        )
        assert set(said) <= known, page


def slurm_documents() -> list[str]:
    """Return the page's list of adapters, and the coordinator's document of deploy/slurm."""
    page = [text for text in blocks(reference.DOCS / "slurm.md") if text.startswith("adapters:")]
    return [*page, (ROOT / "deploy" / "slurm" / "coordinator.yaml").read_text()]


def test_options_of_slurm_in_the_text_are_right() -> None:
    documents = [yaml.safe_load(text) for text in slurm_documents()]
    adapters = [one for whole in documents for one in whole.get("spec", whole)["adapters"]]
    assert len(adapters) >= 2
    for one in adapters:
        settings = AdapterSettings.model_validate(one)
        assert options_of(settings.options).templates


def test_options_of_kubernetes_in_the_text_are_right() -> None:
    (text,) = (
        text for text in blocks(reference.DOCS / "adapters.md") if "kind: kubernetes" in text
    )
    (document,) = read_documents(text, "adapters.md")
    for one in document.parse(CoordinatorDocument).spec.adapters:
        assert read_settings(one.name, one.options).templates


def field_names(model: type[BaseModel]) -> set[str]:
    schema = model.model_json_schema(by_alias=True)
    parts = [schema, *schema.get("$defs", {}).values()]
    return {name for part in parts for name in part.get("properties", {})}


def test_the_agents_example_shows_every_field() -> None:
    text = (ROOT / "examples" / "agent.yaml").read_text()
    assert {name for name in field_names(AgentSpec) if f"{name}:" not in text} == set()


def table(page: Path, heading: str) -> dict[str, str]:
    """Return the first two columns of the table below a heading."""
    section = page.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| ")]
    return {first.strip(" `"): second.strip() for first, second in rows[1:]}


CONCEPTS = reference.DOCS / "concepts.md"


def test_the_states_are_those_of_the_code() -> None:
    assert list(table(CONCEPTS, "States of an instance")) == [s.name for s in InstanceState]


def test_the_commands_are_those_of_the_code() -> None:
    known = {verb.value for verb in Verb} | {"switch_role"}
    assert set(table(CONCEPTS, "Commands")) == known


def test_the_table_of_withdrawals_is_that_of_the_code() -> None:
    rows = table(CONCEPTS, "Why an instance is out of service")
    assert list(rows)[:-1] == [reason.value for reason in WithdrawReason]
    for reason in WithdrawReason:
        leased = complaint(reason, None) != ""
        assert leased == ("goes back" in rows[reason.value])


def test_the_gates_are_those_of_the_code() -> None:
    kinds = GateSpec.model_json_schema()["properties"]["kind"]["enum"]
    assert list(table(CONCEPTS, "Gates")) == kinds


@pytest.mark.parametrize("page", pages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        place = page.parent / name if name else page
        assert place.exists(), f"{page}: {target}"
        if anchor:
            text = place.read_text()
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}
            assert anchor in slugs | set(re.findall(r'id="([^"]+)"', text)), f"{page}: {target}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_has_a_short_readme_with_a_drawing(folder: str) -> None:
    text = (ROOT / folder / "README.md").read_text()
    assert len(text.splitlines()) < 200
    if folder != "scheduler_adapters":  # nothing to draw yet
        assert "```" in text


@pytest.mark.parametrize(
    ("folder", "package"),
    [
        ("agent", "heteroscale_agent"),
        ("coordinator", "heteroscale_coordinator"),
        ("proto", "heteroscale"),
        ("cli", "heteroscale_cli"),
        ("simulator", "heteroscale_simulator"),
        ("advisor", "heteroscale_advisor"),
        ("workbench", "heteroscale_workbench"),
    ],
)
def test_a_readme_names_rooms_that_exist(folder: str, package: str) -> None:
    text = (ROOT / folder / "README.md").read_text()
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    names = [name for cell in cells for name in re.findall(r"`([\w/]+?)/?`", cell)]
    assert names
    home = ROOT / folder / package
    for name in names:
        places = (home / name, home / f"{name}.py", home / "core" / f"{name}.py")
        assert any(place.exists() for place in places), name
