"""Custom resources: served once accepted, held to their schema, with status, scale and columns."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kubernetes.kube import Kube, Refused
from tests.kubernetes.things import crd

Json = dict[str, Any]
COUNT = {"type": "integer", "minimum": 0}
SCHEMA: Json = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["role"],
            "properties": {
                "role": {"type": "string", "enum": ["prefill", "decode"]},
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                "replicas": {**COUNT, "default": 1},
                "port": {"x-kubernetes-int-or-string": True},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        },
        "status": {
            "type": "object",
            "properties": {"replicas": COUNT, "selector": {"type": "string"}},
        },
    },
}
COLUMNS = [{"name": "Role", "type": "string", "jsonPath": ".spec.role"}]
SUB: Json = {
    "status": {},
    "scale": {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    },
}


class Things:
    """A kind of the test's own."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.group = f"{kube.name('things')}.example.com"
        self.version = f"{self.group}/v1"
        version = {"subresources": SUB, "additionalPrinterColumns": COLUMNS}
        kube.create(crd("engines", "Engine", self.group, SCHEMA, **version))
        kube.until(lambda: self._established() and self._served())

    def _established(self) -> bool:
        found = self.kube.get(
            "apiextensions.k8s.io/v1", "customresourcedefinitions", f"engines.{self.group}"
        )
        conditions = (found.get("status") or {}).get("conditions") or []
        return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)

    def _served(self) -> bool:
        return self.kube.http.get(self.kube.place(self.version, "engines")).status_code == 200

    def wish(self, name: str, /, **spec: Any) -> Json:
        return {
            "apiVersion": self.version,
            "kind": "Engine",
            "metadata": {"name": name},
            "spec": spec,
        }

    def create(self, name: str, /, **spec: Any) -> Json:
        path = self.kube.place(self.version, "engines")
        return self.kube.ask("POST", path, json=self.wish(name, **spec))


@pytest.fixture
def things(kube: Kube) -> Things:
    return Things(kube)


def test_defaults_and_pruning(things: Things) -> None:
    made = things.create("a", role="prefill", nonsense=1, port="http", free={"x": {"y": 1}})
    assert made["spec"] == {
        "role": "prefill",
        "replicas": 1,
        "port": "http",
        "free": {"x": {"y": 1}},
    }
    assert made["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("spec", "field", "text"),
    [
        ({}, "spec.role", "Required value"),
        ({"role": "x"}, "spec.role", 'Unsupported value: "x": supported values: "prefill", "decode"'),
        ({"role": "decode", "name": "A"}, "spec.name", "spec.name in body should match '^[a-z]+$'"),
        ({"role": "decode", "replicas": -1}, "spec.replicas", "should be greater than or equal to 0"),
        ({"role": "decode", "replicas": "x"}, "spec.replicas", 'must be of type integer: "string"'),
        ({"role": "decode", "name": "abcdef"}, "spec.name", "Too long"),
    ],
)  # fmt: skip
def test_what_the_schema_refuses(things: Things, spec: Json, field: str, text: str) -> None:
    with pytest.raises(Refused) as refused:
        things.create("a", **spec)
    status = refused.value.status
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert status["message"].startswith(f'Engine.{things.group} "a" is invalid: ')
    found = {one["field"]: one["message"] for one in status["details"]["causes"]}
    assert text in found[field]


def test_status_is_apart_and_counts_no_generation(things: Things, kube: Kube) -> None:
    things.create("a", role="prefill")
    made = kube.patch(
        things.version,
        "engines",
        "a",
        {"status": {"replicas": 3}, "spec": {"replicas": 9}},
        sub="status",
    )
    assert (made["status"], made["spec"]["replicas"]) == ({"replicas": 3}, 1)
    assert made["metadata"]["generation"] == 1
    made = kube.patch(
        things.version, "engines", "a", {"status": {"replicas": 7}, "spec": {"replicas": 2}}
    )
    assert (made["status"], made["spec"]["replicas"]) == ({"replicas": 3}, 2)
    assert made["metadata"]["generation"] == 2


def test_scale_of_a_custom_resource(things: Things, kube: Kube) -> None:
    things.create("a", role="prefill")
    kube.patch(
        things.version, "engines", "a", {"status": {"replicas": 1, "selector": "x=1"}}, sub="status"
    )
    scale = kube.get(things.version, "engines", "a", "scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 1}, {"replicas": 1, "selector": "x=1"})
    scale["spec"]["replicas"] = 4
    kube.replace(things.version, "engines", scale, sub="scale")
    assert kube.get(things.version, "engines", "a")["spec"]["replicas"] == 4


def test_an_update_says_which_version_it_knows(things: Things, kube: Kube) -> None:
    made = things.create("a", role="prefill")
    del made["metadata"]["resourceVersion"]
    with pytest.raises(Refused) as refused:
        kube.replace(things.version, "engines", made)
    assert "metadata.resourceVersion" in refused.value.message
    assert refused.value.code == 422


def test_strategic_merge_is_for_built_in_kinds(things: Things, kube: Kube) -> None:
    things.create("a", role="prefill")
    with pytest.raises(Refused) as refused:
        kube.patch(things.version, "engines", "a", {}, kind="strategic")
    assert refused.value.code == 415


def test_columns(things: Things, kube: Kube) -> None:
    things.create("a", role="prefill")
    head = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    table = kube.ask("GET", kube.place(things.version, "engines"), headers=head)
    assert [one["name"] for one in table["columnDefinitions"]] == ["Name", "Role"]
    assert [row["cells"] for row in table["rows"]] == [["a", "prefill"]]


def test_apply_and_conflict(things: Things, kube: Kube) -> None:
    kube.apply(things.version, "engines", things.wish("a", role="prefill"), manager="one")
    with pytest.raises(Refused) as refused:
        kube.apply(things.version, "engines", things.wish("a", role="decode"), manager="two")
    assert refused.value.status["details"]["causes"][0]["field"] == ".spec.role"


def test_discovery_names_it(things: Things, kube: Kube) -> None:
    found = kube.ask("GET", f"/apis/{things.version}")["resources"]
    assert {one["name"] for one in found} == {"engines", "engines/status", "engines/scale"}
    groups = kube.ask("GET", "/apis")["groups"]
    assert things.group in [one["name"] for one in groups]


def test_a_schema_must_be_structural(kube: Kube) -> None:
    schema: Json = {
        "type": "object",
        "properties": {"spec": {"properties": {"a": {"type": "string"}}}},
    }
    with pytest.raises(Refused) as refused:
        kube.create(crd("others", "Other", f"{kube.name('bad')}.example.com", schema))
    assert refused.value.code == 422
    assert "must not be empty for specified object fields" in refused.value.message
