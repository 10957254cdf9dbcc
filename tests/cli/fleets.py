"""Fleets and services as files, for the commands that look at places."""

from __future__ import annotations

from pathlib import Path

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
