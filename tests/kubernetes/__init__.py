"""A small Kubernetes API server, the parts that tests play beside it, and what both are held to."""
