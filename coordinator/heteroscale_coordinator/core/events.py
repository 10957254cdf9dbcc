"""What a turn takes in and what it puts out: events, changes and effects, all plain values.

An async effect always ends as an event, success or failure. Changes take effect after the commit;
effects leave after that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.words import Outcome, Role
from heteroscale_coordinator.core.cordon import Cordon
from heteroscale_coordinator.core.devices import NO_DEVICES, Devices
from heteroscale_coordinator.core.holdings import Held
from heteroscale_coordinator.core.model import (
    Command,
    Decision,
    EngineSample,
    Instance,
    Inventory,
    RankFact,
    RouterSample,
    Service,
    StandsFor,
)
from heteroscale_coordinator.core.spec import ServiceSpec

# ---- events: from agents -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AgentConnected:
    """A hello was accepted. ``facts`` is everything that runs there."""

    agent_id: str
    incarnation: int
    hostname: str
    facts: tuple[RankFact, ...] = ()
    history: tuple[EngineSample, ...] = ()
    router_history: tuple[RouterSample, ...] = ()
    inventory_hash: str = ""
    version: str = ""
    advertise_host: str = ""
    stands_for: StandsFor | None = None
    """Of an agent within a scheduler's job."""


@dataclass(frozen=True, slots=True)
class AgentDisconnected:
    """The agent's stream ended."""

    agent_id: str
    incarnation: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class InventoryLearned:
    """The slow facts of a host."""

    agent_id: str
    inventory: Inventory


@dataclass(slots=True)
class ReportReceived:
    """A report; not frozen, because thousands arrive a second."""

    agent_id: str
    incarnation: int
    sequence: int
    engines: tuple[EngineSample, ...] = ()
    devices: Devices = NO_DEVICES
    routers: tuple[RouterSample, ...] = ()
    received_at: float = 0.0
    """When it was read off its stream; of several that were joined, the first."""


@dataclass(frozen=True, slots=True)
class RankChanged:
    """An agent tells that an instance changed. ``cause`` is the command, or empty."""

    agent_id: str
    fact: RankFact
    cause: str = ""


@dataclass(frozen=True, slots=True)
class CommandAnswered:
    """An agent's word on a command."""

    agent_id: str
    command_id: str
    outcome: Outcome
    message: str = ""
    fact: RankFact | None = None


@dataclass(frozen=True, slots=True)
class NodeTold:
    """What a cluster's scheduler says of a node of its own, beside its inventory."""

    agent_id: str
    holdings: tuple[Held, ...] = ()
    closed: str = ""
    """Why it lets nothing new start there, in words; empty: it does."""


@dataclass(frozen=True, slots=True)
class ClusterTold:
    """What is told of a whole cluster that a scheduler runs."""

    name: str
    quotas: Mapping[str, int] = field(default_factory=dict)
    """Most GPUs there by type; empty: of each type."""
    notes: tuple[str, ...] = ()
    """What an operator should see of it."""
    trouble: str = ""
    """Why it cannot be reached, in words; empty: it answers."""
    since: float = 0.0
    """When it was first so, reached or not; 0: not known."""


@dataclass(frozen=True, slots=True)
class NodeGone:
    """A cluster's scheduler no longer has a node of its own: it is no silence, nor a partition."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: evaluate what is due."""


# ---- events: what an operator asks -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ApplyService:
    """Create the service or replace its specification."""

    request_id: str
    name: str
    spec: ServiceSpec
    document: str


@dataclass(frozen=True, slots=True)
class DeleteService:
    """Forget the service; with ``drain`` its instances are drained first."""

    request_id: str
    name: str
    drain: bool = False


@dataclass(frozen=True, slots=True)
class PauseService:
    """Decide and explain, but act no more; what is under way goes on."""

    request_id: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ResumeService:
    """Act again."""

    request_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ScaleService:
    """Set wanted counts by hand, once, within bounds."""

    request_id: str
    name: str
    counts: Mapping[Role, int]


@dataclass(frozen=True, slots=True)
class DrainInstance:
    """Empty and stop one instance."""

    request_id: str
    instance_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReinstateInstance:
    """Take one withdrawn, or not yet stopped, instance back into service."""

    request_id: str
    instance_id: str


@dataclass(frozen=True, slots=True)
class SwitchInstanceRole:
    """Have one running engine change between prefill and decode."""

    request_id: str
    instance_id: str
    role: Role


@dataclass(frozen=True, slots=True)
class ForgetAgent:
    """A silent agent's host is gone for good: give its instances up now."""

    request_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class CordonNode:
    """Close a node, or the GPUs named of it, to new instances."""

    request_id: str
    agent_id: str
    gpus: tuple[int, ...] = ()
    """Indices; none: the whole node."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UncordonNode:
    """Open a node again with all its GPUs, or only the GPUs named."""

    request_id: str
    agent_id: str
    gpus: tuple[int, ...] = ()


AgentEvent = (
    AgentConnected
    | AgentDisconnected
    | InventoryLearned
    | ReportReceived
    | RankChanged
    | CommandAnswered
)
ClusterEvent = NodeTold | NodeGone | ClusterTold
Wish = (
    ApplyService
    | DeleteService
    | PauseService
    | ResumeService
    | ScaleService
    | DrainInstance
    | ReinstateInstance
    | SwitchInstanceRole
    | ForgetAgent
    | CordonNode
    | UncordonNode
)
Event = AgentEvent | ClusterEvent | Wish | Tick

# ---- what a turn puts out ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a wish: empty ``error`` is a yes; ``not_found`` tells the kind of no."""

    request_id: str
    error: str = ""
    not_found: bool = False


@dataclass(frozen=True, slots=True)
class RenewLeases:
    """Extend the leases of an agent's instances: {instance id: seconds from now}."""

    agent_id: str
    leases: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RemoveFromRouters:
    """A lost node's worker is to be taken out of these routers; level-triggered, sent each tick."""

    routers: tuple[str, ...]
    endpoint: str


@dataclass(frozen=True, slots=True)
class AskHello:
    """A process of an agent reports and is not known: its stream is to end, so that it says hello."""

    agent_id: str
    incarnation: int


Effect = Answer | RenewLeases | RemoveFromRouters | AskHello


@dataclass(slots=True)
class Changes:
    """What a turn changes. Built by one turn, committed whole or dropped whole.

    ``None`` as a value deletes the row. Commands that are new and open leave after the commit.
    """

    services: dict[str, Service | None] = field(default_factory=dict)
    instances: dict[str, Instance | None] = field(default_factory=dict)
    commands: dict[str, Command | None] = field(default_factory=dict)
    cordons: dict[str, Cordon | None] = field(default_factory=dict)
    """By ``cordon.key``."""
    decisions: list[Decision] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Return whether anything durable changes."""
        return bool(self.services or self.instances or self.commands or self.cordons)
