"""docs/kubernetes.md and examples/kubernetes: every object is taken, and every service is right."""

from __future__ import annotations

import re

import yaml

from heteroscale_coordinator.edge.crd import objects, words
from heteroscale_scheduler_adapters.kubernetes.settings import TOPOLOGY
from tests.kubernetes.deploy.kustomize import Json, resolve
from tests.kubernetes.deploy.test_overlays import DEPLOY, ROOT, SERVING
from tests.kubernetes.kube import Kube

PAGE = ROOT / "docs" / "kubernetes.md"
KEDA = ROOT / "examples" / "kubernetes" / "keda.yaml"


def told() -> list[Json]:
    """Return the objects of the page, from its first line to its last."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [one for text in blocks for one in yaml.safe_load_all(text)]


def test_the_page_is_taken_from_its_first_line_to_its_last(small_kube: Kube) -> None:
    for one in [*resolve(DEPLOY / "overlays" / "watch-only"), *told()]:
        assert small_kube.create(one)["metadata"]["uid"]


def test_what_the_page_names_is_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for path in re.findall(r"deploy/kubernetes/[a-z/-]+(?:\.yaml)?", text):
        assert (ROOT / path.rstrip("/")).exists(), path
    for overlay in (DEPLOY / "overlays").iterdir():
        assert f"| `{overlay.name}` |" in text


def test_the_labels_of_levels_are_told_as_they_are_read() -> None:
    page = (ROOT / "docs" / "kubernetes-options.md").read_text(encoding="utf-8")
    for level, keys in TOPOLOGY.items():
        assert f"| `{level}` | {', '.join(f'`{key}`' for key in keys)} |" in page


def test_the_example_for_keda_is_taken_but_for_the_kinds_of_others(small_kube: Kube) -> None:
    """The other examples: `test_examples_driven`."""
    every = list(yaml.safe_load_all(KEDA.read_text(encoding="utf-8")))
    for one in [*resolve(DEPLOY / "crd"), SERVING, *every]:
        if not one["apiVersion"].startswith("keda.sh/"):
            assert small_kube.create(one)["metadata"]["uid"]
    (service,) = [one for one in every if one["kind"] == words.KIND]
    roles = objects.parse(objects.read(service)).spec.roles
    for role in roles:
        assert any(f"chat-{role.value}" in str(one) for one in every)
