"""Where the agent's rooms meet: eyes (probes), body (instances) and the link, as small Protocols.

``__main__`` wires the concrete ones; tests wire twins. The link knows both, they do not know it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from heteroscale_agent.model import (
    Command,
    CommandResult,
    EngineState,
    Gpu,
    GpuReading,
    InstanceEvent,
    InstanceStatus,
    Inventory,
    Report,
)

Clock = Callable[[], float]
"""Seconds on a clock that never goes back; tests drive it by hand."""


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """An engine whose metrics are to be read."""

    instance_id: str
    url: str
    """Of the metrics themselves, path included."""
    engine: str
    model_name: str = ""
    """Read only this model's series; empty: all that the endpoint shows."""
    template: str = ""
    """What it was launched from; empty: by somebody else."""


@dataclass(frozen=True, slots=True)
class GpuHolder:
    """An instance and the GPUs it holds."""

    instance_id: str
    gpus: tuple[int, ...]
    pid: int | None = None
    """Its process, which leads a session or at least its own children; None: not known."""


class Eyes(Protocol):
    """Sees the host. Never raises for a source that fails: what it cannot read is unknown."""

    def inventory(self) -> Inventory:
        """Return the slow facts of the host; another object when they have changed."""
        ...

    def set_targets(self, targets: Iterable[ScrapeTarget]) -> None:
        """Replace the set of engines to scrape; counters of a kept instance go on."""
        ...

    def set_holders(self, holders: Iterable[GpuHolder]) -> None:
        """Replace what is known of who holds which GPU."""
        ...

    def engine(self, instance_id: str) -> EngineState | None:
        """Return the newest state of an engine, or None when it was never a target."""
        ...

    async def sample(self) -> Report:
        """Take one sample of everything; no source delays it beyond its own deadline."""
        ...

    def gpus_now(self) -> tuple[tuple[Gpu, GpuReading], ...]:
        """Return every GPU with what it said last, by the newest sample; empty when nobody knows."""
        ...

    def history(self) -> list[Report]:
        """Return the samples of the last 120 s, oldest first; GPUs and NICs are left out."""
        ...


class Body(Protocol):
    """Owns the instances of this host and carries out commands at most once."""

    @property
    def highest_epoch(self) -> int:
        """The highest epoch ever heard; kept on disk."""
        ...

    def hear_epoch(self, epoch: int) -> bool:
        """Take note of a coordinator's epoch; False when it is lower than one heard before."""
        ...

    async def execute(self, command: Command) -> CommandResult:
        """Carry out ``command``; a repeated id gets its first answer.

        Long commands answer ACCEPTED; their end comes through ``outbox``.
        """
        ...

    def renew(self, instance_ids: Iterable[str], expires_at: float) -> None:
        """Extend leases to ``expires_at`` on the agent's clock; never shortens one."""
        ...

    def statuses(self) -> list[InstanceStatus]:
        """Return every instance of this host."""
        ...

    def unacknowledged(self) -> list[CommandResult]:
        """Return results that the coordinator has not acknowledged, oldest first."""
        ...

    def acknowledge(self, command_ids: Iterable[str]) -> None:
        """Take note that these results were committed by the coordinator."""
        ...


Outbox = Callable[[InstanceEvent | CommandResult], None]
"""Where the body puts what the coordinator must hear; the link keeps it until acknowledged."""
