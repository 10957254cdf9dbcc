"""The documents that ``heteroscale advise -f`` reads: a service, its signals, a coordinator's servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heteroscale.documents import Document, read_file
from heteroscale_advisor.policy import ADVISED
from heteroscale_coordinator.config import CoordinatorDocument
from heteroscale_coordinator.core.spec import ServiceDocument, ServiceSpec
from heteroscale_coordinator.edge.prometheus.spec import (
    SignalsDocument,
    WatchedServer,
)

_LIVE = {"interval", "gone_after", "timeout", "max_bytes"}
"""How a server is asked all the time; how it is asked once is the command line's."""


class UsageError(ValueError):
    """Wrong usage; the message says what would be right."""


@dataclass
class Files:
    """What they say. What is not said is missing, so that others may say it."""

    name: str = ""
    """Of the service."""
    service: ServiceSpec | None = None
    """The policy to be tried."""
    signals: dict[str, Any] = field(default_factory=dict)
    """Fields of a Signals document, by their names in Python."""
    servers: Mapping[str, WatchedServer] | None = None
    """A coordinator's, by name; None: no such document."""

    def prometheus(self, *, address: bool) -> dict[str, Any]:
        """Return the fields of a ``PrometheusSpec`` that files say.

        A Signals document goes before the service's own ``signals``. ``address``: whether where the
        server is, and how one logs in, is to be found in a file.

        Raises:
            UsageError: the service names a server that no file knows.

        """
        found: dict[str, Any] = {}
        mine = self.service.signals if self.service is not None else None
        if mine is not None and mine.source == "prometheus":
            found = mine.model_dump(exclude_unset=True, exclude={"source", "server"})
        wanted = mine.server if mine is not None else None
        if address and "url" not in self.signals and (wanted or self.servers):
            found |= self._server(wanted)
        return found | self.signals

    def _server(self, wanted: str | None) -> dict[str, Any]:
        servers = self.servers or {}
        if wanted is None and len(servers) == 1:
            (wanted,) = servers
        if wanted is None or wanted not in servers:
            known = ", ".join(sorted(servers)) or "none"
            asked = f"the server {wanted!r} that `signals` names" if wanted else "one of several"
            raise UsageError(
                f"--prometheus URL is missing: {asked} has its address in a coordinator's document. "
                f"Give that (-f coordinator.yaml; known: {known}), or --prometheus"
                + ("" if wanted else ", or name one in the service (`signals.server`)")
            )
        return servers[wanted].model_dump(exclude_unset=True, exclude=_LIVE)


def read_files(paths: Iterable[Path]) -> Files:
    """Read documents of kind Service, Signals and Coordinator, several in a file or one in each.

    Raises:
        UsageError, DocumentError: what is wrong, and what would be right.

    """
    files = Files()
    for path in paths:
        for document in read_file(path):
            _take(files, document, path)
    if files.service is not None and not set(files.service.roles) <= set(ADVISED):
        raise UsageError(
            f"{files.name}: its prefill is split into attention and ffn; advise speaks of services "
            "with prefill and decode, or aggregated"
        )
    return files


def _take(files: Files, document: Document, path: Path) -> None:
    kind = document.data.get("kind") if isinstance(document.data, dict) else None
    if kind == "Service":
        service = document.parse(ServiceDocument)
        files.name, files.service = service.metadata.name, service.spec
    elif kind == "Signals":
        signals = document.parse(SignalsDocument)
        files.name = files.name or signals.metadata.name
        files.signals = signals.spec.model_dump(exclude_unset=True)
    elif kind == "Coordinator":
        files.servers = document.parse(CoordinatorDocument).spec.prometheus
    else:
        raise UsageError(f"{path}: kind {kind}: write Service, Signals or Coordinator")
