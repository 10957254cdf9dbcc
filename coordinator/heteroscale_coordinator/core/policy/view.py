"""What a policy is shown of a service: its members, what it remembers, and the time.

Nothing here knows nodes or domains: a policy says how many, never where.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from heteroscale.words import InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import STARTING_STATES, Instance, counts_as_supply
from heteroscale_coordinator.core.policy.schedule import Plan
from heteroscale_coordinator.core.routers import RouterTrack
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.track import Track
from heteroscale_coordinator.core.zones import Zone

CARRYING_STATES = frozenset({InstanceState.IN_SERVICE, InstanceState.UNKNOWN})
"""States in which traffic is sent to an instance, as far as is known."""

ENDED_STATES = frozenset({InstanceState.TERMINATED, InstanceState.FAILED, InstanceState.LOST})


@dataclass(frozen=True, slots=True)
class Member:
    """An instance of the service and what was heard of its engine (None: nothing yet)."""

    instance: Instance
    track: Track | None
    recallable: bool = False
    """Whether it drains because a soft scale-in was finished, and TERM has not been sent."""
    switchable: bool = False
    """Whether it serves, and its engine can change to the other role now."""

    @property
    def carrying(self) -> bool:
        """Whether traffic is sent to it, as far as is known."""
        return self.instance.state in CARRYING_STATES

    @property
    def starting(self) -> bool:
        """Whether it is on its way into service: pending for every law."""
        return self.held or self.instance.state in STARTING_STATES

    @property
    def held(self) -> bool:
        """Whether it is Ready, and kept out of service until the other role has caught up."""
        return (
            self.instance.state is InstanceState.WITHDRAWN
            and self.instance.reason is WithdrawReason.RATIO_HOLD
        )

    @property
    def leaving(self) -> bool:
        """Whether its time ends soon and its place is filled anew."""
        return self.instance.leaves_by is not None

    @property
    def softly_withdrawn(self) -> bool:
        """Whether a soft scale-in took it out of service; it may come back."""
        return (
            self.instance.state is InstanceState.WITHDRAWN
            and self.instance.reason is WithdrawReason.SOFT_SCALE_IN
        )


@dataclass(frozen=True, slots=True)
class Short:
    """Services of higher priority have no place for what they need: what this one is asked."""

    to: str
    """Their names, in words."""
    gpus: int
    """GPUs to be given by this service. 0: none (yet), but it takes none that they could use."""
    useful: Mapping[Role, int]
    """Instances in service whose GPUs would help."""
    instance_ids: frozenset[str] = frozenset()
    """Which; where they stand is not the policy's business."""


@dataclass(frozen=True, slots=True)
class ServiceView:
    """All that one evaluation may know. ``now`` in seconds on the coordinator's clock."""

    name: str
    spec: ServiceSpec
    members: tuple[Member, ...]
    memory: PolicyMemory = field(default_factory=PolicyMemory)
    now: float = 0.0
    partition: bool = False
    """So many agents are silent that it is a partition, not deaths."""
    elsewhere: bool = False
    """All of them are of sub-clusters that are silent, and others are left, which get what is missing."""
    covered: bool = True
    """False until this coordinator has heard enough of the service since it started."""
    launch_only: bool = False
    """Coverage did not come in time: instances may be launched or taken back, never withdrawn."""
    short: Short | None = None
    """GPUs are short, and services of higher priority want them."""
    routers: tuple[RouterTrack, ...] = ()
    """What was heard of the routers that take its requests."""
    learning: frozenset[Role] = frozenset()
    """Roles whose target is being learned; ``spec`` has what is known of it so far."""
    makes: Mapping[Role, str] = field(default_factory=dict)
    """What engine each role runs, in words; a role of which nobody tells is missing."""
    nic_shares: tuple[float, ...] = ()
    """Of each node of its instances that tells: its busiest RDMA port, 0 to 1 of what that can carry."""
    zones: Mapping[str, Zone] = field(default_factory=dict)
    """Time zones by name, for the schedule."""
    plan: Plan | None = None
    """What the schedule leaves of the bounds; ``spec`` then has the narrower ones."""
    base: ServiceSpec | None = None
    """The specification as it was written, once a schedule has narrowed ``spec``."""

    @property
    def base_spec(self) -> ServiceSpec:
        """The specification as it was written."""
        return self.base or self.spec

    def present(self) -> dict[Role, int]:
        """Return the counts that supply counts: in service, starting, or silent but not given up."""
        return self._count(m for m in self.members if counts_as_supply(m.instance))

    def pending(self) -> dict[Role, int]:
        """Return the counts on their way into service."""
        return self._count(m for m in self.members if m.starting)

    def in_service(self) -> dict[Role, int]:
        """Return the counts that carry traffic as far as is known."""
        return self._count(m for m in self.members if m.carrying)

    def withdrawn(self) -> dict[Role, int]:
        """Return the counts that a soft scale-in took out and that may come back."""
        return self._count(m for m in self.members if m.softly_withdrawn)

    def serving(self) -> dict[Role, int]:
        """Return the counts known to be in service: their agents are heard."""
        return self._count(m for m in self.members if m.instance.state is InstanceState.IN_SERVICE)

    def movable(self) -> dict[Role, int]:
        """Return the counts in service that their agents may withdraw."""
        return self._count(
            m
            for m in self.members
            if m.instance.state is InstanceState.IN_SERVICE
            and m.instance.ours
            and m.instance.leaves_by is None
        )

    def leaving(self) -> dict[Role, int]:
        """Return the counts that serve only until their successors do, for their time ends."""
        return self._count(m for m in self.members if m.carrying and m.leaving)

    def recallable(self) -> dict[Role, int]:
        """Return the counts whose drain ends a soft scale-in and may still be called off."""
        return self._count(m for m in self.members if m.recallable)

    def returnable(self) -> dict[Role, int]:
        """Return the counts that may be taken back: withdrawn by a soft scale-in, or recallable."""
        return self._count(m for m in self.members if m.softly_withdrawn or m.recallable)

    def _count(self, members: Iterable[Member]) -> dict[Role, int]:
        counts = Counter(m.instance.role for m in members)
        return {role: counts.get(role, 0) for role in self.spec.roles}


def written(counts: Mapping[Role, int]) -> str:
    """Return counts in words: ``1 prefill, 2 decode``; roles with none are left out."""
    parts = [f"{counts[role]} {role.value}" for role in Role if counts.get(role)]
    return ", ".join(parts) or "nothing"
