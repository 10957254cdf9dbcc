"""All that the coordinator knows: the durable part by value, the telemetry in place.

Services, instances and commands are frozen values that change only by ``apply`` after a commit.
Agents and tracks are what was heard; they are folded in place, never persisted, and refilled by the
hellos of a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from heteroscale.words import WITHIN, InstanceState
from heteroscale_coordinator.core import cordon
from heteroscale_coordinator.core.asked import Asked
from heteroscale_coordinator.core.cordon import NOTHING_CLOSED, Closed, Cordon
from heteroscale_coordinator.core.devices import NO_DEVICES, Devices
from heteroscale_coordinator.core.events import Changes, ClusterTold
from heteroscale_coordinator.core.holdings import Held
from heteroscale_coordinator.core.model import Command, Instance, Inventory, Service, StandsFor
from heteroscale_coordinator.core.routers import RouterTracks
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.seen import Seen
from heteroscale_coordinator.core.topology import sub_cluster_of
from heteroscale_coordinator.core.track import Track
from heteroscale_coordinator.core.zones import Zone

_T = TypeVar("_T")


@dataclass(slots=True)
class Agent:
    """What was last heard of an agent."""

    agent_id: str
    hostname: str = ""
    advertise_host: str = ""
    version: str = ""
    incarnation: int = 0
    sequence: int = 0
    connected: bool = False
    heard: bool = False
    """Heard by this coordinator, not only known from its store."""
    heard_at: float = 0.0
    """Of any message, on the coordinator's clock."""
    silent: bool = False
    """Unheard for ``rules.silent_after``; told anew each tick."""
    excused_at: float = 0.0
    """When its silence was last a partition's, not its own."""
    lost: bool = False
    """Unheard so long that its instances were given up; told anew each tick."""
    inventory: Inventory = field(default_factory=Inventory)
    devices: Devices = NO_DEVICES
    """What its last report says of them."""
    holdings: tuple[Held, ...] = ()
    """What its cluster's scheduler gave to whom, if it has one."""
    closed: str = ""
    """Why that scheduler lets nothing new start there; empty: it does."""
    message: str = ""
    stands_for: StandsFor | None = None
    """Of an agent within a scheduler's job: it ends with its rank."""

    @property
    def within(self) -> str:
        """The node of a scheduler's cluster that it stands in: its GPUs are that node's. Empty: none."""
        return self.inventory.labels.get(WITHIN, "")


