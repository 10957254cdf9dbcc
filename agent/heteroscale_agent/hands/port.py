"""All that the body does to its host, as one value: ``__main__`` gives real ones, tests twins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from heteroscale.words import Role
from heteroscale_agent.hands.gates.port import GateKind
from heteroscale_agent.hands.process import Processes


class Probe(Protocol):
    """Asks an engine whether it is ready."""

    async def ready(self, url: str, deadline: float) -> bool:
        """Return whether ``url`` answers 200 within ``deadline`` seconds; never raises."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class RoleAnswer:
    """What an engine said when it was asked to switch its role, or why nothing came of it."""

    done: bool
    message: str = ""
    intact: bool | None = None
    """Whether it is safe to serve as it was; None: not said."""
    later: bool = False
    """It may succeed when it is asked again."""


class Roles(Protocol):
    """Asks engines about their role. Never raises."""

    async def switch(
        self, url: str, role: Role, more: Mapping[str, Any], deadline: float
    ) -> RoleAnswer:
        """Ask the engine at ``url`` to become ``role``; asking again for what it is harms nothing."""
        ...

    async def role(self, url: str, deadline: float) -> Role | None:
        """Return the role it says it has now, None where it does not say, or not at all."""
        ...


@dataclass(frozen=True, slots=True)
class Hands:
    """Processes, gates by kind, readiness, roles, and the kernel's boot id."""

    processes: Processes
    gates: Mapping[str, GateKind]
    probe: Probe
    roles: Roles
    boot_id: str
