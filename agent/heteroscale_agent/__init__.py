"""The sidecar of a GPU host: it sees, says and does; it decides nothing."""

from importlib.util import find_spec

from heteroscale.lean import load_without, load_without_plugins

# OpenSSL is five megabytes. gRPC brings its own, and `heteroscale_agent.tls` gives asyncio this one when
# an https address is met. Hashes come from Python itself, where it was built with its own.
load_without("asyncio", "ssl")
if find_spec("_md5") and find_spec("_sha1") and find_spec("_sha3") and find_spec("_blake2"):
    load_without("hmac", "_hashlib")

# structlog draws tracebacks with rich wherever that is installed: seven megabytes for the day when
# something breaks, and every local variable, secrets too, in the log.
load_without("structlog", "rich")
# pydantic asks every installed distribution for plugins: three megabytes, and code that nobody meant
# to run beside the engines, perhaps as root.
load_without_plugins("heteroscale.documents")
# NVML's binding comes with the library of archives; nothing is packed or unpacked here.
load_without("shutil", "bz2", "lzma")
