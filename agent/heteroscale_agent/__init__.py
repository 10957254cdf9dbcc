"""The sidecar of a GPU host: it sees, says and does; it decides nothing."""

from heteroscale.lean import load_without, load_without_plugins

# structlog draws tracebacks with rich wherever that is installed: seven megabytes for the day when
# something breaks, and every local variable, secrets too, in the log.
load_without("structlog", "rich")
# pydantic asks every installed distribution for plugins: three megabytes, and code that nobody meant
# to run beside the engines, perhaps as root.
load_without_plugins("heteroscale.documents")
# NVML's binding comes with the library of archives; nothing is packed or unpacked here.
load_without("shutil", "bz2", "lzma")
