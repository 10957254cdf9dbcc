"""Several coordinators of one cluster, as processes."""
