"""An inventory as a document of kind Fleet: a line for the nodes of a kind in one S1."""

from __future__ import annotations

import json
from collections.abc import Iterator

from heteroscale_simulator.inventory.build import Fault, Inventory, Stand
from heteroscale_simulator.inventory.wish import Kind, Wish


def fleet_text(inventory: Inventory, made_by: str) -> str:
    """Return the document as YAML; ``made_by`` is the command that its first line tells."""
    return "\n".join(_lines(inventory, made_by)) + "\n"


def _lines(inventory: Inventory, made_by: str) -> Iterator[str]:
    yield f"# Made by: {made_by}"
    yield "apiVersion: heteroscale/v1"
    yield "kind: Fleet"
    yield f"metadata: {{name: {inventory.wish.name}}}"
    yield "spec:"
    yield "  clusters:"
    for name, (site, vdc) in inventory.clusters.items():
        yield f"    {name}: {{physicalCluster: {site}, vdc: {vdc}}}"
    yield "  pools:"
    for kind, stands in inventory.stands.items():
        yield from _pool(kind, stands, inventory.wish)
    if inventory.faults:
        yield "  faults:"
        yield from map(_fault, inventory.faults)


def _pool(kind: Kind, stands: tuple[Stand, ...], wish: Wish) -> Iterator[str]:
    yield f"    - name: {kind.pool}"
    yield f"      nodes: {kind.nodes}"
    yield f"      gpuType: {json.dumps(kind.gpu_type)}"
    yield f"      gpusPerNode: {kind.gpus}"
    if (price := wish.prices.get(kind.gpu_type)) is not None:
        yield f"      pricePerGpuHour: {price:g}"
    if wish.numa_nodes and kind.gpus % wish.numa_nodes == 0:
        yield f"      numaNodes: {wish.numa_nodes}"
    if (groups := wish.nvlink.get(kind.gpu_type)) is not None:
        yield f"      nvlinkGroups: {groups}"
    yield "      topology:"
    yield "        places:"
    for one in stands:
        where = f"s1: {one.s1}, s2: {one.s2}, logicalCluster: {one.cluster}"
        yield f"          - {{nodes: {one.nodes}, {where}}}"


def _fault(fault: Fault) -> str:
    what = ["down: true"] if fault.down else []
    what += [f"gpus: {list(fault.gpus)}"] if fault.gpus else []
    what += [f"links: {list(fault.links)}"] if fault.links else []
    return f"    - {{host: {fault.host}, {', '.join(what)}}}"
