"""``heteroscale simulate``: a service, a fleet and a trace under one policy or several."""
