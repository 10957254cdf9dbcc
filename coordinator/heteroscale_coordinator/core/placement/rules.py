"""A placement under a service's own rules: cost, KV-compatibility, spread; then the search as ever.

Each rule only changes what the search is asked, so that none of them is in its way: an order of types
(``cost``), a narrower choice of types (``feeds``), nodes that are full (``spread``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from heteroscale_coordinator.core.placement.cost import in_order
from heteroscale_coordinator.core.placement.feeds import choices
from heteroscale_coordinator.core.placement.spread import Search, spread
from heteroscale_coordinator.core.placement.values import (
    Ask,
    Infeasible,
    Placed,
    Standing,
)

if TYPE_CHECKING:
    from heteroscale_coordinator.core.placement.view import FleetView


def under_rules(
    ask: Ask, view: FleetView, standing: Sequence[Standing], search: Search
) -> Placed | Infeasible:
    """Return what ``search`` finds in the view for the ask under the rules of its service."""
    counts = {role: count for role, count in ask.delta.items() if count > 0}
    if not counts or counts.keys() - ask.roles.keys():
        return search(ask, standing)
    kinds = _kinds(ask, view)
    ordered, why = in_order(replace(ask, delta=counts), kinds)
    allowed, none = choices(ordered, standing, kinds)
    if none is not None:
        return none
    found: Placed | Infeasible | None = None
    for narrowed in allowed:
        answer = spread(narrowed, view, standing, search)
        if isinstance(answer, Placed):
            return replace(answer, reason=f"{answer.reason}; {why}") if why else answer
        found = found or answer
    return found or Infeasible(())


def _kinds(ask: Ask, view: FleetView) -> frozenset[str]:
    """Return the GPU types of the fleet, where a rule has to know them."""
    if all(ask.roles[role].gpu_types for role in ask.delta if role in ask.roles):
        return frozenset()
    if not (ask.prices or ask.vendors or ask.placement.feeds):
        return frozenset()
    return frozenset(kind for kind, tally in view.root.by_type().items() if tally.gpus)
