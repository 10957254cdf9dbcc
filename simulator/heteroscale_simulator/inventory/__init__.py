"""Made-up inventories: counts of nodes become a fleet with switches, mixed domains and faults."""

from heteroscale_simulator.inventory.build import Inventory, build
from heteroscale_simulator.inventory.text import fleet_text
from heteroscale_simulator.inventory.wish import Kind, Wish, WishError

__all__ = ["Inventory", "Kind", "Wish", "WishError", "build", "fleet_text"]
