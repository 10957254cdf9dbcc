"""A placement under a service's own rules: cost, KV-compatibility, spread; then the search as ever.

Each rule only changes what the search is asked, so that none of them is in its way: an order of types
(``cost``), a narrower choice of types (``feeds``), nodes that are full (``spread``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from heteroscale_coordinator.core.placement import plan
from heteroscale_coordinator.core.placement.cost import in_order
from heteroscale_coordinator.core.placement.feeds import choices
from heteroscale_coordinator.core.placement.spread import Search, spread
from heteroscale_coordinator.core.placement.values import (
    Ask,
    Infeasible,
    NodeView,
    Placed,
    Standing,
)


def place(ask: Ask, nodes: Sequence[NodeView], standing: Sequence[Standing]) -> Placed | Infeasible:
    """Return where the instances of ``ask.delta`` go, all of them, or why they cannot.

    ``nodes`` is the whole fleet, the unusable too: it shapes the tree. ``standing`` are the
    service's own instances. Counts of zero or less ask for nothing.
    """

    def search(
        asked: Ask,
        stand: Sequence[Standing],
        shut: Mapping[str, str],
        taken: Mapping[str, frozenset[int]],
    ) -> Placed | Infeasible:
        if not shut and not taken:
            return plan.place(asked, nodes, stand)
        return plan.place(asked, [_less(node, shut, taken) for node in nodes], stand)

    return under_rules(ask, nodes, standing, search)


def under_rules(
    ask: Ask, nodes: Sequence[NodeView], standing: Sequence[Standing], search: Search
) -> Placed | Infeasible:
    """Return what ``search`` finds for the ask under the rules of its service."""
    counts = {role: count for role, count in ask.delta.items() if count > 0}
    if not counts or counts.keys() - ask.roles.keys():
        return search(ask, standing, {}, {})
    kinds = _kinds(ask, nodes)
    ordered, why = in_order(replace(ask, delta=counts), kinds)
    allowed, none = choices(ordered, standing, kinds)
    if none is not None:
        return none
    found: Placed | Infeasible | None = None
    for narrowed in allowed:
        answer = spread(narrowed, nodes, standing, search)
        if isinstance(answer, Placed):
            return replace(answer, reason=f"{answer.reason}; {why}") if why else answer
        found = found or answer
    return found or Infeasible(())


def _kinds(ask: Ask, nodes: Sequence[NodeView]) -> frozenset[str]:
    """Return the GPU types of the fleet, where a rule has to know them."""
    if all(ask.roles[role].gpu_types for role in ask.delta if role in ask.roles):
        return frozenset()
    if not (ask.prices or ask.vendors or ask.placement.feeds):
        return frozenset()
    return frozenset(kind for node in nodes for kind in node.gpu_types.values())


def _less(node: NodeView, shut: Mapping[str, str], taken: Mapping[str, frozenset[int]]) -> NodeView:
    """Return a node without what is taken, and not usable where it is shut."""
    gone = taken.get(node.agent_id)
    if gone:
        node = replace(node, free=tuple(index for index in node.free if index not in gone))
    why = shut.get(node.agent_id)
    return replace(node, usable=False, why_not=why) if why and node.usable else node
