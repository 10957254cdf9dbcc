"""What the configuration uses that was never seen to work on a real release, in plain sentences."""

from __future__ import annotations

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.probes.engines import MAPPINGS
from heteroscale_agent.probes.routers import ROUTERS


def notes(spec: AgentSpec) -> list[str]:
    """Return a sentence for each experimental kind of engine and router that `spec` names."""
    engines = [
        *((one.engine, f"template {name}") for name, one in spec.templates.items()),
        *((one.engine, f"engine {one.instance_id}") for one in spec.engines),
    ]
    used: dict[str, str] = {
        kind: user for kind, user in reversed(engines) if MAPPINGS[kind].experimental
    }
    used |= {
        one.kind: f"router {one.name}"
        for one in reversed(spec.routers)
        if ROUTERS[one.kind].experimental
    }
    return [
        f"{kind} ({user}) is experimental: its metric names are taken from its documentation, not "
        "from a running release; see docs/engines.md"
        for kind, user in used.items()
    ]
