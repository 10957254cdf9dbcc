"""All that the coordinator knows: the durable part by value, the telemetry in place.

Services, instances and commands are frozen values that change only by ``apply`` after a commit.
Agents and tracks are what was heard; they are folded in place, never persisted, and refilled by the
hellos of a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from heteroscale_coordinator.core.events import Changes, Rules
from heteroscale_coordinator.core.model import Command, GpuColumns, Instance, Inventory, Service
from heteroscale_coordinator.core.track import Track

_T = TypeVar("_T")


@dataclass(slots=True)
class Agent:
    """What was last heard of an agent."""

    agent_id: str
    hostname: str = ""
    version: str = ""
    incarnation: int = 0
    sequence: int = 0
    connected: bool = False
    heard_at: float = 0.0
    """Of any message, on the coordinator's clock."""
    inventory: Inventory = Inventory()
    gpus: GpuColumns = GpuColumns()
    message: str = ""


@dataclass(slots=True)
class State:
    """The whole. One writer, the loop; everybody else reads between turns."""

    rules: Rules = field(default_factory=Rules)
    started_at: float = 0.0
    services: dict[str, Service] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    commands: dict[str, Command] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    tracks: dict[str, Track] = field(default_factory=dict)
    evaluated_at: dict[str, float] = field(default_factory=dict)
    """When each service was last evaluated."""

    def apply(self, changes: Changes) -> None:
        """Take over what has been committed."""
        _merge(self.services, changes.services)
        _merge(self.instances, changes.instances)
        _merge(self.commands, changes.commands)
        for instance_id, instance in changes.instances.items():
            if instance is None:
                self.tracks.pop(instance_id, None)


def _merge(table: dict[str, _T], changed: dict[str, _T | None]) -> None:
    for key, value in changed.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
