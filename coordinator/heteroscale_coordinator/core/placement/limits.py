"""What one service may not use of the fleet for a while, though others may: kept back as it is placed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from heteroscale_coordinator.core.placement.indices import choose
from heteroscale_coordinator.core.placement.values import NodeView
from heteroscale_coordinator.core.placement.view import FleetView


@dataclass(frozen=True, slots=True)
class Limits:
    """Nodes and GPU types that are closed to a service, or open to one trial alone."""

    shut: Mapping[str, str] = field(default_factory=dict)
    """Agents of the nodes, and why."""
    types: frozenset[str] = frozenset()
    """GPU types of which it may use none."""
    trial_nodes: frozenset[str] = frozenset()
    trial_types: frozenset[str] = frozenset()
    """Only ``trial`` GPUs are offered there, on each node."""
    trial: int = 0

    @contextmanager
    def within(self, view: FleetView) -> Iterator[FleetView]:
        """Give what a service may use of the view, for a while."""
        with view.less(self.shut, self._kept_back(view)) as less:
            yield less

    def _kept_back(self, view: FleetView) -> dict[str, frozenset[int]]:
        types = self.types | self.trial_types
        touched: list[NodeView] = []
        if types:
            # Seldom: a whole type is closed, or only tried.
            touched += (node for node in view if not types.isdisjoint(node.gpu_types.values()))
        extra = sorted(self.trial_nodes - {node.agent_id for node in touched})
        touched += (node for agent in extra if (node := view.node(agent)) is not None)
        return {node.agent_id: frozenset(node.free) - self._offered(node) for node in touched}

    def _offered(self, node: NodeView) -> frozenset[int]:
        """Return the free GPUs, only one instance's where a trial is all that is allowed."""
        free = [index for index in node.free if node.gpu_types[index] not in self.types]
        tried = [index for index in free if node.gpu_types[index] in self.trial_types]
        layout = node.layout
        offered = {*free} - {*tried} | {*choose(tried, self.trial, layout)}
        return frozenset(
            choose(offered, self.trial, layout) if node.agent_id in self.trial_nodes else offered
        )


NO_LIMITS = Limits()
