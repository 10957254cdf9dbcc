"""The port: what the scheduler of one cluster is asked, and in which words it answers.

An adapter says what is there and does what it is told; it decides nothing. It keeps nothing that it
cannot read back from its cluster, so a new process of it goes on where the old one ended. Whoever calls
it (one room of the coordinator) owns the deadlines, the retries and the circuit breaker; an adapter
only says, by the error that it raises, what is known to have happened.

Three rules make every call safe to repeat:

- ``launch`` is all or nothing, and bound to its ``request_id``: asked again, it is the same step.
- ``stop`` and ``gate`` are levels, not edges: they say how it should be, and asking twice is asking once.
- What came of a call is told by ``world`` and ``watch``, not by the call alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

# ---- what is there: nodes ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of a node. ``index`` is the scheduler's own where it has one, else a plain count from 0."""

    index: int
    type: str
    """As specifications name it: ``H20``, ``L20``."""
    vendor: str = ""


@dataclass(frozen=True, slots=True)
class Taint:
    """What keeps away whoever does not tolerate it; effects as Kubernetes names them."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Template:
    """Something that can be launched, by the name that a service's role gives as ``template``."""

    name: str
    role: str
    """``prefill``, ``decode``, ``aggregated``, ``attention`` or ``ffn``."""
    gpus: int
    """GPUs of one rank."""
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Holding:
    """GPUs of a node that a job or a pod has, ours or another's; whoever has none is no holder."""

    holder: str
    """In the scheduler's words: ``pod/llm/chat-7f9``, ``job/1234 (alice)``."""
    gpus: int
    indices: tuple[int, ...] = ()
    """Which, where the scheduler tells; else only how many is known."""
    instance_id: str = ""
    """Ours, and of which instance; empty: another's."""


@dataclass(frozen=True, slots=True)
class Node:
    """One host with GPUs."""

    name: str
    gpus: tuple[Gpu, ...]
    topology: Mapping[str, str] = field(default_factory=dict)
    """Level (s0, s1, s2, logical_cluster, vdc) to the name of its domain; a level not known is left out.
    The physical cluster is the adapter's own name, and not said here."""
    topology_sources: Mapping[str, str] = field(default_factory=dict)
    """Level to where its name came from, in words."""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    closed: str = ""
    """Why nothing new may start there (cordoned, drained, down, reserved), in words; empty: it may."""
    holdings: tuple[Holding, ...] = ()
    address: str = ""
    """By which other hosts reach it."""
    marked: str = ""
    """What ``mark`` has written on it, read back from the cluster; empty: nothing of ours."""


# ---- what is there: instances ------------------------------------------------------------------


class Phase(StrEnum):
    """How far what was launched has come."""

    QUEUED = "queued"
    """Asked for and accepted, on no node yet."""
    STARTING = "starting"
    """On its nodes, not ready."""
    READY = "ready"
    """Its engine serves whoever reaches it."""
    STOPPING = "stopping"
    """Told to end; it does not come back."""
    ENDED = "ended"
    """Ended as it was told to."""
    FAILED = "failed"
    """Ended by itself, was evicted, or can never start."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where one rank stands, or is to stand. No indices: the scheduler picks them."""

    node: str
    gpu_indices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GateWish:
    """Whether traffic is to reach an instance; kept in the cluster, so that it outlives its asker."""

    open: bool
    reason: str = ""
    """Why it is withdrawn: soft_scale_in, ratio_hold, operator, maintenance, sick, draining."""
    until: float | None = None
    """Seconds since 1970 at which a withdrawal nobody renews is void; None: it stands."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A place in an order that the cluster ends instances in, and nobody can change."""

    of: str
    """What has the order: an object with ordinals. Each has one of its own."""
    number: int
    """The highest that serves ends first."""


@dataclass(frozen=True, slots=True)
class Running:
    """One instance as the cluster has it; also what others launched, if it is of a service of ours."""

    instance_id: str
    """As the step that launched it says; for what others launched, made of its uid."""
    service: str
    role: str
    phase: Phase
    ranks: tuple[Spot, ...]
    """Rank 0 first; a rank on no node yet has an empty one."""
    gate: GateWish = GateWish(open=True)
    """As it was last asked for, read back from the cluster."""
    gate_seen: bool | None = None
    """Whether traffic can reach it by all that the cluster tells; None: it cannot tell."""
    endpoint: str = ""
    """Base URL of rank 0, once it has an address."""
    names: tuple[str, ...] = ()
    """What a monitoring system may call it: pod, host:port, job."""
    group: str = ""
    template: str = ""
    origin: str = ""
    """Who launched it if it was not us: ``deployment/llm/chat-decode``. Then it is never stopped."""
    request_id: str = ""
    """The step that launched it; empty for what others launched."""
    message: str = ""
    since: float = 0.0
    """Seconds since 1970 at which the phase began; 0: not known."""
    kept: str = ""
    """Why it cannot leave now (another leaves first, a disruption budget), in words; empty: it can."""
    turn: Turn | None = None
    """None: it may leave before any other."""
    ends_at: float | None = None
    """Seconds since 1970 at which the cluster begins to end it by itself (a time limit, a reservation's
    end); None: not before it is told to."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How many GPUs may be held in all, of one type or of any (empty)."""

    gpu_type: str
    limit: int


