"""Routers: whose metrics tell what users feel, where no engine can know it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from heteroscale.documents import DocumentModel
from heteroscale_agent.config.fields import Name

RouterKind = Literal["sglang-router", "production-stack", "llm-d", "dynamo"]


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("write it http://host:port; its path goes into metricsPath")
    return text.rstrip("/")


class Router(DocumentModel):
    """A router, gateway or frontend of a service, read at its metrics page. Nothing is sent to it.

    Several agents may watch the same router: it is counted once.
    """

    name: Name
    """A name for it, unlike any other router's of this document."""
    service: Name
    """The service whose requests it takes. One that serves several is listed once for each, with the
    `modelName` of each."""
    url: Annotated[str, AfterValidator(_http_url)]
    """Where its metrics are served, `http://host:port`. With the sglang-router that is its
    `--prometheus-port`. Agents that watch the same one must write it alike."""
    kind: RouterKind
    """Whose metric names it shows."""
    metrics_path: str = "/metrics"
    """Where its metrics are."""
    model_name: str = ""
    """Read only this model's series; empty: all that the page shows."""

    @property
    def metrics_url(self) -> str:
        """The address of the metrics page."""
        return self.url + self.metrics_path

    def seen_from_afar(self, advertise_host: str) -> str:
        """Return the URL that names this router in the whole cluster: loopback is every host's."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if host != "localhost" and not _is_loopback(host):
            return self.url
        shown = f"[{advertise_host}]" if ":" in advertise_host else advertise_host
        return f"http://{shown}:{parts.port or 80}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def names_differ(routers: tuple[Router, ...]) -> tuple[Router, ...]:
    """Refuse two routers of one name, and one router twice for a service: it would count double."""
    names, places = set[str](), set[tuple[str, str]]()
    for router in routers:
        place = (router.service, router.metrics_url)
        if router.name in names:
            raise ValueError(f"two routers are called {router.name!r}")
        if place in places:
            raise ValueError(f"{router.metrics_url} is listed twice for service {router.service!r}")
        names.add(router.name)
        places.add(place)
    return routers
