"""The language that agent, coordinator and operator share: the wire, and the documents people write."""
