"""What placement is told of sub-clusters, and what of it a person is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from heteroscale_cli.placing.inventory import Inventory
from heteroscale_coordinator.core.placement import Standing, SubCluster
from heteroscale_coordinator.core.topology import sub_cluster_of


def told(
    inventory: Inventory, service: str, standing: Sequence[Standing]
) -> Mapping[str, SubCluster]:
    """Return what is told of sub-clusters for one service, with what its instances hold there."""
    homes = (
        {node.view.agent_id: sub_cluster_of(node.view.topology) for node in inventory.nodes}
        if inventory.sub_clusters
        else {}
    )
    used = Counter[str]()
    for one in standing:
        for agent_id in one.agent_ids:
            used[homes.get(agent_id, "")] += one.gpus
    quotas = inventory.service_quotas
    return {
        name: replace(one, quota=quotas.get(name, {}).get(service), used=used[name])
        for name, one in inventory.sub_clusters.items()
    }


def notes(inventory: Inventory) -> Iterator[str]:
    """Yield a sentence for each sub-cluster of which something is told."""
    held = Counter[tuple[str, str]]()
    for node in inventory.nodes:
        for index in node.held:
            name = sub_cluster_of(node.view.topology)
            held[name, node.view.gpu_types.get(index, "")] += 1
    for name, one in inventory.sub_clusters.items():
        said = [f"left out, {one.left_out}"] if one.left_out else []
        said += [one.trial] if one.trial else []
        said += [
            f"{held[name, kind]} of its quota of {most} {kind} are held"
            for kind, most in sorted(one.quotas.items())
        ]
        said += [
            f"{service} may hold {most} GPUs"
            for service, most in sorted(inventory.service_quotas.get(name, {}).items())
        ]
        said += [f"{kind} costs {price:g} an hour" for kind, price in sorted(one.prices.items())]
        if said:
            yield f"sub-cluster {name or 'without a name'}: {'; '.join(said)}"
