"""Where the host stands in the network, who says so, and what that means for placement."""

from __future__ import annotations

from heteroscale_agent.probes.topology.explain import explain, meaning
from heteroscale_agent.probes.topology.found import Answer, Found, settle
from heteroscale_agent.probes.topology.names import TopologyError
from heteroscale_agent.probes.topology.sources import VARIABLE
from heteroscale_agent.probes.topology.watch import TopologyWatch, look

__all__ = [
    "VARIABLE",
    "Answer",
    "Found",
    "TopologyError",
    "TopologyWatch",
    "explain",
    "look",
    "meaning",
    "settle",
]