@dataclass(slots=True)
class State:
    """The whole. One writer, the loop; everybody else reads between turns."""

    rules: Rules = field(default_factory=Rules)
    started_at: float = 0.0
    turned_at: float = 0.0
    """When the last turn was."""
    services: dict[str, Service] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    commands: dict[str, Command] = field(default_factory=dict)
    cordons: dict[str, Cordon] = field(default_factory=dict)
    """By ``cordon.key``."""
    agents: dict[str, Agent] = field(default_factory=dict)
    tracks: dict[str, Track] = field(default_factory=dict)
    routers: dict[str, RouterTracks] = field(default_factory=dict)
    """What routers told, by service."""
    zones: dict[str, Zone] = field(default_factory=dict)
    """Time zones that specifications name, as the edge read them, by name."""
    evaluated_at: dict[str, float] = field(default_factory=dict)
    """When each service was last evaluated."""
    looked: dict[str, tuple[float, str]] = field(default_factory=dict)
    """When it was last looked whether a service's groups need healing, and what was found."""
    clusters: dict[str, ClusterTold] = field(default_factory=dict)
    """What was last told of clusters that schedulers run, by name."""
    cut_off: dict[str, str] = field(default_factory=dict)
    """Agents that fell silent together with too many others, and the sentence that says so."""
    silent_sub_clusters: dict[str, str] = field(default_factory=dict)
    """Sub-clusters of which most agents are silent, and the words that say so; told anew each tick."""
    hushed: set[str] = field(default_factory=set)
    """Ids of instances that are UNKNOWN or LOST."""
    unwatched: set[str] = field(default_factory=set)
    """Services whose policy could not look at them freely last time; see ``duties.leases``."""
    open_commands: dict[str, set[str]] = field(default_factory=dict)
    """Ids of commands that are not ended, by instance."""
    seen: Seen = field(default_factory=Seen)
    """The fleet as placement sees it; kept by ``sites``."""
    asked: Asked = field(default_factory=Asked)
    """What waits for its places; kept by ``placing``."""
    _of_service: dict[str, dict[str, None]] = field(default_factory=dict)
    _of_agent: dict[str, dict[str, None]] = field(default_factory=dict)
    _closed: dict[str, Closed] = field(default_factory=dict)

    def begin(self, now: float) -> None:
        """Start from what the store held: known agents are silent since now, indexes are built."""
        self.started_at = self.turned_at = now
        for instance in self.instances.values():
            self._index(instance)
            self._begin_agents(instance, now)
        for command in self.commands.values():
            self._index_command(command.command_id, command)
        self._index_cordons()

    def _begin_agents(self, instance: Instance, now: float) -> None:
        for number, rank in enumerate(instance.ranks):
            if rank.agent_id:
                self.agent(rank.agent_id, now)
            if rank.speaker:
                # Its job may have ended while nobody was here: then it will not be heard again.
                claim = StandsFor(instance.instance_id, number, rank.agent_id)
                self.agent(rank.speaker, now).stands_for = claim

    @property
    def placing(self) -> bool:
        """Whether a cycle of placement is under way: then a turn should follow at once."""
        return bool(self.asked.questions)

    @property
    def partition(self) -> str:
        """What is said aloud while too many agents fell silent at once; empty otherwise."""
        return "; ".join(sorted(set(self.cut_off.values())))

    def agent(self, agent_id: str, now: float) -> Agent:
        """Return the agent's record, made when it is new."""
        found = self.agents.get(agent_id)
        if found is None:
            found = self.agents[agent_id] = Agent(agent_id, heard_at=now)
            self.seen.touch(agent_id)
        return found

    def sub_cluster(self, agent_id: str) -> str:
        """Return the sub-cluster of an agent: the physical cluster that it names; empty: none."""
        agent = self.agents.get(self.place_of(agent_id))
        return sub_cluster_of(agent.inventory.topology) if agent is not None else ""

    def place_of(self, agent_id: str) -> str:
        """Return the node that what an agent runs stands on: its own, or the one that it is within."""
        agent = self.agents.get(agent_id)
        outer = agent.within if agent is not None else ""
        return outer if outer in self.agents else agent_id

    def forget_agent(self, agent_id: str) -> None:
        """Forget a node and all that was heard of it."""
        del self.agents[agent_id]
        self.seen.touch(agent_id)

    def of_service(self, name: str) -> Iterator[Instance]:
        """Return the committed instances of a service."""
        return (self.instances[key] for key in self._of_service.get(name, ()))

    def with_instances(self) -> list[str]:
        """Return the names of services that have instances, known or not, in order."""
        return sorted(name for name, ids in self._of_service.items() if ids)

    def of_agent(self, agent_id: str) -> Iterator[Instance]:
        """Return the committed instances with a rank on an agent, or spoken for by it."""
        return (self.instances[key] for key in self._of_agent.get(agent_id, ()))

    def closed(self, agent_id: str) -> Closed:
        """Return what an operator cordoned of a node."""
        return self._closed.get(agent_id, NOTHING_CLOSED)

    def apply(self, changes: Changes) -> None:
        """Take over what has been committed."""
        for instance_id, instance in changes.instances.items():
            if (before := self.instances.get(instance_id)) is not None:
                self._unindex(before)
            if instance is None:
                self.tracks.pop(instance_id, None)
            else:
                self._index(instance)
        for command_id, command in changes.commands.items():
            self._index_command(command_id, command)
        _merge(self.services, changes.services)
        _merge(self.instances, changes.instances)
        _merge(self.commands, changes.commands)
        if changes.cordons:
            _merge(self.cordons, changes.cordons)
            self._index_cordons()
        for name, service in changes.services.items():
            if service is None:
                self.evaluated_at.pop(name, None)
                self.looked.pop(name, None)
                self.routers.pop(name, None)

    def _index_cordons(self) -> None:
        """Anew from all: they are few, and change seldom."""
        nodes = {one.agent_id for one in self.cordons.values()}
        self.seen.stale |= nodes | self._closed.keys()
        self._closed = {
            node: cordon.closed(c for c in self.cordons.values() if c.agent_id == node)
            for node in sorted(nodes)
        }

    def _index(self, instance: Instance) -> None:
        if instance.state in (InstanceState.UNKNOWN, InstanceState.LOST):
            self.hushed.add(instance.instance_id)
        self._of_service.setdefault(instance.service, {})[instance.instance_id] = None
        for rank in instance.ranks:
            self.seen.touch(rank.agent_id)
            for agent_id in {rank.agent_id, rank.voice}:
                self._of_agent.setdefault(agent_id, {})[instance.instance_id] = None

    def _index_command(self, command_id: str, command: Command | None) -> None:
        known = command or self.commands.get(command_id)
        if known is None:
            return
        if command is not None and not command.ended:
            self.open_commands.setdefault(known.instance_id, set()).add(command_id)
        elif (ids := self.open_commands.get(known.instance_id)) is not None:
            ids.discard(command_id)
            if not ids:
                del self.open_commands[known.instance_id]

    def _unindex(self, instance: Instance) -> None:
        self.hushed.discard(instance.instance_id)
        self._of_service.get(instance.service, {}).pop(instance.instance_id, None)
        for rank in instance.ranks:
            self.seen.touch(rank.agent_id)
            for agent_id in {rank.agent_id, rank.voice}:
                self._of_agent.get(agent_id, {}).pop(instance.instance_id, None)


def _merge(table: dict[str, _T], changed: dict[str, _T | None]) -> None:
    for key, value in changed.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
