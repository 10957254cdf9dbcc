"""The plant: engines, queues, KV transfers and hardware, moved on second by second.

``port`` says what a plant can do; ``flow`` is the one that runs fleets.
"""

from heteroscale_simulator.plant.flow import FlowPlant

__all__ = ["FlowPlant"]
