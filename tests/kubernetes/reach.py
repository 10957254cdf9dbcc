"""How a cluster is reached: what a kubeconfig says, as an httpx client."""

from __future__ import annotations

import base64
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml


@dataclass(frozen=True)
class Reach:
    """The present context of a kubeconfig."""

    url: str
    token: str = ""
    authority: bytes = b""
    """PEM; empty: those of the system."""
    certificate: bytes = b""
    key: bytes = b""
    careless: bool = False

    def client(self) -> httpx.Client:
        """Return a client for this cluster; its user agent is ``kube-tests``."""
        headers = {"User-Agent": "kube-tests"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        verify: Any = self._context() if self.url.startswith("https") else False
        return httpx.Client(
            base_url=self.url, headers=headers, verify=verify, timeout=60.0, trust_env=False
        )

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.decode() or None)
        if self.careless:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.certificate:
            # The ssl module reads these from files alone.
            with tempfile.NamedTemporaryFile() as pem:
                pem.write(self.certificate + b"\n" + self.key)
                pem.flush()
                context.load_cert_chain(pem.name)
        return context


def _named(entries: list[dict[str, Any]], name: str, key: str) -> dict[str, Any]:
    return next(dict(one[key]) for one in entries if one["name"] == name)


def _bytes(where: dict[str, Any], key: str, home: Path) -> bytes:
    if f"{key}-data" in where:
        return base64.b64decode(where[f"{key}-data"])
    return (home / where[key]).read_bytes() if key in where else b""


def read(path: Path) -> Reach:
    """Return what the present context of a kubeconfig says."""
    said = yaml.safe_load(path.read_text())
    context = _named(said["contexts"], said["current-context"], "context")
    cluster = _named(said["clusters"], context["cluster"], "cluster")
    user = _named(said["users"], context["user"], "user")
    return Reach(
        cluster["server"],
        user.get("token", ""),
        _bytes(cluster, "certificate-authority", path.parent),
        _bytes(user, "client-certificate", path.parent),
        _bytes(user, "client-key", path.parent),
        bool(cluster.get("insecure-skip-tls-verify")),
    )
