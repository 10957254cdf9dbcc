"""RDMA: ports, their state and rate, counters, and whether engines may use them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from heteroscale.words import NicDistance
from heteroscale_agent.doctor.finding import Case, Finding, note, ok
from heteroscale_agent.doctor.gpus import pci_gpus
from heteroscale_agent.model import Nic, NicReading
from heteroscale_agent.probes.distance import Places
from heteroscale_agent.probes.rdma import RdmaProbe, rdma_rules

_GIGA = 1e9


def look(case: Case) -> Iterator[Finding]:
    """Yield every port, in the order of the reports."""
    root = case.spec.rdma.root
    if not root.is_dir():
        yield note(
            "devices",
            f"no {root}: the kernel has no RDMA device",
            "right for a host without RDMA; else load the driver (mlx5_ib, …)",
        )
        return
    rules = rdma_rules(case.spec.rdma)
    probe = RdmaProbe(root, rules)
    sight = probe.read()
    probe.close()
    if not sight.nics:
        found = sorted(path.name for path in root.iterdir())
        if found:
            why = "rdma.include and rdma.exclude leave none of them to watch"
            yield note("devices", f"{', '.join(found)}", why)
        else:
            yield note("devices", f"{root} is empty", "no driver has found an RDMA device")
        return
    for nic, reading in zip(sight.nics, sight.readings, strict=True):
        yield _port(nic, reading)
    if sight.nics:
        yield from _distances(case, sight.nics)
    yield from _verbs(case)


def _distances(case: Case, nics: Sequence[Nic]) -> Iterator[Finding]:
    """Yield how far each GPU is from its nearest port, in the words of `nvidia-smi topo -m`."""
    places = Places(case.spec.rdma.pci_root)
    nearest: dict[NicDistance | None, list[str]] = {}
    for _, address in pci_gpus(case.spec.rdma.pci_root):
        found = [far for nic in nics if (far := places.distance(address, nic.pci_address))]
        best = min(found, key=list(NicDistance).index, default=None)
        nearest.setdefault(best, []).append(address)
    for far, gpus in nearest.items():
        said = f"{len(gpus)} GPUs have their nearest port at {far.value.upper() if far else '?'}"
        if far is None:
            yield note(
                "distance", f"{said}: {', '.join(gpus[:8])}", "sysfs does not tell where it is"
            )
        elif far is NicDistance.SYS:
            todo = "KV leaves them through another socket: slower than a port of their own side"
            yield note("distance", f"{said}: {', '.join(gpus[:8])}", todo)
        else:
            yield ok("distance", said)


def _port(nic: Nic, reading: NicReading) -> Finding:
    name = f"{nic.name}/{nic.port}"
    rate = f"{nic.rate_bps / _GIGA:g} Gb/s" if nic.rate_bps else "rate unknown"
    place = f"NUMA node {nic.numa_node}" if nic.numa_node is not None else "NUMA node unknown"
    rail = "" if nic.rail is None else f", rail {nic.rail}"
    said = f"{nic.link_layer or 'link layer unknown'}, {rate}, {place}{rail}"
    if reading.active is None:
        return note(name, f"{said}; its state cannot be read", "look at the kernel's log")
    if not reading.active:
        return note(
            name, f"{said}; not active", "a port that is not cabled is right so; else: ibstat"
        )
    if reading.received_octets is None or reading.sent_octets is None:
        return note(name, f"{said}; no data counters", "its use of the link stays unknown")
    return ok(name, f"{said}, active")


def _verbs(case: Case) -> Iterator[Finding]:
    folder = Path("/dev/infiniband")
    try:
        nodes = sorted(path for path in folder.iterdir() if path.name.startswith("uverbs"))
    except OSError:
        nodes = []
    if not nodes:
        yield note(
            "device files",
            "no /dev/infiniband/uverbs*",
            "the agent needs none; engines that transfer KV over RDMA do: load ib_uverbs",
        )
        return
    closed = [node.name for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    if closed and not case.spec.templates:
        closed = []
    if closed:
        yield note("device files", f"may not open {', '.join(closed)}", "engines would not either")
    else:
        yield ok("device files", f"{len(nodes)} of /dev/infiniband/uverbs*")
