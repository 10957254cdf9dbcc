"""What is listed and watched of a cluster: nodes and pods everywhere, the rest where we launch."""

from __future__ import annotations

from heteroscale_scheduler_adapters.kubernetes.resources import BUDGETS, NODES, PODS, QUOTAS
from heteroscale_scheduler_adapters.kubernetes.settings import KubernetesSettings
from heteroscale_scheduler_adapters.kubernetes.watch import Source


def sources(settings: KubernetesSettings) -> tuple[Source, ...]:
    """Return what is to be read, nodes first."""
    spaces = launch_namespaces(settings)
    return (
        Source(NODES, labels=settings.node_selector),
        Source(PODS),
        *(Source(BUDGETS, space) for space in spaces),
        *(Source(QUOTAS, space) for space in quota_namespaces(settings)),
    )


def launch_namespaces(settings: KubernetesSettings) -> tuple[str, ...]:
    """Return where instances are launched."""
    found = {one.where(settings.namespace) for one in settings.templates}
    return tuple(sorted(found)) or (settings.namespace,)


def quota_namespaces(settings: KubernetesSettings) -> tuple[str, ...]:
    """Return whose quotas limit us."""
    return settings.quota_namespaces or launch_namespaces(settings)
