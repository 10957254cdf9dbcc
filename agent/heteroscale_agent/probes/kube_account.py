"""Where the Kubernetes API is, and what opens it: a token, and the authority that is trusted there.

The token is read for each request, because the kubelet rotates it; the authority is made use of anew
when its file has changed. A token goes nowhere in clear text but to this very host.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from heteroscale_agent import tls
from heteroscale_agent.config.places import KubernetesAccess
from heteroscale_agent.probes.source import SourceError, read_file

if TYPE_CHECKING:
    import ssl


class Account:
    """A pod's service account, or what the configuration names in its place. Its reads may block."""

    def __init__(self, access: KubernetesAccess, environ: Mapping[str, str]) -> None:
        self._access = access
        self._environ = environ
        self._tls: ssl.SSLContext | None = None
        self._authority = ""

    @property
    def server(self) -> str:
        """The API server's address; empty: not in a pod, and none is configured."""
        return self._access.api_server.rstrip("/") or _in_cluster(self._environ)

    def secrets(self) -> tuple[str, ssl.SSLContext | None]:
        """Return the token, and how to trust the server; None: it is on this host, without TLS.

        Raises:
            SourceError: a file is missing or holds nothing of use, or the server would be told in clear.

        """
        token = read_file(self._access.token_file).strip()
        if not token or not token.isascii() or not token.isprintable():
            raise SourceError(f"{self._access.token_file} holds no token")
        if not self.server.startswith("https://"):
            # A token in clear text is everybody's on the way.
            if not _loopback(self.server):
                raise SourceError(f"{self.server} is not https: the token is not sent there")
            return token, None
        return token, self._trust()

    def _trust(self) -> ssl.SSLContext:
        authority = read_file(self._access.ca_file)
        if self._tls is None or authority != self._authority:
            if "CERTIFICATE" not in authority:
                # Nothing at all would make it trust every authority of the system.
                raise SourceError(f"{self._access.ca_file} holds no certificate")
            try:
                self._tls = tls.context(ca_data=authority)
            except (OSError, ValueError) as error:
                raise SourceError(f"{self._access.ca_file} holds no certificate") from error
            self._authority = authority
        return self._tls


def _in_cluster(environ: Mapping[str, str]) -> str:
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://{f'[{host}]' if ':' in host else host}:{port}" if host else ""


def _loopback(server: str) -> bool:
    try:
        host = urlsplit(server).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
