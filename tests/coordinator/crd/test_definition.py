"""The CustomResourceDefinition: structural by its rules, and of one mind with the reader of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import TypeAdapter

from heteroscale_coordinator.core.spec import ServiceDocument
from heteroscale_coordinator.edge.crd import definition, words
from heteroscale_coordinator.edge.crd.structural import UnstructuredError, structural
from heteroscale_coordinator.schema import run, schema_of
from tests.coordinator.crd import rules

ROOT = Path(__file__).parents[3]
MANIFEST = ROOT / "deploy" / "kubernetes" / "crd" / "scaledservices.yaml"
EXAMPLES = sorted((ROOT / "examples").glob("service*.yaml"))
CLIENT_APPLY = 262_144
"""Bytes of the annotation in which ``kubectl apply`` keeps what it applied last."""


def schema() -> dict[str, Any]:
    return definition.schema(schema_of("Service"))


def validator() -> jsonschema.Draft202012Validator:
    form = rules.as_json_schema(schema())
    form["properties"]["metadata"]["additionalProperties"] = True
    return jsonschema.Draft202012Validator(form)


def as_object(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "apiVersion": words.API_VERSION, "kind": words.KIND}


def test_the_committed_manifest_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Made anew by ``heteroscale schema --crd --out deploy/kubernetes/crd/scaledservices.yaml``."""
    assert run(["--crd"]) == 0
    assert MANIFEST.read_text(encoding="utf-8") == capsys.readouterr().out
    assert "&id" not in MANIFEST.read_text(encoding="utf-8")
    assert MANIFEST.stat().st_size < CLIENT_APPLY // 2


def test_only_services_are_objects(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["Coordinator", "--crd"])
    assert "--crd is for kind Service" in capsys.readouterr().err


def test_the_schema_keeps_every_rule_of_structural_schemas() -> None:
    assert rules.breaches(schema()) == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"type": "object", "properties": {"a": {}}}, "root.a: type must not be empty"),
        ({"type": "object", "properties": {"a": {"$ref": "#/x"}}}, "$ref is forbidden"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "at the root"),
        ({"type": "object", "properties": {"a": {"type": "null"}}}, "type 'null' is none"),
        (
            {"type": "object", "properties": {"a": {"type": "integer", "exclusiveMinimum": 0}}},
            "exclusiveMinimum is a boolean",
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string", "anyOf": [{"type": "string"}]}},
            },
            "type must not stand there",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?!x)"}}},
            "no RE2",
        ),
        (
            {
                "type": "object",
                "properties": {
                    "a": {
                        "type": "object",
                        "properties": {"b": {"type": "string"}},
                        "additionalProperties": {"type": "string"},
                    }
                },
            },
            "exclude each other",
        ),
        (
            {
                "type": "object",
                "properties": {"metadata": {"type": "object", "required": ["name"]}},
            },
            "metadata: only name",
        ),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, "items must be one schema"),
        (
            {"type": "object", "properties": {"a": {"type": "string", "format": "duration-text"}}},
            "format 'duration-text' is not known",
        ),
        (
            {
                "type": "object",
                "x-kubernetes-validations": [{"rule": "has(self.b)", "message": "m"}],
            },
            "names ['b']",
        ),
        (
            {"type": "object", "x-kubernetes-validations": [{"rule": "true", "message": "a\nb"}]},
            "message is one line",
        ),
        (
            {
                "type": "object",
                "properties": {
                    "a": {
                        "type": "array",
                        "items": {
                            "type": "string",
                            "x-kubernetes-validations": [{"rule": "true", "message": "m"}],
                        },
                    }
                },
            },
            "need maxItems",
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string", "nullable": True, "enum": ["x"]}},
            },
            "no null",
        ),
    ],
)
def test_the_checker_sees_what_a_server_refuses(wrong: dict[str, Any], says: str) -> None:
    assert any(says in line for line in rules.breaches(wrong)), rules.breaches(wrong)


