"""Trust: by which files the agent and its coordinator know each other."""

from __future__ import annotations

from pathlib import Path

from heteroscale.channel import TlsFiles
from heteroscale.documents import DocumentModel


class TlsSettings(DocumentModel):
    """PEM files of the link. The server is always checked against `ca`."""

    ca: Path | None = None
    """The authority that signed the coordinator's certificate."""
    certificate: Path | None = None
    """This agent's own certificate, for mutual TLS."""
    key: Path | None = None
    """The certificate's private key."""
    server_name: str = ""
    """The name in the coordinator's certificate, where it is another than the one dialled."""

    def files(self) -> TlsFiles:
        """Return them as the channel wants them."""
        return TlsFiles(self.ca, self.certificate, self.key, self.server_name)
