"""How GPUs are named and counted: of nodes by labels and allocatable, of pods by what they ask for."""

from __future__ import annotations

from typing import Any

import pytest

from heteroscale_scheduler_adapters.kubernetes.gpus import asked_by, short_type, type_of
from heteroscale_scheduler_adapters.kubernetes.objects import count, moment
from tests.scheduler_adapters.kubernetes.things import NOW, STAMP, container, node, pod, settings

RESOURCES = ("nvidia.com/gpu", "amd.com/gpu")


@pytest.mark.parametrize(
    ("product", "short"),
    [
        ("NVIDIA-H20", "H20"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("NVIDIA-A100-SXM4-80GB", "A100"),
        ("NVIDIA-L20", "L20"),
        ("Tesla-T4", "T4"),
        ("Tesla-T4-SHARED", "T4"),
        ("NVIDIA-GeForce-RTX-4090", "RTX4090"),
        ("NVIDIA-GB200", "GB200"),
        ("nvidia-tesla-v100", "V100"),
        ("nvidia-l4", "L4"),
        ("AMD_Instinct_MI300X_OAM", "MI300X"),
        ("NVIDIA", "unknown"),
    ],
)
def test_types_are_short(product: str, short: str) -> None:
    assert short_type(product) == short


def test_what_is_configured_names_a_type_and_other_labels_are_asked_in_turn() -> None:
    own = settings(gpus={"types": {"NVIDIA-H20-3e": "H20E"}}).gpus
    assert type_of(node(product="NVIDIA-H20-3e"), own) == "H20E"
    gke = node(product="", labels={"cloud.google.com/gke-accelerator": "nvidia-l4"})
    assert type_of(gke, own) == "L4"
    assert type_of(node(product=""), own) == "unknown"


def sidecar(gpus: int) -> dict[str, Any]:
    return container(gpus, restartPolicy="Always")


@pytest.mark.parametrize(
    ("containers", "inits", "gpus"),
    [
        ([container(2), container(1)], [], 3),
        ([container(2)], [container(4)], 4),
        ([container(2)], [container(1)], 2),
        ([container(2)], [sidecar(1)], 3),
        ([container(1)], [sidecar(1), container(3), sidecar(1)], 4),
        ([container(0)], [], 0),
        ([{"name": "x", "resources": {"requests": {"amd.com/gpu": 4}}}], [], 4),
        ([{"name": "x", "resources": {"limits": {"nvidia.com/mig-1g.10gb": 1}}}], [], 0),
        ([], [], 0),
    ],
)
def test_a_pod_holds_what_the_scheduler_counts(
    containers: list[Any], inits: list[Any], gpus: int
) -> None:
    thing = pod(spec={"containers": containers, "initContainers": inits})
    assert asked_by(thing, RESOURCES) == gpus


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        *(("8", 8), (8, 8), ("1k", 1000), ("2Ki", 2048), ("1500m", 2), ("1e2", 100)),
        *(("2M", 2_000_000), ("", 0), ("x", 0), (None, 0), (True, 0), ("-3", 0), ("1.2.3", 0)),
    ],
)
def test_quantities_are_read(quantity: object, number: int) -> None:
    assert count(quantity) == number


def test_moments_are_read() -> None:
    assert moment(STAMP) == NOW
    assert moment(None) == 0.0
