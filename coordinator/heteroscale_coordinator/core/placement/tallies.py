"""How nodes count in their domains: free GPUs by type and class, nodes by shape, and what is whole."""

from __future__ import annotations

from heteroscale_coordinator.core.placement.domains import Domains, Site
from heteroscale_coordinator.core.placement.fragments import Wholes
from heteroscale_coordinator.core.placement.kind import Terms
from heteroscale_coordinator.core.placement.shape import Shapes
from heteroscale_coordinator.core.placement.values import NodeView

NO_INDICES: frozenset[int] = frozenset()


class Tallies:
    """Counts the nodes of a tree of domains, each when it comes, changes and goes."""

    def __init__(self, domains: Domains) -> None:
        self.shapes, self.wholes = Shapes(), Wholes()
        self.held: dict[str, frozenset[int]] = {}
        """GPUs that are kept for somebody, by agent."""
        self._domains = domains
        self._stamp = 0

    def look(self, site: Site) -> None:
        """Read what of a node may be taken."""
        node, held = site.node, self.held.get(site.node.agent_id, NO_INDICES)
        free: dict[str, list[int]] = {}
        types = node.gpu_types
        may = set(node.free) - held
        for index in sorted(may):
            free.setdefault(types.get(index, ""), []).append(index)
        site.free = {kind: tuple(free[kind]) for kind in sorted(free)}
        site.whole = node.usable and bool(types) and may >= types.keys()
        usable = site.free if node.usable else {}
        site.shape = self.shapes.of_node(site.filed, _terms(node), usable)

    def file(self, site: Site) -> None:
        """Count a node that was looked at in the domains above it."""
        self._count(site, +1)
        node, shape = site.node, site.shape
        self._stamp += 1
        for cell in site.heavy:
            if not node.usable:
                cell.close(node.agent_id)
            else:
                cell.allow(_terms(node), +1)
                if node.closed:
                    cell.barred[node.agent_id] = len(node.closed)
            if shape is not None:
                cell.put(shape, node.agent_id)
                cell.stamp = self._stamp
            self._domains.index(cell)

    def unfile(self, site: Site) -> None:
        """Take a node out of all counts."""
        self._count(site, -1)
        node, shape = site.node, site.shape
        self._stamp += 1
        for cell in site.heavy:
            if not node.usable:
                cell.open(node.agent_id)
            else:
                cell.allow(_terms(node), -1)
                cell.barred.pop(node.agent_id, None)
            if shape is not None:
                cell.take(shape, node.agent_id)
                cell.stamp = self._stamp

    def renew(self, site: Site, node: NodeView) -> None:
        """Take over what changed of a node that stays where it is."""
        before, free, shape = site.node, site.free, site.shape
        if (
            before.usable != node.usable
            or before.templates != node.templates
            or before.taints != node.taints
            or before.closed != node.closed
        ):
            self.unfile(site)
            site.node = node
            self.look(site)
            self.file(site)
            return
        self.wholes.add(site, -1)
        site.node = node
        self.look(site)
        self.wholes.add(site, +1)
        for kind in {**free, **site.free}:
            more = len(site.free.get(kind, ())) - len(free.get(kind, ()))
            counts = (0, more, 0) if node.usable else (0, 0, more)
            if more:
                for cell in site.chain:
                    cell.count(site.filed, kind, *counts)
        if site.shape is not shape:
            self._stamp += 1
            for cell in site.heavy:
                if shape is not None:
                    cell.take(shape, node.agent_id)
                if site.shape is not None:
                    cell.put(site.shape, node.agent_id)
                cell.stamp = self._stamp
                self._domains.index(cell)

    def _count(self, site: Site, sign: int) -> None:
        self.wholes.add(site, sign)
        usable, free = site.node.usable, site.free
        for kind in {**site.gpus, **free}:
            idle = sign * len(free.get(kind, ()))
            gpus = sign * site.gpus.get(kind, 0)
            counts = (gpus, idle, 0) if usable else (gpus, 0, idle)
            for cell in site.chain:
                cell.count(site.filed, kind, *counts)


def _terms(node: NodeView) -> Terms:
    return Terms(node.templates, node.taints)
