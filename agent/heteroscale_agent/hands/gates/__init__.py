"""Gates keep traffic from an instance, or let it in; one file for each kind.

`kinds` is the table that ``__main__`` hands to the body; a name that is not in it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.hands.gates.file import FileGate
from heteroscale_agent.hands.gates.haproxy_socket import HaproxySocketGate
from heteroscale_agent.hands.gates.hook import HookGate
from heteroscale_agent.hands.gates.http import HttpGate
from heteroscale_agent.hands.gates.labels import LabelsGate
from heteroscale_agent.hands.gates.none import NoGate
from heteroscale_agent.hands.gates.port import GateKind, Member, View
from heteroscale_agent.hands.gates.production_stack import ProductionStackGate
from heteroscale_agent.hands.gates.sglang_router import SglangRouterGate
from heteroscale_agent.hands.gates.upstream_file import UpstreamFileGate
from heteroscale_agent.hands.http import Client

__all__ = ["GateKind", "Member", "View", "kinds"]


def kinds(
    clock: Callable[[], float],
    spec: AgentSpec,
    folder: Path,
    http: Client,
) -> dict[str, GateKind]:
    """Return every kind of gate by the name that specifications use."""
    return {
        "none": NoGate(),
        "sglang-router": SglangRouterGate(clock, http=http),
        "production-stack": ProductionStackGate(clock, folder, http),
        "labels": LabelsGate(spec.kubernetes, spec.gates.labels, http),
        "http": HttpGate(spec.gates.http, http),
        "upstream-file": UpstreamFileGate(spec.gates.upstreams),
        "haproxy-socket": HaproxySocketGate(spec.gates.haproxy),
        "hook": HookGate(spec.hooks),
        "file": FileGate(folder),
    }
