"""Gates keep traffic from an instance, or let it in; one file for each kind.

`kinds` is the table that ``__main__`` hands to the body; a name that is not in it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from heteroscale_agent.config import Hook
from heteroscale_agent.hands.gates.file import FileGate
from heteroscale_agent.hands.gates.hook import HookGate
from heteroscale_agent.hands.gates.none import NoGate
from heteroscale_agent.hands.gates.port import GateKind, Member, View
from heteroscale_agent.hands.gates.sglang_router import SglangRouterGate
from heteroscale_agent.hands.http import Client

__all__ = ["GateKind", "Member", "View", "kinds"]


def kinds(
    clock: Callable[[], float], hooks: Mapping[str, Hook], folder: Path, http: Client
) -> dict[str, GateKind]:
    """Return every kind of gate by the name that specifications use."""
    return {
        "none": NoGate(),
        "sglang-router": SglangRouterGate(clock, http=http),
        "hook": HookGate(hooks),
        "file": FileGate(folder),
    }