def test_columns_show_counts_ratio_and_reason_as_a_server_takes_them() -> None:
    (version,) = definition.definition(schema_of("Service"))["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    assert [rules.column_breaches(one) for one in columns] == [[]] * len(columns)
    shown = [one["name"] for one in columns if not one.get("priority")]
    assert shown == ["P", "D", "Ratio", "Reason", "Age"]
    told = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    for one in columns:
        part = one["jsonPath"].split(".")[1:3]
        assert part[0] == "metadata" or part[1].partition("[")[0] in told
    assert rules.column_breaches({"name": "P", "type": "text", "jsonPath": "status"}) == [
        "type 'text' is none",
        "jsonPath must start with .",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_every_example_of_a_service_is_an_object_once_its_kind_is_changed(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        if document["kind"] == "Service":
            problems = [e.message for e in validator().iter_errors(as_object(document))]
            assert problems == []


CHAT: dict[str, Any] = {
    "apiVersion": words.API_VERSION,
    "kind": words.KIND,
    "metadata": {"name": "chat"},
    "spec": {
        "roles": {
            "prefill": {"template": "p", "max": 4},
            "decode": {"template": "d", "max": 8, "target": {"H20": 2000}},
        },
        "ratio": "1:2",
        "slo": {"ttft": "1s", "tbt": 1},
        "drain": {"forceAfter": None},
        "placement": {"spread": {"most": 0.5}},
    },
}


def at(path: str, value: object) -> dict[str, Any]:
    """Return CHAT with one field changed."""
    changed: dict[str, Any] = yaml.safe_load(yaml.safe_dump(CHAT))
    *above, last = path.split(".")
    here = changed
    for name in above:
        here = here.setdefault(name, {})
    here[last] = value
    return changed


def test_numbers_words_and_maps_pass_where_they_may_stand() -> None:
    for path, value in (
        ("spec.roles.decode.target", "learn"),
        ("spec.roles.decode.target", 900.5),
        ("spec.ratio", 0.5),
        ("spec.ratio", {"min": 0.25, "max": 1}),
        ("spec.placement.spread.most", 2),
        ("spec.placement.spread", None),
    ):
        assert list(validator().iter_errors(at(path, value))) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.roles.decoder", {"template": "d"}),
        ("spec.roles.decode.max", "many"),
        ("spec.roles.decode.gpus", 0),
        ("spec.slo.ttft", "soon"),
        ("spec.placement.spread.most", 1.5),
        ("spec.gate.kind", "door"),
        ("spec.advisory", "often"),
        ("spec.nonsense", 1),
    ],
)
def test_what_the_reader_refuses_the_server_refuses_too(path: str, value: object) -> None:
    wrong = at(path, value)
    assert list(validator().iter_errors(wrong))
    document = {**wrong, "apiVersion": "heteroscale/v1", "kind": "Service"}
    with pytest.raises(ValueError, match=path.rsplit(".", maxsplit=1)[-1]):
        ServiceDocument.model_validate(document)


def test_columns_read_fields_that_the_status_has() -> None:
    (version,) = definition.definition(schema_of("Service"))["spec"]["versions"]
    status = schema()["properties"]["status"]["properties"]
    for column in version["additionalPrinterColumns"]:
        top, *below = column["jsonPath"].lstrip(".").split(".")
        assert top == "metadata" or below[0].partition("[")[0] in status
    assert [c["name"] for c in version["additionalPrinterColumns"] if not c.get("priority")] == [
        *("P", "D", "Ratio", "Reason", "Age"),
    ]


def test_defaults_are_told_and_not_written_into_objects() -> None:
    policy = schema()["properties"]["spec"]["properties"]["policy"]["properties"]
    assert "default" not in policy["windowIn"]
    assert policy["windowIn"]["description"].endswith("Default: 1m.")


def test_every_rule_names_fields_that_are_there() -> None:
    roles = schema()["properties"]["spec"]["properties"]["roles"]
    (rule,) = roles["x-kubernetes-validations"]
    for name in roles["properties"]:
        assert rule["rule"].count(f"has(self.{name})") == 3
    assert roles["properties"]["ffn"]["x-kubernetes-validations"][0]["message"]


def test_what_has_no_form_is_said() -> None:
    for one in ({"type": ["string", "null"]}, {"type": "object"}, {"description": "anything"}):
        with pytest.raises(UnstructuredError):
            structural(one)


def test_a_map_of_numbers_keeps_its_values() -> None:
    form = structural(TypeAdapter(dict[str, int] | None).json_schema())
    assert form == {
        "type": "object",
        "additionalProperties": {"type": "integer"},
        "nullable": True,
    }
