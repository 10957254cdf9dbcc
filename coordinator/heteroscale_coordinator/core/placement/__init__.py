"""Where: a step {ΔP, ΔD} finds its nodes, or the reasons why not; a scale-in finds its victims.

Rules of the service (``rules``) → filter (``feasible``) → fit (``pack``) → rank → choose (``plan``), on a
view of the fleet that is kept up to date node by node (``view``); what would help where there is no
place: ``remedy``. Pure, deterministic, and ignorant of why anything is asked.
"""

from heteroscale_coordinator.core.placement.cell import Cell, Tally
from heteroscale_coordinator.core.placement.classes import ClassChange
from heteroscale_coordinator.core.placement.crowds import Crowds, keep_apart
from heteroscale_coordinator.core.placement.cycle import Cycle
from heteroscale_coordinator.core.placement.domains import VIEW_LEVELS
from heteroscale_coordinator.core.placement.feeds import may_become
from heteroscale_coordinator.core.placement.fragments import Fragments
from heteroscale_coordinator.core.placement.indices import choose
from heteroscale_coordinator.core.placement.kind import Terms, intolerable, unwelcome
from heteroscale_coordinator.core.placement.limits import NO_LIMITS, Limits
from heteroscale_coordinator.core.placement.plan import SAID
from heteroscale_coordinator.core.placement.remedy import Remedy, remedies
from heteroscale_coordinator.core.placement.repair import Move, flaws, pairs_of, repair
from heteroscale_coordinator.core.placement.request import Outcome, Request
from heteroscale_coordinator.core.placement.values import (
    Ask,
    Infeasible,
    NodeView,
    Placed,
    Spot,
    Standing,
    SubCluster,
    Victims,
)
from heteroscale_coordinator.core.placement.victims import choose_victims
from heteroscale_coordinator.core.placement.view import FleetView, place

__all__ = [
    "NO_LIMITS",
    "SAID",
    "VIEW_LEVELS",
    "Ask",
    "Cell",
    "ClassChange",
    "Crowds",
    "Cycle",
    "FleetView",
    "Fragments",
    "Infeasible",
    "Limits",
    "Move",
    "NodeView",
    "Outcome",
    "Placed",
    "Remedy",
    "Request",
    "Spot",
    "Standing",
    "SubCluster",
    "Tally",
    "Terms",
    "Victims",
    "choose",
    "choose_victims",
    "flaws",
    "intolerable",
    "keep_apart",
    "may_become",
    "pairs_of",
    "place",
    "remedies",
    "repair",
    "unwelcome",
]
