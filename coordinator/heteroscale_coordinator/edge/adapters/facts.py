"""What a cluster's instances are told as: ranks' facts, whose generation grows with every change.

Generations go on from what the committed state holds, so that a new coordinator neither falls behind
what the one before told, nor makes orders stale that are on their way: what is as the state has it keeps
its generation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from heteroscale.words import GateState, InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.model import Instance, RankFact
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.adapters import translate
from heteroscale_scheduler_adapters.port import Node, Phase, Running

S = InstanceState


class _Essence(NamedTuple):
    """What makes a new generation."""

    agent_id: str
    state: InstanceState
    role: Role
    reason: WithdrawReason | None
    gate: GateState
    endpoint: str
    terminating: bool


_Limits = tuple[float | None, tuple[str, int] | None]
"""When it ends by itself, and when it can leave: told anew when they change, and no new generation."""


@dataclass(slots=True)
class _Told:
    essence: _Essence
    message: str
    generation: int
    limits: _Limits


class Facts:
    """What was told of each rank, and what is to be told now."""

    def __init__(self, prefix: str, state: Callable[[], State]) -> None:
        self._prefix, self._state = prefix, state
        self._told: dict[tuple[str, int], _Told] = {}
        self._ready: dict[str, float] = {}
        """By instance, the seconds that it took to get ready for the first time."""
        self._indices: dict[tuple[str, str], tuple[int, ...]] = {}
        """GPUs that stand for an adopted rank's, by instance and node."""

    def generation(self, instance_id: str, rank: int = 0) -> int | None:
        """Return the generation last told; None: nothing was."""
        told = self._told.get((instance_id, rank))
        return told.generation if told else None

    def was_ready(self, instance_id: str) -> bool:
        """Return whether it has ever been ready, as far as is known."""
        if instance_id in self._ready:
            return True
        known = self._state().instances.get(instance_id)
        return known is not None and known.startup_time is not None

    def forget(self, instance_id: str) -> None:
        """Forget an instance that is gone."""
        self._ready.pop(instance_id, None)
        for table in (self._told, self._indices):
            for key in [key for key in table if key[0] == instance_id]:
                del table[key]  # type: ignore[arg-type]

    def elsewhere(self, instance_id: str, rank: int = 0) -> str:
        """Return the agent of its own that speaks for a rank; empty: none does."""
        known = self._state().instances.get(instance_id)
        return known.ranks[rank].speaker if known and rank < len(known.ranks) else ""

    def of(
        self, one: Running, nodes: Mapping[str, Node], now: float, message: str = ""
    ) -> Iterator[tuple[str, RankFact, bool]]:
        """Yield (agent, fact, whether it is news) of each rank that stands on a node, or is to."""
        try:
            role = Role(one.role)
        except ValueError:
            return
        known = self._state().instances.get(one.instance_id)
        was_ready = self.was_ready(one.instance_id)
        self._note_ready(one, known, now, was_ready=was_ready)
        state = translate.state_of(one.phase, one.gate, one.gate_seen, was_ready=was_ready)
        text = message or one.message or (f"kept: {one.kept}" if one.kept else "")
        for rank, spot in enumerate(one.ranks):
            agent_id = self._agent(one, rank, spot.node, known)
            if not agent_id:
                continue
            essence = _Essence(
                agent_id,
                state,
                role,
                translate.reason_of(one.gate) if state is S.WITHDRAWN else None,
                translate.gate_state(one.gate, one.gate_seen),
                one.endpoint if rank == 0 else "",
                one.phase is Phase.STOPPING,
            )
            limits = (one.ends_at, (one.turn.of, one.turn.number) if one.turn else None)
            generation, news = self._tell((one.instance_id, rank), essence, text, limits, known)
            fact = RankFact(
                one.instance_id,
                one.service,
                role,
                state,
                generation,
                rank,
                len(one.ranks),
                essence.reason,
                essence.gate,
                essence.endpoint,
                one.group,
                one.template,
                spot.gpu_indices or self._adopted(one, spot.node, known, nodes),
                text,
                essence.terminating,
                self._ready.get(one.instance_id),
                max(0.0, now - one.since) if one.since else 0.0,
                one.origin,
                ends_at=limits[0],
                turn=limits[1],
            )
            yield agent_id, fact, news

    def _agent(self, one: Running, rank: int, node: str, known: Instance | None) -> str:
        ended = one.phase in (Phase.ENDED, Phase.FAILED)
        if known is not None and rank < len(known.ranks):
            there = known.ranks[rank].agent_id
            over = known.ranks[rank].state in life.ENDED
            if known.ranks[rank].speaker and over and ended:
                return ""  # an agent of its own has said so
            if not node:
                return there if there.startswith(self._prefix) else ""
        return f"{self._prefix}{node}" if node else ""

    def _note_ready(
        self, one: Running, known: Instance | None, now: float, *, was_ready: bool
    ) -> None:
        if one.phase is not Phase.READY or one.instance_id in self._ready:
            return
        if known is not None and known.startup_time is not None:
            self._ready[one.instance_id] = known.startup_time
        elif known is None or was_ready:
            self._ready[one.instance_id] = 0.0  # it was ready when it was found
        else:
            at = one.since or now
            self._ready[one.instance_id] = max(0.0, at - known.created_at)

    def _tell(
        self,
        key: tuple[str, int],
        essence: _Essence,
        message: str,
        limits: _Limits,
        known: Instance | None,
    ) -> tuple[int, bool]:
        told, rank = self._told.get(key), key[1]
        there = known.ranks[rank] if known is not None and rank < len(known.ranks) else None
        least = there.generation if there is not None else 0
        # An end is not believed while the agent in the job is heard: told until it is.
        doubted = essence.state in life.ENDED and there is not None and bool(there.speaker)
        if told is None:
            same = known is not None and _as_known(known, rank, essence)
            told = _Told(essence, message, max(1, least + (not same)), limits)
            self._told[key] = told
            return told.generation, True
        if told.essence != essence:
            told.generation = max(told.generation, least) + 1
        elif (told.message, told.limits) == (message, limits):
            return told.generation, doubted
        told.essence, told.message, told.limits = essence, message, limits
        return told.generation, True

    def _adopted(
        self, one: Running, node: str, known: Instance | None, nodes: Mapping[str, Node]
    ) -> tuple[int, ...]:
        """Return GPUs that stand for those of an instance that nobody here placed."""
        if known is not None or node not in nodes:
            return self._indices.get((one.instance_id, node), ())
        if (one.instance_id, node) not in self._indices:
            mine = [h for h in nodes[node].holdings if h.instance_id == one.instance_id]
            told = tuple(index for held in mine for index in held.indices)
            wanted = sum(held.gpus for held in mine)
            self._indices[one.instance_id, node] = told or self._free(node, nodes[node], wanted)
        return self._indices[one.instance_id, node]

    def _free(self, name: str, node: Node, wanted: int) -> tuple[int, ...]:
        agent_id = f"{self._prefix}{name}"
        taken = {
            index
            for instance in self._state().of_agent(agent_id)
            for rank in instance.ranks
            if rank.agent_id == agent_id and rank.state not in life.ENDED
            for index in rank.gpu_indices
        }
        taken.update(i for (_, at), rows in self._indices.items() if at == name for i in rows)
        taken.update(i for held in node.holdings for i in held.indices)
        return tuple(gpu.index for gpu in node.gpus if gpu.index not in taken)[:wanted]


def _as_known(known: Instance, rank: int, essence: _Essence) -> bool:
    there = known.ranks[rank] if rank < len(known.ranks) else None
    if there is None or (there.agent_id, there.state) != (essence.agent_id, essence.state):
        return False
    if rank:
        return True
    mine = (known.role, known.reason, known.gate_state, known.endpoint, known.terminating)
    return mine == essence[2:]
