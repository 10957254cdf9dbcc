"""The place of a host as the labels of its Kubernetes node tell it.

Nearest first, the keys mean: NVIDIA's topograph names the NVLink domain ``accelerator``, then the
switches outward: ``leaf`` (once ``block``), ``spine``, ``core`` (once ``datacenter``); since its
version 1 ``accelerator.topograph.run/domain`` and ``fabric.topograph.run/tier-0`` outward. Google's
hosts stand in a sub-block of a block; Amazon's hang under network node layer 3, below 2 and 1. Zone
and region are every provider's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heteroscale.words import TOPOLOGY_LEVELS
from heteroscale_agent.config.places import KubernetesLevels
from heteroscale_agent.probes.source import SourceError

LABELS: dict[str, tuple[str, ...]] = {
    "s0": (
        "accelerator.topograph.run/domain",
        "network.topology.nvidia.com/accelerator",
        "nvidia.com/gpu.clique",
    ),
    "s1": (
        "fabric.topograph.run/tier-0",
        "network.topology.nvidia.com/leaf",
        "network.topology.nvidia.com/block",
        "cloud.google.com/gce-topology-subblock",
        "topology.k8s.aws/network-node-layer-3",
    ),
    "s2": (
        "fabric.topograph.run/tier-1",
        "network.topology.nvidia.com/spine",
        "cloud.google.com/gce-topology-block",
        "topology.k8s.aws/network-node-layer-2",
    ),
    "logical_cluster": (
        "fabric.topograph.run/tier-2",
        "network.topology.nvidia.com/core",
        "network.topology.nvidia.com/datacenter",
        "topology.k8s.aws/network-node-layer-1",
    ),
    "physical_cluster": ("topology.kubernetes.io/zone",),
    "vdc": ("topology.kubernetes.io/region",),
}
"""Default label keys of each level; the first that a node carries wins."""


def domains(node: Mapping[str, Any], wanted: KubernetesLevels) -> dict[str, tuple[str, str]]:
    """Return name and label key by level.

    Raises:
        SourceError: what was sent is no node.

    """
    metadata = node.get("metadata")
    if not isinstance(metadata, dict):
        raise SourceError("the answer is no node")
    labels = metadata.get("labels")
    labels = labels if isinstance(labels, dict) else {}
    keys = {**LABELS, **{str(level): named for level, named in wanted.labels.items()}}
    found: dict[str, tuple[str, str]] = {}
    for level in TOPOLOGY_LEVELS:
        for key in keys[level]:
            value = labels.get(key)
            if isinstance(value, str) and value:
                found[level] = (value, key)
                break
    return found
