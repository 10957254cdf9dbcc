"""Which GPUs a pod has, by NVIDIA's dcgm-exporter, where the same Prometheus scrapes that too. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from heteroscale_coordinator.core.spec.matchers import quoted
from heteroscale_coordinator.edge.prometheus.answers import Labels

NAMES = ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_GPU_TEMP")
"""Shown once a GPU; which of them depends on the exporter's configuration."""
POD_LABELS = ("exported_pod", "pod")
"""Where a Prometheus keeps its own `pod` (the exporter's), the engine's comes second-named."""
MOST_PODS = 300
"""A selector of more would be too long to ask for."""


@dataclass(frozen=True, slots=True)
class PodGpus:
    """What one pod has."""

    gpu_type: str
    """The commonest; empty where nobody says."""
    count: int


def matches(pods: Sequence[str]) -> tuple[str, ...]:
    """Return the selectors of the GPUs of these pods; none when they are too many."""
    if not 0 < len(pods) <= MOST_PODS:
        return ()
    pattern = quoted("|".join(re.escape(pod) for pod in pods))
    names = quoted("|".join(NAMES))
    return tuple(f"{{__name__=~{names},{label}=~{pattern}}}" for label in POD_LABELS)


def by_pod(seen: Iterable[Labels]) -> Mapping[str, PodGpus]:
    """Return the GPUs of each pod that series tell of; a GPU counts once, whatever is told of it."""
    found: dict[str, dict[str, str]] = {}
    for labels in seen:
        pod = next((labels[name] for name in POD_LABELS if labels.get(name)), "")
        gpu = labels.get("UUID") or f"{labels.get('Hostname', '')}/{labels.get('gpu', '')}"
        if pod and gpu != "/":
            # A slice of a GPU is a device of its own.
            part = labels.get("GPU_I_ID", "")
            found.setdefault(pod, {})[f"{gpu}/{part}"] = labels.get("modelName", "")
    return {pod: _of(gpus) for pod, gpus in found.items()}


def _of(gpus: Mapping[str, str]) -> PodGpus:
    names = sorted(gpus.values())
    return PodGpus(max(names, key=names.count), len(gpus))
