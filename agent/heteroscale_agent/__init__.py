"""The sidecar of a GPU host: it sees, says and does; it decides nothing."""

from heteroscale.lean import load_without

# structlog draws tracebacks with rich wherever that is installed: seven megabytes for the day when
# something breaks, and every local variable, secrets too, in the log.
load_without("structlog", "rich")
