"""Where things are and where they would go: the topology of a fleet, and plans on it.

The coordinator's own placement answers (``heteroscale_coordinator.core``), here instead of there: a
plan for ten thousand nodes must not take a moment from the turn.
"""
