"""GPUs of nodes and pods: how many, of which type, and what pods ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from heteroscale_scheduler_adapters.kubernetes.objects import count, items, labels, part, text
from heteroscale_scheduler_adapters.kubernetes.resources import Object
from heteroscale_scheduler_adapters.kubernetes.settings import GpuSettings

UNKNOWN = "unknown"
_FILLER = frozenset({"nvidia", "tesla", "geforce", "quadro", "amd", "instinct", "radeon"})
_TYPE = re.compile(r"[A-Za-z]+[0-9]+[A-Za-z]*")
SHARED = "-SHARED"
"""GPU feature discovery ends the name so where several pods share each GPU."""


def short_type(product: str) -> str:
    """Shorten what a label says to the type that specifications use.

    `NVIDIA-H100-80GB-HBM3` is `H100`, `Tesla-T4` is `T4`, `NVIDIA-GeForce-RTX-4090` is `RTX4090`,
    `AMD_Instinct_MI300X_OAM` is `MI300X`, `nvidia-tesla-v100` is `V100`.
    """
    kept: list[str] = []
    for word in re.split(r"[-_ ]+", product.removesuffix(SHARED)):
        if word.lower() in _FILLER or not word:
            continue
        if _TYPE.fullmatch(word):
            return word.upper() if word.islower() else word
        kept.append(word)
        if re.search("[0-9]", word):
            break
    return "".join(kept) or UNKNOWN


def type_of(node: Object, settings: GpuSettings) -> str:
    """Return the type of a node's GPUs, ``unknown`` where no label tells."""
    carried = labels(node)
    for key in settings.type_labels:
        said = carried.get(key)
        if said:
            return settings.types.get(said) or short_type(said)
    return UNKNOWN


def resource_of(amounts: Mapping[str, object], settings: GpuSettings) -> tuple[str, int]:
    """Return the first resource that is GPUs, of which there are any, and how many."""
    for resource in settings.resources:
        number = count(amounts.get(resource, 0))
        if number:
            return resource, number
    return "", 0


def mig_of(amounts: Mapping[str, object]) -> dict[str, int]:
    """Return slices of GPUs (MIG) by profile: they are no GPUs of ours."""
    found = {
        key: count(value) for key, value in amounts.items() if key.startswith("nvidia.com/mig-")
    }
    return {key: number for key, number in found.items() if number}


def asked_by(pod: Object, resources: Iterable[str]) -> int:
    """Return how many GPUs a pod holds while it runs, or needs to start: the larger of both.

    As the scheduler counts: containers and sidecars together, or one init container with the
    sidecars that were started before it.
    """
    spec = part(pod, "spec")
    known = tuple(resources)
    sidecars = peak = 0
    for one in items(spec, "initContainers"):
        number = _asked(one, known)
        if text(one, "restartPolicy") == "Always":
            sidecars += number
            peak = max(peak, sidecars)
        else:
            peak = max(peak, sidecars + number)
    return max(peak, sidecars + sum(_asked(one, known) for one in items(spec, "containers")))


def _asked(container: Object, resources: tuple[str, ...]) -> int:
    # Of an extended resource, request and limit are equal; who writes only limits is given requests.
    amounts = part(container, "resources")
    told = part(amounts, "requests") or part(amounts, "limits")
    return sum(count(told[key]) for key in resources if key in told)
