"""The watch of one operator: the present state, ``synced``, then what is committed.

Each watch has a feed of its own that never waits for it. One who does not read is dropped: a message
that finds no room for ``WRITE_TIMEOUT_S``, or a feed that overflows, ends the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from heteroscale.convert import timestamp
from heteroscale.v1 import operator_pb2 as pb
from heteroscale_coordinator.core import sites
from heteroscale_coordinator.core.cordon import Closed
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.model import Decision, Instance
from heteroscale_coordinator.core.state import Agent, State
from heteroscale_coordinator.edge import node_wire, operator_wire
from heteroscale_coordinator.edge.store.runs import RunLength

WRITE_TIMEOUT_S = 10.0
NODES_EVERY_S = 5.0
"""Nodes are telemetry and no part of a commit; they are compared so often."""


class Watch:
    """Turns the state and its changes into messages, for one ``service`` or, when empty, for all."""

    def __init__(self, state: State, service: str, seed: Iterable[Decision]) -> None:
        self._state = state
        self._service = service
        seed = list(seed)
        self._runs = RunLength(seed)
        self._last = {decision.service: decision for decision in seed}
        self._nodes: dict[str, tuple[object, ...]] = {}
        self._nodes_at = float("-inf")

    def snapshot(self, now: float) -> Iterator[pb.WatchResponse]:
        """Yield the present state and ``synced``. Each message is of the moment it is asked for."""
        time = timestamp(now)
        for name in [name for name in self._state.services if self._mine(name)]:
            if (service := self._service_message(name)) is not None:
                yield pb.WatchResponse(time=time, service=service)
        for instance in list(self._state.instances.values()):
            if self._mine(instance.service):
                yield pb.WatchResponse(time=time, instance=self._instance_message(instance, now))
        yield from self.node_changes(now)
        for decision in self._last.values():
            if self._mine(decision.service):
                message = operator_wire.decision_message(decision)
                yield pb.WatchResponse(time=time, decision=message)
        yield pb.WatchResponse(time=time, synced=True)

    def changes(self, changes: Changes, now: float) -> Iterator[pb.WatchResponse]:
        """Yield what one commit means to the watcher."""
        time = timestamp(now)
        touched: dict[str, None] = dict.fromkeys(changes.services)
        for instance_id, instance in changes.instances.items():
            if instance is None:
                gone = operator_wire.forgotten_instance(instance_id)
                yield pb.WatchResponse(time=time, instance=gone)
            elif self._mine(instance.service):
                touched[instance.service] = None
                yield pb.WatchResponse(time=time, instance=self._instance_message(instance, now))
        for decision in changes.decisions:
            if self._mine(decision.service):
                shown = self._last[decision.service] = self._runs.fold(decision)
                touched[decision.service] = None
                message = operator_wire.decision_message(shown)
                yield pb.WatchResponse(time=time, decision=message)
        for name in touched:
            if self._mine(name):
                message_of = self._service_message(name)
                gone_service = pb.Service(name=name, condition="deleted")
                yield pb.WatchResponse(time=time, service=message_of or gone_service)
        if now - self._nodes_at >= NODES_EVERY_S:
            yield from self.node_changes(now)

    def _mine(self, name: str) -> bool:
        return self._service in ("", name)

    def _service_message(self, name: str) -> pb.Service | None:
        service = self._state.services.get(name)
        if service is None:
            return None
        return operator_wire.service_message(service, self._state, self._last.get(name))

    def _instance_message(self, instance: Instance, now: float) -> pb.Instance:
        track = self._state.tracks.get(instance.instance_id)
        sick = sites.sickness(self._state, instance)
        return operator_wire.instance_message(instance, track, now, sick)

    def node_changes(self, now: float) -> Iterator[pb.WatchResponse]:
        """Yield the nodes that are new or look otherwise than when they were last told."""
        self._nodes_at = now
        for agent in list(self._state.agents.values()):
            here = list(self._state.of_agent(agent.agent_id))
            closed = self._state.closed(agent.agent_id)
            looks = _looks(agent, here, closed)
            if not self._shows(here) or self._nodes.get(agent.agent_id) == looks:
                continue
            self._nodes[agent.agent_id] = looks
            message = node_wire.node_message(agent, here, now, closed)
            yield pb.WatchResponse(time=timestamp(now), node=message)

    def _shows(self, here: list[Instance]) -> bool:
        return not self._service or any(self._mine(instance.service) for instance in here)


def _looks(agent: Agent, here: list[Instance], closed: Closed) -> tuple[object, ...]:
    standing = tuple((instance.instance_id, instance.state) for instance in here)
    return (agent.connected, agent.heard, agent.message, agent.inventory.hash, closed, standing)
