"""The exported schema: right by its own dialect, and of one mind with the reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from heteroscale.documents import DocumentError, read_documents
from heteroscale_coordinator.core.spec import ServiceDocument, ServiceSpec
from heteroscale_coordinator.schema import kinds, model_of, run, schema_of
from tests.coordinator.values import CHAT

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


def documents() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.name}-{number}", data)
        for path in FILES
        for number, data in enumerate(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        if data["kind"] in kinds()
    ]


def problems(data: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema_of(data["kind"]))
    return [error.message for error in validator.iter_errors(data)]


@pytest.mark.parametrize("kind", kinds())
def test_the_schema_is_one(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema_of(kind))


def test_the_examples_are_found() -> None:
    assert {"service-chat.yaml", "service-aggregated.yaml"} <= {path.name for path in FILES}


@pytest.mark.parametrize(("name", "data"), documents(), ids=[name for name, _ in documents()])
def test_examples_pass_the_schema_and_the_reader(name: str, data: dict[str, Any]) -> None:
    assert problems(data) == []
    model_of(data["kind"]).model_validate(data)


WRONG = {
    "unknown field": ("tbt: 50ms", "tbtt: 50ms"),
    "no duration": ("ttft: 1s", "ttft: soon"),
    "zero ratio": ('ratio: "1:2"', "ratio: 0"),
    "no ratio": ('ratio: "1:2"', "ratio: often"),
    "unknown role": ("decode: {", "decoder: {"),
    "text for a count": ("max: 16", "max: many"),
    "another version": ("heteroscale/v1", "heteroscale/v2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_the_reader_refuses_the_schema_refuses_too(case: str) -> None:
    before, after = WRONG[case]
    assert before in CHAT
    text = CHAT.replace(before, after)
    assert problems(yaml.safe_load(text))
    with pytest.raises(DocumentError):
        read_documents(text)[0].parse(ServiceDocument)


@pytest.mark.parametrize("ratio", ["1:2", "0.5", 0.5, 2, {"min": 0.25, "max": 1}, "1.5:3"], ids=str)
def test_every_way_to_write_a_ratio_passes_both(ratio: object) -> None:
    data = yaml.safe_load(CHAT)
    data["spec"]["ratio"] = ratio
    assert problems(data) == []
    ServiceDocument.model_validate(data)


def test_a_ratio_of_a_service_of_one_role_is_refused_by_its_name() -> None:
    """What is stored names the default too, and is read."""
    text = next(path for path in FILES if path.name == "service-aggregated.yaml").read_text("utf-8")
    found = read_documents(text)[0].parse(ServiceDocument)
    assert found.spec == ServiceSpec.model_validate(found.spec.model_dump())
    wrong = text.replace("spec:\n", "spec:\n  ratio: 1:2\n", 1)
    with pytest.raises(DocumentError, match=r"spec\.ratio is prefill:decode.* leave it out"):
        read_documents(wrong)[0].parse(ServiceDocument)


def test_fields_are_described_with_units_and_defaults_readable() -> None:
    policy = schema_of("Service")["$defs"]["PolicySpec"]["properties"]
    assert policy["windowIn"]["default"] == "1m"
    assert policy["toleranceOut"]["default"] == 0.05
    drain = schema_of("Service")["$defs"]["DrainSpec"]["properties"]
    assert drain["forceAfter"]["default"] == "30m"
    target = schema_of("Service")["$defs"]["RoleSpec"]["properties"]["target"]
    assert "Tokens per second" in target["description"]


def test_the_command_prints_or_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert json.loads(capsys.readouterr().out) == schema_of("Service")
    out = tmp_path / "schema.json"
    assert run(["Coordinator", "--out", str(out)]) == 0
    assert json.loads(out.read_text(encoding="utf-8")) == schema_of("Coordinator")
    assert run(["--out", str(tmp_path / "missing" / "x")]) == 1
    assert "No such file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(["Flotilla"])


def test_kinds_of_other_packages_come_in_by_entry_point() -> None:
    assert "Fleet" in kinds()
    pool = schema_of("Fleet")["$defs"]["NodePool"]["properties"]
    assert "H20" in pool["gpuType"]["description"]
    with pytest.raises(KeyError):
        model_of("Flotilla")
