"""All that the body does to its host, as one value: ``__main__`` gives real ones, tests twins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

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
class Hands:
    """Processes, gates by kind, the readiness probe, and the kernel's boot id."""

    processes: Processes
    gates: Mapping[str, GateKind]
    probe: Probe
    boot_id: str
