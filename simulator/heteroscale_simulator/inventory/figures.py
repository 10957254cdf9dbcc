"""What an inventory came to, counted from the hosts that its document means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from heteroscale_coordinator.core.topology import SubgroupClass, Tree
from heteroscale_simulator.fleet import Host, views


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of a fleet."""

    nodes: int
    gpus: dict[str, int]
    """By type, all of them."""
    gpus_by_class: dict[str, dict[str, int]]
    """By subgroup class and type."""
    domains: dict[str, int]
    """By level."""
    s1_by_class: dict[str, int]
    """S1 domains by the class of their nodes."""
    nodes_at_fault: int
    """Hosts that take nothing: down, or without a link."""
    gpus_broken: int
    """GPUs that do not work on the other hosts."""


def figures(there: Sequence[Host]) -> Figures:
    """Count the hosts of a fleet."""
    tree = Tree(views(there, ()))
    gpus: Counter[str] = Counter()
    by_class = {one.name.lower(): Counter[str]() for one in SubgroupClass}
    s1s: dict[tuple[str, ...], str] = {}
    domains: dict[str, set[tuple[str, ...]]] = {}
    for host in there:
        name = tree.class_of(host.name).name.lower()
        gpus[host.gpu_type] += host.gpus
        by_class[name][host.gpu_type] += host.gpus
        s1s[tree.near(host.name)] = name
        path: tuple[str, ...] = ()
        for level in ("vdc", "physical_cluster", "logical_cluster", "s2", "s1"):
            if level in host.topology:
                path = (*path, host.topology[level])
                domains.setdefault(level, set()).add(path)
    return Figures(
        nodes=len(there),
        gpus=dict(gpus),
        gpus_by_class={name: dict(count) for name, count in by_class.items()},
        domains={level: len(paths) for level, paths in domains.items()},
        s1_by_class=dict(Counter(s1s.values())),
        nodes_at_fault=sum(bool(host.fault) for host in there),
        gpus_broken=sum(len(host.broken) for host in there if not host.fault),
    )


def lines(found: Figures) -> list[str]:
    """Return the figures as a few lines to read."""
    gpus = ", ".join(f"{count:,} {name}" for name, count in found.gpus.items())
    levels = ", ".join(f"{count:,} {level}" for level, count in found.domains.items())
    said = [f"{found.nodes:,} nodes: {gpus}", f"domains: {levels}"]
    for name, count in found.gpus_by_class.items():
        there = ", ".join(f"{number:,} {kind}" for kind, number in count.items()) or "no GPUs"
        said.append(f"{name} class: {found.s1_by_class.get(name, 0):,} s1, {there}")
    said.append(f"at fault: {found.nodes_at_fault:,} nodes, {found.gpus_broken:,} GPUs of others")
    return said
