"""The sidecar of a GPU host: it sees, says and does; it decides nothing."""
