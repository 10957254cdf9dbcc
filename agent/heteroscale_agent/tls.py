"""TLS for those who speak https, loaded when the first of them does.

OpenSSL is five megabytes in a process whose own stream has gRPC's. asyncio would load it wherever it
is installed; the package keeps it out (`heteroscale_agent.__init__`) until an https address is met.
"""

from __future__ import annotations

import asyncio.sslproto
import importlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

_loading = threading.Lock()


def context(ca_file: Path | None = None, ca_data: str | None = None) -> ssl.SSLContext:
    """Return a client's context that trusts these authorities; without any, the system's.

    Raises:
        OSError: the file cannot be read, or an authority is no certificate (`ssl.SSLError`).
        ValueError: the data are no certificate.

    """
    load()
    import ssl  # noqa: PLC0415 - see above

    return ssl.create_default_context(cafile=ca_file, cadata=ca_data)


def load() -> None:
    """Let asyncio speak TLS, if it was loaded without. Any thread may ask for it."""
    with _loading:
        if getattr(asyncio.sslproto, "ssl", None) is not None:
            return
        ssl = importlib.import_module("ssl")
        # It asks while it is loaded whether there is TLS; the others ask whenever they need it.
        importlib.reload(asyncio.sslproto)
        for name, module in list(sys.modules.items()):
            if name.startswith("asyncio.") and getattr(module, "ssl", ssl) is None:
                module.ssl = ssl  # type: ignore[attr-defined]
