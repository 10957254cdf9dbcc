"""The configuration files of a local cluster's coordinator and agents, as plain data."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heteroscale.documents import format_duration
from heteroscale_workbench.cluster.layout import Host, Layout

ROLES = ("prefill", "decode")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one agent works: the coordinator it dials, its folder, its ports, its NVML library."""

    coordinator: str
    folder: Path
    ports: range
    library: Path
    seen_dir: Path


def coordinator(layout: Layout, address: str, http_address: str) -> dict[str, Any]:
    """Return the Coordinator document."""
    spec = {
        "listen": address,
        "http": {"listen": http_address},
        "clusterId": "local",
        "dataDir": str(layout.directory / "coordinator"),
        "rules": layout.rules.document(),
    }
    return _document("Coordinator", {**spec, **layout.coordinator_spec})


def agent(layout: Layout, host: Host, place: Place) -> dict[str, Any]:
    """Return the Agent document of ``host``."""
    spec = {
        "coordinator": place.coordinator,
        "agentId": host.name,
        "stateDir": str(place.folder / "state"),
        "topology": _levels(host),
        "reconnectWithin": "2s",
        "sampleInterval": format_duration(layout.sample_interval),
        "reconcileInterval": format_duration(layout.reconcile_interval),
        "ports": {"first": place.ports.start, "last": place.ports.stop - 1},
        "gpu": {"library": str(place.library)},
        "rdma": {
            "root": str(place.folder / "rdma" / "infiniband"),
            "pciRoot": str(place.folder / "rdma" / "pci"),
            "railsInOrder": True,
        },
        "engines": [dict(engine) for engine in host.static_engines],
        "templates": {role: _template(role, layout, host, place) for role in ROLES},
    }
    return _document("Agent", {**spec, **layout.agent_spec})


def _levels(host: Host) -> dict[str, str]:
    levels = {"s1": host.s1, "s2": host.s2, "physical_cluster": host.physical_cluster}
    return {level: name for level, name in levels.items() if name}


def _template(role: str, layout: Layout, host: Host, place: Place) -> dict[str, Any]:
    command = [
        *(sys.executable, "-m", "heteroscale_workbench.engine_sim"),
        *("--port", "{port}", "--bootstrap-port", "{bootstrap_port}", "--mode", role),
        *("--metrics", layout.flavour, "--gpu", host.gpu_types[0]),
        *("--startup", str(layout.engine_startup)),
        "--enable-pd-role-switch",
        *("--domain", f"s0={host.name},s1={host.s1},s2={host.s2}"),
        *("--gpu-state", f"{place.folder}/busy-{{gpus}}.json"),
        *layout.engine_options,
        *host.engine_options,
    ]
    return {
        "command": command,
        "role": role,
        "engine": layout.flavour,
        # Agents hand nothing on that is called HETEROSCALE_…, so engines are told here.
        "env": {"HETEROSCALE_SEEN_DIR": str(place.seen_dir)},
        "readiness": {"period": "0.3s", "timeout": "2s"},
        "roleSwitch": {"settle": "1s", "timeout": "10s"},
    }


def _document(kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "heteroscale/v1", "kind": kind, "spec": dict(spec)}
