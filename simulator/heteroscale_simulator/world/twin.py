"""An instance in virtual time: where it stands, what it does, and when it moves on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from heteroscale.words import GateState, InstanceState, Role, WithdrawReason

S = InstanceState
STARTING = frozenset({S.PENDING, S.LAUNCHING, S.WARMING})
ENDED = frozenset({S.TERMINATED, S.FAILED})
RUNNING = frozenset({S.WARMING, S.IN_SERVICE, S.WITHDRAWN, S.DRAINING})
"""States in which its engine answers: it is in the plant."""


class Post(NamedTuple):
    """Where one rank stands."""

    host: str
    gpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be launched, and where."""

    instance_id: str
    service: str
    role: Role
    gpu_type: str
    posts: tuple[Post, ...]
    """One a rank, rank 0 first."""
    group: str = ""


@dataclass(slots=True, eq=False)
class Twin:
    """An instance as its agent knows it. Times in seconds of the run; ``inf``: never."""

    order: Order
    state: InstanceState
    since: float
    generation: int = 0
    reason: WithdrawReason | None = None
    gate: GateState = GateState.CLOSED
    gate_at: float = inf
    """When the routers will have done what they were last asked."""
    launched_at: float = 0.0
    ready_at: float = inf
    doomed: bool = False
    """Its process ends before it answers."""
    startup_time: float | None = None
    lease_until: float = inf
    quiet: int = 0
    """Scrapes in a row in which it held nothing."""
    terminate_at: float = inf
    """When its process will be gone; set with TERM."""
    message: str = ""

    @property
    def instance_id(self) -> str:
        """Its id."""
        return self.order.instance_id

    @property
    def service(self) -> str:
        """Whose it is."""
        return self.order.service

    @property
    def role(self) -> Role:
        """Its role."""
        return self.order.role

    @property
    def host(self) -> str:
        """The host of rank 0, whose agent speaks for it."""
        return self.order.posts[0].host

    @property
    def gpus(self) -> int:
        """GPUs of all its ranks."""
        return sum(len(post.gpus) for post in self.order.posts)

    @property
    def terminating(self) -> bool:
        """Whether TERM was sent."""
        return self.terminate_at < inf

    @property
    def restless(self) -> bool:
        """Whether time alone may move it."""
        return self.state is not S.IN_SERVICE or self.gate_at < inf

    def posts(self) -> Iterator[tuple[int, Post]]:
        """Yield its ranks with their numbers."""
        return iter(enumerate(self.order.posts))
