"""Fleets and services for the commands that look at places: as files, as values, and as answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heteroscale.documents import read_documents
from heteroscale.v1 import operator_pb2 as pb
from heteroscale_cli.placing.inventory import Inventory, Node
from heteroscale_coordinator.core.placement import NodeView
from heteroscale_coordinator.core.spec import ServiceDocument, ServiceSpec

FLEET = """\
apiVersion: heteroscale/v1
kind: Fleet
metadata: {name: east}
spec:
  pools:
    - {name: h20, nodes: 8, gpuType: H20, topology: {name: hall, nodesPerS1: 4, s1PerS2: 2}}
    - {name: h100, nodes: 4, gpuType: H100, topology: {name: hall, nodesPerS1: 2, s1PerS2: 2}}
    - {name: l20, nodes: 30, gpuType: L20, topology: {nodesPerS1: 5, s1PerS2: 3}}
"""

CHAT = """\
apiVersion: heteroscale/v1
kind: Service
metadata: {name: chat}
spec:
  roles:
    prefill: {template: p, gpuTypes: [H100], gpus: 4, min: 2, max: 8}
    decode: {template: d, gpuTypes: [H20, L20], gpus: 8, min: 3, max: 16}
  ratio: {min: 0.25, max: 1}
"""


def fleet_file(folder: Path, text: str = FLEET, name: str = "fleet.yaml") -> str:
    """Write a fleet; return its path."""
    return _written(folder / name, text)


def service_file(folder: Path, text: str = CHAT, name: str = "chat.yaml") -> str:
    """Write a service; return its path."""
    return _written(folder / name, text)


def _written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def node(
    name: str, gpu_type: str = "H20", held: int = 0, gpus: int = 8, why_not: str = "", **levels: str
) -> Node:
    """Return a node whose first GPUs are held; ``why_not``: nothing new may come to it, and why."""
    view = NodeView(
        agent_id=name,
        hostname=name,
        topology=levels,
        gpu_types=dict.fromkeys(range(gpus), gpu_type),
        free=tuple(range(held, gpus)),
        templates=frozenset(),
        usable=not why_not,
        why_not=why_not,
    )
    return Node(view, frozenset(range(held)))


def busy() -> Inventory:
    """Two S1s of two types with every kind of use in them, and a node that names no S1."""
    nodes = [
        node("a1", held=8, s1="x", s2="z"),
        node("a2", "L20", held=3, s1="x", s2="z"),
        node("b1", s1="y", s2="z"),
        node("b2", held=2, s1="y", s2="z", why_not="cordoned: fans"),
        node("c1", s2="z"),
    ]
    return Inventory("busy", tuple(nodes))


def live_node(
    name: str,
    s1: str,
    *,
    held: int = 0,
    closed: str = "",
    gpu: str = "H20",
    numa_nodes: Sequence[int] = (),
    nvlink_groups: Sequence[int] = (),
    taints: Sequence[str] = (),
    limping: Sequence[int] = (),
) -> pb.Node:
    """Return a node of eight GPUs as a coordinator tells it."""
    room = pb.NodeRoom(
        gpu_types=[gpu],
        gpu_indices=range(8),
        free_gpus=range(held, 8),
        held_gpus=range(held),
        templates=["p", "d"],
        closed=closed,
        numa_nodes=numa_nodes,
        nvlink_groups=nvlink_groups,
        taints=taints,
        limping_gpus=limping,
    )
    return pb.Node(agent_id=name, hostname=f"host-{name}", topology={"s1": s1}, room=room)


def spec_of(text: str) -> ServiceSpec:
    """Return what a service's YAML says."""
    return read_documents(text, "x.yaml")[0].parse(ServiceDocument).spec
