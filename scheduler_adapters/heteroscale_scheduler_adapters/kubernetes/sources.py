"""What is listed and watched of a cluster: nodes and pods everywhere, the rest where we launch."""

from __future__ import annotations

from heteroscale_scheduler_adapters.kubernetes.reached import SERVICE_NAME
from heteroscale_scheduler_adapters.kubernetes.resources import BUDGETS, NODES, PODS, QUOTAS, SLICES
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
        *(
            Source(SLICES, space, labels=f"{SERVICE_NAME}={service}")
            for space, service in gate_services(settings)
        ),
    )


def gate_services(settings: KubernetesSettings) -> tuple[tuple[str, str], ...]:
    """Return namespace and name of the Services whose EndpointSlices say who can be reached."""
    rules = [
        (one.where(settings.namespace), one.gate or settings.gate) for one in settings.templates
    ]
    return tuple(sorted({(space, rule.service) for space, rule in rules if rule.service}))


def launch_namespaces(settings: KubernetesSettings) -> tuple[str, ...]:
    """Return where instances are launched."""
    found = {one.where(settings.namespace) for one in settings.templates}
    return tuple(sorted(found)) or (settings.namespace,)


def quota_namespaces(settings: KubernetesSettings) -> tuple[str, ...]:
    """Return whose quotas limit us."""
    return settings.quota_namespaces or launch_namespaces(settings)
