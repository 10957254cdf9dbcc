"""An instance in virtual time: where it stands, what it does, and when it moves on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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
    hold: float | None = None
    """Held back for the ratio, when it is ready: at most so many seconds."""
    template: str = ""
    """What it is launched from, as the service names it."""


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
    becomes: Role | None = None
    """The role that it is being switched to."""
    switched_at: float = inf
    """When its engine, empty and asked, has its new role."""
    quiet: int = 0
    """Scrapes in a row in which it held nothing."""
    terminate_at: float = inf
    """When its process will be gone; set with TERM."""
    message: str = ""

    instance_id: str = field(init=False)
    service: str = field(init=False)
    role: Role = field(init=False)
    host: str = field(init=False)
    """The host of rank 0, whose agent speaks for it."""
    gpus: int = field(init=False)
    """GPUs of all its ranks."""

    def __post_init__(self) -> None:
        """Hold at hand what is read every second."""
        order = self.order
        self.instance_id, self.service, self.role = order.instance_id, order.service, order.role
        self.host = order.posts[0].host
        self.gpus = sum(len(post.gpus) for post in order.posts)

    @property
    def terminating(self) -> bool:
        """Whether TERM was sent."""
        return self.terminate_at < inf

    @property
    def restless(self) -> bool:
        """Whether time alone may move it."""
        return self.state is not S.IN_SERVICE or self.gate_at < inf

    def take_role(self, role: Role) -> None:
        """Be of another role from now on."""
        self.order = replace(self.order, role=role)
        self.role, self.becomes, self.switched_at = role, None, inf

    def posts(self) -> Iterator[tuple[int, Post]]:
        """Yield its ranks with their numbers."""
        return iter(enumerate(self.order.posts))
