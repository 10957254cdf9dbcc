"""Each overlay is taken by an API server whole, fits together, and its documents are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heteroscale.documents import read_documents
from heteroscale_agent.config import AgentDocument
from heteroscale_coordinator.config import CoordinatorDocument
from tests.kubernetes.deploy.kustomize import Json, merged, resolve
from tests.kubernetes.kube import Kube

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.parent for path in (DEPLOY / "overlays").glob("*/kustomization.yaml"))

SERVING: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving"}}
"""Of the user, whatever is deployed."""


def of_kind(objects: list[Json], kind: str, name: str = "heteroscale-coordinator") -> Json:
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("overlay", OVERLAYS, ids=[path.name for path in OVERLAYS])
def test_an_api_server_takes_every_object(overlay: Path, small_kube: Kube) -> None:
    small_kube.create(SERVING)
    for one in resolve(overlay):
        made = small_kube.create(one)
        assert made["metadata"]["uid"]
        if one["kind"] == "CustomResourceDefinition":
            small_kube.until(
                lambda: small_kube.find("heteroscale.io/v1", "scaledservices", "x") is None
            )


@pytest.mark.parametrize("overlay", OVERLAYS, ids=[path.name for path in OVERLAYS])
def test_an_overlay_holds_together(overlay: Path) -> None:
    objects = resolve(overlay)
    pod = of_kind(objects, "Deployment")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    volumes = {one["name"] for one in pod["spec"]["volumes"]}
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    assert set(mounts.values()) == volumes
    ports = {one["name"] for one in container["ports"]}
    for service in (one for one in objects if one["kind"] == "Service"):
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert {one["targetPort"] for one in service["spec"]["ports"]} <= ports
    spec = configured(objects)
    spec.check_trust()
    assert spec.kubernetes.lease == "heteroscale/heteroscale-coordinator"
    listening = {spec.http.listen, spec.keda.listen, spec.listen}
    open_ports = {int(one.rpartition(":")[2]) for one in listening if one.startswith("0.0.0.0")}
    assert open_ports == {one["containerPort"] for one in container["ports"]}
    for path in (spec.tls.certificate, spec.tls.key, spec.tls.client_ca):
        assert path is None or str(path.parent) in mounts
    assert str(spec.data_dir) in mounts


def configured(objects: list[Json]) -> Any:
    ((name, text),) = of_kind(objects, "ConfigMap")["data"].items()
    (document,) = read_documents(text, name)
    return document.parse(CoordinatorDocument).spec


def test_watch_only_may_change_nothing_but_what_it_tells() -> None:
    """What others made is neither read nor changed."""
    objects = resolve(DEPLOY / "overlays" / "watch-only")
    assert {one["kind"] for one in objects} & {"DaemonSet", "Secret"} == set()
    bound = [o["roleRef"]["name"] for o in objects if o["kind"].endswith("Binding")]
    rules = [
        rule
        for one in objects
        if one["kind"] in ("Role", "ClusterRole") and one["metadata"]["name"] in bound
        for rule in one["rules"]
    ]
    touched = {resource for rule in rules for resource in rule["resources"]}
    assert touched == {"leases", "scaledservices", "scaledservices/status", "events"}
    assert all("*" not in rule["verbs"] + rule["apiGroups"] for rule in rules)


WITH_AGENTS = ("drive-with-agents", "full")


def agents(objects: list[Json]) -> Any:
    """Return what the agents' document says."""
    ((name, text),) = of_kind(objects, "ConfigMap", "heteroscale-agent")["data"].items()
    (document,) = read_documents(text, name)
    return document.parse(AgentDocument).spec


@pytest.mark.parametrize("overlay", OVERLAYS, ids=[path.name for path in OVERLAYS])
def test_where_agents_are_they_dial_the_service_that_is_there(overlay: Path) -> None:
    objects = resolve(overlay)
    assert [o["metadata"]["name"] for o in objects if o["kind"] == "Namespace"] == ["heteroscale"]
    if overlay.name not in WITH_AGENTS:
        assert "DaemonSet" not in {one["kind"] for one in objects}
        return
    daemons = of_kind(objects, "DaemonSet", "heteroscale-agent")["spec"]["template"]["spec"]
    (container,) = daemons["containers"]
    spec = agents(objects)
    mounts = {one["mountPath"] for one in container["volumeMounts"]}
    for path in (spec.tls.ca, spec.tls.certificate, spec.tls.key):
        assert str(path.parent) in mounts
    service = of_kind(objects, "Service", "coordinator")
    name, space = service["metadata"]["name"], service["metadata"]["namespace"]
    assert spec.coordinator == f"{name}.{space}:{service['spec']['ports'][0]['port']}"


def test_agents_only_measure_where_the_coordinator_drives_their_cluster() -> None:
    """The adapter's name is the agents' cluster; where nothing is driven they tell of pods themselves."""
    driven = resolve(DEPLOY / "overlays" / "drive-with-agents")
    (adapter,) = configured(driven).adapters
    assert agents(driven).kubernetes.cluster == adapter.name
    alone = resolve(DEPLOY / "overlays" / "full")
    assert configured(alone).adapters == ()
    assert not agents(alone).kubernetes.cluster


def test_what_is_driven_is_the_same_with_agents_and_without() -> None:
    both = [resolve(DEPLOY / "overlays" / name) for name in ("drive", "drive-with-agents")]
    bare, measured = (configured(one).adapters for one in both)
    assert bare == measured
    rights = [[o for o in one if "rules" in o or "roleRef" in o] for one in both]
    assert [o for o in rights[0] if o not in rights[1]] == []


def test_lists_are_joined_by_their_keys() -> None:
    before = {"containers": [{"name": "a", "ports": [{"containerPort": 1}], "args": ["x"]}]}
    patch = {"containers": [{"name": "a", "ports": [{"containerPort": 2}], "args": ["y"]}]}
    (one,) = merged(before, patch)["containers"]
    assert [port["containerPort"] for port in one["ports"]] == [1, 2]
    assert one["args"] == ["y"]
