"""Traffic: recordings and generators, as arrivals by the second that the plant can play."""
