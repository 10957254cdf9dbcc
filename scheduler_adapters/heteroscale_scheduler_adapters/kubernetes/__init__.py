"""Kubernetes: nodes, pods and workloads of one cluster, behind the port."""

from heteroscale_scheduler_adapters.kubernetes.adapter import KubernetesAdapter, create

__all__ = ["KubernetesAdapter", "create"]