@dataclass(frozen=True, slots=True)
class World:
    """All that is there, at one moment."""

    nodes: Mapping[str, Node]
    running: Mapping[str, Running]
    """By instance id."""
    revision: str = ""
    """From where ``watch`` goes on."""
    quotas: tuple[Quota, ...] = ()
    templates: tuple[Template, ...] = ()
    notes: tuple[str, ...] = ()
    """What an operator should see: orphans, objects that others edited, an HPA on one of ours."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became different since the revision before; None: it is gone."""

    revision: str
    nodes: Mapping[str, Node | None] = field(default_factory=dict)
    running: Mapping[str, Running | None] = field(default_factory=dict)
    notes: tuple[str, ...] | None = None
    """All notes anew, if they changed."""


# ---- what is asked -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Launch:
    """One instance to be started, where placement put it."""

    instance_id: str
    service: str
    role: str
    template: str
    ranks: tuple[Spot, ...]
    gpus: int
    """Of each rank."""
    group: str = ""
    domain: str = ""
    """The domain that the instance's group stands in, as ``level/name``; empty: none is shared."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Values for ``{name}`` in the template."""
    startup_timeout: float = 600.0
    gate: GateWish = GateWish(open=True)
    """With a ratio hold it starts withdrawn."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step {ΔP, ΔD}: all of it starts, or none."""

    request_id: str
    """Random, kept with what is started."""
    cause: str
    """The decision; for names, comments and events that people read."""
    launches: tuple[Launch, ...]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a cluster can do; what it cannot is done otherwise, or said to be impossible."""

    gates: bool
    """``gate`` keeps traffic away. Without it an agent beside the engine does."""
    watches: bool
    """``watch`` tells changes as they come. Without it ``world`` is asked anew each few seconds."""
    own_agents: bool = False
    """Each instance brings an agent of its own, which tells of it and takes its orders once it is heard;
    until then, and for stopping by force, the adapter is asked."""
    several_ranks: bool = False
    marks: bool = False
    """It is a ``Marking``, and its administrators want to be told of sick nodes."""


# ---- how it goes wrong -------------------------------------------------------------------------


class AdapterError(Exception):
    """The base of all that an adapter raises; its text names the object and what would help."""


class RefusedError(AdapterError):
    """The cluster said no. Nothing was started, and asking again in the same words is no use."""


class UnavailableError(AdapterError):
    """No answer, or none to be relied on: it may have happened. Ask again, in the same words."""

    def __init__(self, text: str, *, retry_after: float = 0.0) -> None:
        """``retry_after``: seconds that the cluster asks to be left alone."""
        super().__init__(text)
        self.retry_after = retry_after


class ExpiredError(AdapterError):
    """``watch`` cannot go on from this revision: ask for the whole world anew."""


class SettingsError(AdapterError):
    """What was configured cannot be meant; the text names the field and what would be right."""


# ---- the port ----------------------------------------------------------------------------------


class Adapter(Protocol):
    """One cluster. Calls may overlap; each may be cancelled at any await, as at a deadline."""

    @property
    def capabilities(self) -> Capabilities:
        """What this cluster can do; does not change while it is open."""
        ...

    async def open(self) -> None:
        """Connect, and check what can be checked (rights, versions).

        Raises:
            SettingsError: it can never work so.
            UnavailableError: not now.

        """
        ...

    async def close(self) -> None:
        """Let go of connections. Stops nothing in the cluster."""
        ...

    async def world(self) -> World:
        """Return all that is there.

        Raises:
            UnavailableError: it cannot be known now, or only in part: a part is never given as the whole.

        """
        ...

    def watch(self, revision: str) -> AsyncIterator[Change]:
        """Yield what changes after ``revision``, without end.

        Raises:
            ExpiredError: ask for the world anew.
            UnavailableError: the connection broke; go on from the last revision.

        """
        ...

    async def launch(self, step: Step) -> None:
        """Start all of ``step``, or nothing. Returns when the cluster has taken it, not when it runs.

        Raises:
            RefusedError: nothing was started, nor will be.
            UnavailableError: it may have been taken.

        """
        ...

    async def gate(self, instance_id: str, wish: GateWish) -> None:
        """Let traffic reach an instance, or keep it away. Only where ``capabilities.gates``.

        Raises:
            RefusedError: there is no such instance, or it is not ours to gate.
            UnavailableError: it may have been done.

        """
        ...

    async def stop(self, instance_id: str, grace: float) -> None:
        """End an instance: TERM, ``grace`` seconds, KILL. Done already, or never there: nothing happens.

        Raises:
            RefusedError: it is not ours to stop, or the cluster keeps it (a disruption budget).
            UnavailableError: it may have been done.

        """
        ...


class Marking(Protocol):
    """What an adapter with ``capabilities.marks`` can do beside."""

    async def mark(self, node: str, reason: str) -> None:
        """Let nothing new start on a node, for a reason; with an empty one undo that. A level.

        Only what was marked so is ever undone; a node that others closed stays as they left it.

        Raises:
            RefusedError: there is no such node, or we may not.
            UnavailableError: it may have been done.

        """
        ...


Create = Callable[[str, Mapping[str, Any]], Adapter]
"""What an entry point of the group ``heteroscale.scheduler_adapters`` names: given the name of the
cluster and the options as the coordinator's document has them, it returns an adapter, not yet open.
Raises SettingsError."""
