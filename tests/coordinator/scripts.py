"""What a face's core is told to do, and a store that commits when it is let."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import grpc

from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core.events import (
    Answer,
    Changes,
    CommandAnswered,
    Event,
    PauseService,
    RankChanged,
)
from heteroscale_coordinator.core.model import Command, CommandState, Rank, Verb
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.store.memory import MemoryStore
from heteroscale_coordinator.edge.store.port import StoreError
from tests.coordinator import values
from tests.coordinator.face import START, Script

CODE = grpc.StatusCode
FULL = StoreError("disk full")


def event(instance_id: str = "i-1", generation: int = 1) -> agent_pb2.InstanceEvent:
    status = types_pb2.InstanceStatus(
        instance_id=instance_id,
        service="chat",
        role=types_pb2.ROLE_DECODE,
        state=types_pb2.INSTANCE_STATE_IN_SERVICE,
        generation=generation,
    )
    return agent_pb2.InstanceEvent(status=status, cause="cmd-1")


def store_each_fact(state: State, events: Sequence[Event], now: float) -> Changes:
    """Write a row for each fact, and issue nothing."""
    changes = Changes()
    for one in events:
        if isinstance(one, RankChanged):
            row = values.instance(one.fact.instance_id, agent=one.agent_id)
            changes.instances[row.instance_id] = replace(row, generation=one.fact.generation)
    return changes


def order(command_id: str = "cmd-1", agent_id: str = "a1", verb: Verb = Verb.LAUNCH) -> Command:
    return Command(command_id, verb, agent_id, "i-1", "chat", "dec-1", 0, START, START + 60.0)


def launching(*orders: Command) -> Script:
    """A step that issues ``orders`` when a wish comes."""

    def answer(state: State, events: Sequence[Event], now: float) -> Changes:
        changes = Changes()
        for one in events:
            if isinstance(one, PauseService):
                changes.services["chat"] = values.service("chat")
                row = values.instance("i-1", Role.PREFILL, InstanceState.PENDING)
                rank = Rank("a1", (2, 3), InstanceState.PENDING)
                changes.instances["i-1"] = replace(row, ranks=(rank,), template="chat-prefill")
                changes.commands |= {one.command_id: one for one in orders}
                changes.effects.append(Answer(one.request_id))
            if isinstance(one, CommandAnswered):
                known = state.commands[one.command_id]
                changes.commands[one.command_id] = replace(known, state=CommandState.DONE)
        return changes

    return Script(answer)


WISH = PauseService("req-1", "chat", "")


class SlowStore(MemoryStore):
    """Commits when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def commit(self, changes: Changes, now: float) -> None:
        self.asked.set()
        assert self.go.wait(10.0)
        super().commit(changes, now)
