"""What one turn is writing: a layer over the committed state, read through and dropped whole.

Rooms of the turn read and write the draft, never the state's durable tables. A nested draft lets one
service's part fail without the rest: it is merged into its parent only when it is whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from heteroscale_coordinator.core import cordon
from heteroscale_coordinator.core.cordon import Closed, Cordon
from heteroscale_coordinator.core.events import Changes, Effect
from heteroscale_coordinator.core.model import Command, Decision, Instance, Rank, Service
from heteroscale_coordinator.core.state import State

Mint = Callable[[str], str]
"""Given a kind ("i", "cmd", "dec") it returns a new id; randomness enters the core here only."""

_NONE: frozenset[str] = frozenset()


class _Written:
    """Ids that one layer writes, by owner: a turn in which a fleet connects writes thousands."""

    def __init__(self) -> None:
        self.of_service: defaultdict[str, set[str]] = defaultdict(set)
        self.of_agent: defaultdict[str, set[str]] = defaultdict(set)
        self.of_instance: defaultdict[str, set[str]] = defaultdict(set)

    def note_instance(self, instance: Instance) -> None:
        self.of_service[instance.service].add(instance.instance_id)
        for rank in instance.ranks:
            self.of_agent[rank.agent_id].add(instance.instance_id)
            self.of_agent[rank.voice].add(instance.instance_id)

    def note_command(self, command: Command) -> None:
        self.of_instance[command.instance_id].add(command.command_id)

    def take(self, other: _Written) -> None:
        for mine, theirs in (
            (self.of_service, other.of_service),
            (self.of_agent, other.of_agent),
            (self.of_instance, other.of_instance),
        ):
            for owner, ids in theirs.items():
                mine[owner] |= ids


class Draft:
    """Changes under way, at one moment, over a state or over another draft."""

    def __init__(self, state: State, now: float, mint: Mint, parent: Draft | None = None) -> None:
        self.state = state
        self.now = now
        self.mint = mint
        self.changes = Changes()
        self._parent = parent
        self.written = _Written()

    def nested(self) -> Draft:
        """Return a draft over this one."""
        return Draft(self.state, self.now, self.mint, self)

    def merge(self) -> None:
        """Give everything to the parent."""
        if self._parent is None:
            raise ValueError("only a nested draft merges")
        into, mine = self._parent.changes, self.changes
        into.services.update(mine.services)
        into.instances.update(mine.instances)
        into.commands.update(mine.commands)
        into.cordons.update(mine.cordons)
        into.decisions.extend(mine.decisions)
        into.effects.extend(mine.effects)
        self._parent.written.take(self.written)

    # ---- read --------------------------------------------------------------------------------

    def service(self, name: str) -> Service | None:
        """Return a service as this turn left it."""
        if name in self.changes.services:
            return self.changes.services[name]
        return self._parent.service(name) if self._parent else self.state.services.get(name)

    def instance(self, instance_id: str) -> Instance | None:
        """Return an instance as this turn left it."""
        if instance_id in self.changes.instances:
            return self.changes.instances[instance_id]
        if self._parent:
            return self._parent.instance(instance_id)
        return self.state.instances.get(instance_id)

    def command(self, command_id: str) -> Command | None:
        """Return a command as this turn left it."""
        if command_id in self.changes.commands:
            return self.changes.commands[command_id]
        if self._parent:
            return self._parent.command(command_id)
        return self.state.commands.get(command_id)

    def cordons_of(self, agent_id: str) -> dict[str, Cordon]:
        """Return the cordons of a node as this turn left them, by key."""
        known: dict[str, Cordon | None] = {
            one.key: one for one in self.state.cordons.values() if one.agent_id == agent_id
        }
        for layer in reversed(list(self._layers())):
            known |= layer.changes.cordons
        return {k: one for k, one in known.items() if one is not None and one.agent_id == agent_id}

    def closed(self, agent_id: str) -> Closed:
        """Return what is cordoned of a node as this turn left it."""
        if any(layer.changes.cordons for layer in self._layers()):
            return cordon.closed(self.cordons_of(agent_id).values())
        return self.state.closed(agent_id)

    def on_cordon(self, instance: Instance) -> bool:
        """Return whether any rank of an instance stands on what is cordoned."""
        return any(self._on_cordon(rank) for rank in instance.ranks)

    def _on_cordon(self, rank: Rank) -> bool:
        place = self.state.place_of(rank.agent_id)
        # Within another's node GPUs are numbered otherwise; only the whole node tells.
        inside = place != rank.agent_id and self.closed(place).node is not None
        return inside or self.closed(rank.agent_id).holds(rank.gpu_indices)

    def instances_of(self, name: str) -> list[Instance]:
        """Return a service's instances as this turn left them, in order of id."""
        ids = {instance.instance_id for instance in self.state.of_service(name)}
        for layer in self._layers():
            ids |= layer.written.of_service.get(name, _NONE)
        return self._current(ids, lambda instance: instance.service == name)

    def instances_on(self, agent_id: str) -> list[Instance]:
        """Return the instances with a rank on an agent, or spoken for by it, in order of id."""
        ids = {instance.instance_id for instance in self.state.of_agent(agent_id)}
        for layer in self._layers():
            ids |= layer.written.of_agent.get(agent_id, _NONE)
        return self._current(
            ids, lambda one: any(agent_id in (rank.agent_id, rank.voice) for rank in one.ranks)
        )

    def commands_of(self, instance_id: str) -> list[Command]:
        """Return the commands of an instance that are not ended, as this turn left them."""
        ids = set(self.state.open_commands.get(instance_id, _NONE))
        for layer in self._layers():
            ids |= layer.written.of_instance.get(instance_id, _NONE)
        found = (self.command(key) for key in sorted(ids))
        return [command for command in found if command is not None and not command.ended]

    def _current(self, ids: set[str], belongs: Callable[[Instance], bool]) -> list[Instance]:
        found = (self.instance(key) for key in sorted(ids))
        return [instance for instance in found if instance is not None and belongs(instance)]

    def _layers(self) -> Iterator[Draft]:
        layer: Draft | None = self
        while layer is not None:
            yield layer
            layer = layer._parent  # noqa: SLF001

    # ---- write -------------------------------------------------------------------------------

    def drop(self) -> None:
        """Give nothing to the parent: nodes that this draft may have written are read anew."""
        self.state.seen.stale |= self.state.seen.drafted

    def _see(self, instance: Instance | None) -> None:
        for rank in instance.ranks if instance is not None else ():
            self.state.seen.write(rank.agent_id)

    def put_service(self, service: Service) -> None:
        """Write a service, when it differs."""
        if self.service(service.name) != service:
            self.changes.services[service.name] = service

    def put_instance(self, instance: Instance) -> None:
        """Write an instance, when it differs."""
        before = self.instance(instance.instance_id)
        if before != instance:
            self._see(before)
            self._see(instance)
            self.changes.instances[instance.instance_id] = instance
            self.written.note_instance(instance)

    def put_command(self, command: Command) -> None:
        """Write a command, when it differs."""
        if self.command(command.command_id) != command:
            self.changes.commands[command.command_id] = command
            self.written.note_command(command)

    def put_cordon(self, cordon: Cordon) -> None:
        """Write a cordon, when it differs."""
        if self.cordons_of(cordon.agent_id).get(cordon.key) != cordon:
            self.changes.cordons[cordon.key] = cordon
            self.state.seen.write(cordon.agent_id)

    def drop_cordon(self, key: str) -> None:
        """Take a cordon back."""
        written = [layer.changes.cordons.get(key) for layer in self._layers()]
        for known in (*written, self.state.cordons.get(key)):
            if known is not None:
                self.state.seen.write(known.agent_id)
        self.changes.cordons[key] = None

    def drop_service(self, name: str) -> None:
        """Delete a service."""
        self.changes.services[name] = None

    def drop_instance(self, instance_id: str) -> None:
        """Delete an instance's row."""
        self._see(self.instance(instance_id))
        self.changes.instances[instance_id] = None

    def drop_command(self, command_id: str) -> None:
        """Delete a command's row."""
        self.changes.commands[command_id] = None

    def record(self, decision: Decision) -> None:
        """Record a decision."""
        self.changes.decisions.append(decision)

    def emit(self, effect: Effect) -> None:
        """Ask the edge for something."""
        self.changes.effects.append(effect)
