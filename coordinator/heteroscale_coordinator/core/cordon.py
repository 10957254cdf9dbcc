"""Cordons: what an operator closed to new instances, a node or single GPUs of it.

A fact, never fought: nothing is launched there, what runs there runs on and is counted, and when a
scale-in is due anyway those go first. Nothing is stopped, moved or repaired because of a cordon.
Durable until an operator takes it back, or deletes the node.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cordon:
    """One cordon, of a node or of one GPU."""

    agent_id: str
    gpu: int | None = None
    """Index of the GPU; None: the whole node."""
    reason: str = ""
    since: float = 0.0

    @property
    def key(self) -> str:
        """What it is kept under: one for each node, and one for each GPU."""
        return key(self.agent_id, self.gpu)

    @property
    def text(self) -> str:
        """Say it in words, as placement and ``explain`` do."""
        what = "cordoned" if self.gpu is None else f"GPU {self.gpu} cordoned"
        return f"{what}: {self.reason}" if self.reason else f"{what} by an operator"


def key(agent_id: str, gpu: int | None = None) -> str:
    """Return the key of a cordon; an agent's id may hold anything, so the index comes first."""
    return f"{'node' if gpu is None else gpu}@{agent_id}"


@dataclass(frozen=True, slots=True)
class Closed:
    """What is cordoned of one node."""

    node: Cordon | None = None
    gpus: tuple[Cordon, ...] = ()
    """In order of their indices."""

    @property
    def indices(self) -> frozenset[int]:
        """Return the GPUs that are cordoned one by one."""
        return frozenset(one.gpu for one in self.gpus if one.gpu is not None)

    @property
    def text(self) -> str:
        """Say all of it in words; empty: nothing is cordoned."""
        every = [] if self.node is None else [self.node]
        return "; ".join(one.text for one in (*every, *self.gpus))

    def holds(self, indices: Iterable[int]) -> bool:
        """Return whether an instance on these GPUs of the node stands on what is cordoned."""
        return self.node is not None or not self.indices.isdisjoint(indices)


NOTHING_CLOSED = Closed()


def closed(cordons: Iterable[Cordon]) -> Closed:
    """Return the cordons of one node, together."""
    every = list(cordons)
    gpus = sorted((one for one in every if one.gpu is not None), key=lambda one: one.gpu or 0)
    return Closed(next((one for one in every if one.gpu is None), None), tuple(gpus))
