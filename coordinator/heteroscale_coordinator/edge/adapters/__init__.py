"""The driver: shows the world of a cluster's scheduler to the core as agents, and does what it orders.

``Drivers`` holds one ``Driver`` for each adapter. See ADR 17.
"""

from heteroscale_coordinator.edge.adapters.driver import Driver
from heteroscale_coordinator.edge.adapters.drivers import Drivers
from heteroscale_coordinator.edge.adapters.leased import LeasedAdapter
from heteroscale_coordinator.edge.adapters.pace import Pace

__all__ = ["Driver", "Drivers", "LeasedAdapter", "Pace"]
