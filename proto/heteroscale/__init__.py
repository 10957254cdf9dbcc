"""The language that agent, coordinator and operator share: the wire, and the documents people write."""

__version__ = "0.1.0"
