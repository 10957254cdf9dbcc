"""Services as objects of Kubernetes: definition, ownership, status, events."""
