"""How traffic reaches instances, and how they are emptied."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from heteroscale.documents.fields import DocumentModel, Duration

NEEDED_OPTIONS = {
    "production-stack": ("path", "model"),
    "http": ("hook",),
    "upstream-file": ("upstream",),
    "haproxy-socket": ("haproxy",),
    "file": ("path",),
}
"""Options without which an agent would refuse every launch."""


class GateSpec(DocumentModel):
    """How traffic reaches instances and is kept from them. An instance's agent owns its gate."""

    kind: Literal[
        "sglang-router",
        "production-stack",
        "labels",
        "http",
        "upstream-file",
        "haproxy-socket",
        "hook",
        "file",
        "none",
    ] = "none"
    """`sglang-router`: workers added and removed over its API. `production-stack`: backends in the
    dynamic config file of vLLM's router, as it says it has loaded it. `labels`: a label on the pod.
    `http`: requests of the agent's own configuration. `upstream-file`: servers in a file of nginx or
    HAProxy, which reload. `haproxy-socket`: servers over HAProxy's stats socket. `hook`: commands of
    the agent's own configuration. `file`: endpoints in a file that a router reads. `none`: traffic is
    not steered."""
    routers: tuple[str, ...] = ()
    """`sglang-router`, `production-stack`: base URL of every router; each is held to it on its own."""
    options: dict[str, str] = {}
    """`production-stack`: `path` of the file below the agent's gate folder, `model` (the served name);
    `routing_logic` for a new file. `labels`: `key`, `value`, `outValue`, `pod`. `http`: `hook` names one
    of the agent's `gates.http`. `upstream-file`: `upstream` names one of `gates.upstreams`.
    `haproxy-socket`: `haproxy` names one of `gates.haproxy`. `hook`: `hook` (or `open` and `close`) name
    hooks of the agent. `file`: `path` below the gate folder, and `format` (`json` or `lines`)."""

    @model_validator(mode="after")
    def _routers(self) -> Self:
        if self.kind in ("sglang-router", "production-stack") and not self.routers:
            raise ValueError(f"kind {self.kind} needs `routers`, e.g. [http://10.0.0.1:30000]")
        for url in self.routers:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"router {url!r} is no http:// or https:// URL")
        return self

    @model_validator(mode="after")
    def _options(self) -> Self:
        for name in NEEDED_OPTIONS.get(self.kind, ()):
            if not self.options.get(name):
                raise ValueError(f"kind {self.kind} needs `options.{name}`")
        return self


class DrainSpec(DocumentModel):
    """How an instance is emptied before its process is stopped."""

    settle: Duration = 5.0
    """After every router confirmed the removal: requests already on their way arrive."""
    quiet_scrapes: PositiveInt = 3
    """Fresh scrapes in a row with nothing running, waiting or in transfer before TERM."""
    force_after: Duration | None = 1800.0
    """TERM anyway after this long, said aloud. null: never. A request longer than this is cut."""
    grace: Duration = 30.0
    """TERM → this long → KILL."""
    lease: Duration = 30.0
    """Without a coordinator's renewal for this long, a withdrawn or draining instance goes back
    into service. Shorter heals faster after a coordinator is lost; must outlast its restart."""
