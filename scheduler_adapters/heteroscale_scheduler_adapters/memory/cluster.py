"""The cluster itself: nodes, what runs there, what was asked. It outlives the adapters that look at it.

Whoever tests drives it by the methods of the lower half: a node comes, an instance gets ready, another
fails. Each is a revision of its own, so that a watch tells it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from heteroscale_scheduler_adapters.memory.faults import Fault
from heteroscale_scheduler_adapters.port import (
    Change,
    ExpiredError,
    GateWish,
    Gpu,
    Holding,
    Launch,
    Node,
    Phase,
    Quota,
    RefusedError,
    Running,
    Spot,
    Step,
    Template,
    World,
)

_GONE = (Phase.ENDED, Phase.FAILED)


@dataclass(slots=True)
class MemoryCluster:
    """See the module. Fields may be set between calls; ``touch`` tells a watch that they were."""

    name: str = "memory"
    nodes: dict[str, Node] = field(default_factory=dict)
    """Without holdings of ours: these follow from ``running``."""
    running: dict[str, Running] = field(default_factory=dict)
    templates: tuple[Template, ...] = ()
    quotas: tuple[Quota, ...] = ()
    notes: tuple[str, ...] = ()
    faults: dict[str, Fault] = field(default_factory=dict)
    """By call (``world``, ``watch``, ``launch``, ``gate``, ``stop``, ``open``); ``*``: every one."""
    at_once: bool = False
    """What is launched is ready at once, and what is stopped has ended at once."""
    life: float | None = None
    """Seconds after its launch at which the cluster ends what is launched from now on; None: never."""
    clock: Callable[[], float] = time.time
    """Seconds since 1970, of the cluster."""
    requests: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Steps that were taken: request id to the instances that they started."""
    graces: dict[str, float] = field(default_factory=dict)
    """By instance, the grace of its newest stop."""
    calls: list[str] = field(default_factory=list)
    """Every call that was made, in order: its name, and the id that it was about."""
    _gpus: dict[str, int] = field(default_factory=dict)
    _revision: int = 0
    _oldest: int = 0
    _log: list[Change] = field(default_factory=list)
    _watchers: set[asyncio.Event] = field(default_factory=set)

    # ---- looked at -------------------------------------------------------------------------------

    def world(self) -> World:
        """Return all that is there."""
        self.end_due()
        nodes = {name: self._with_holdings(node) for name, node in self.nodes.items()}
        return World(
            nodes,
            dict(self.running),
            str(self._revision),
            self.quotas,
            self.templates,
            self.notes,
        )

    def since(self, revision: str) -> Iterator[Change]:
        """Yield the changes after ``revision``. Raises ExpiredError: they are not kept any more."""
        first = int(revision)
        if first < self._oldest:
            raise ExpiredError(f"revision {revision} is older than {self._oldest}")
        yield from (one for one in self._log if int(one.revision) > first)

    async def changed(self, revision: str) -> None:
        """Wait until there is something after ``revision``."""
        event = asyncio.Event()
        self._watchers.add(event)
        try:
            while self._revision <= int(revision) and int(revision) >= self._oldest:
                event.clear()
                await event.wait()
        finally:
            self._watchers.discard(event)

    def free(self, node: str) -> int:
        """Return how many GPUs of a node nobody holds."""
        here = self._with_holdings(self.nodes[node])
        return len(here.gpus) - sum(one.gpus for one in here.holdings)

    # ---- told what to do -------------------------------------------------------------------------

    def launch(self, step: Step) -> None:
        """Start a step whole. Raises RefusedError; then nothing of it was started."""
        if step.request_id in self.requests:
            return
        self._check(step)
        self.requests[step.request_id] = tuple(one.instance_id for one in step.launches)
        for one in step.launches:
            phase = Phase.READY if self.at_once else Phase.STARTING
            self._gpus[one.instance_id] = one.gpus
            self.put(
                Running(
                    one.instance_id,
                    one.service,
                    one.role,
                    phase,
                    tuple(Spot(spot.node) for spot in one.ranks),
                    gate=one.gate,
                    gate_seen=phase is Phase.READY and one.gate.open,
                    group=one.group,
                    template=one.template,
                    request_id=step.request_id,
                    endpoint=self._endpoint(one),
                    names=(one.instance_id,),
                    ends_at=None if self.life is None else self.clock() + self.life,
                )
            )

    def gate(self, instance_id: str, wish: GateWish) -> None:
        """Set what is wished of an instance's traffic. Raises RefusedError."""
        one = self._ours(instance_id)
        ready = one.phase is Phase.READY
        self.put(replace(one, gate=wish, gate_seen=wish.open and ready))

    def stop(self, instance_id: str, grace: float) -> None:
        """End an instance. Raises RefusedError."""
        one = self.running.get(instance_id)
        if one is None or one.phase in _GONE:
            return
        self._ours(instance_id)
        if one.kept:
            raise RefusedError(f"{instance_id} is kept: {one.kept}")
        self.graces[instance_id] = grace
        if one.phase is not Phase.STOPPING:
            phase = Phase.ENDED if self.at_once else Phase.STOPPING
            self.put(replace(one, phase=phase, gate_seen=False))

    def mark(self, node: str, reason: str) -> None:
        """Close a node for a reason of ours, or undo that. Raises RefusedError."""
        here = self.nodes.get(node)
        if here is None:
            raise RefusedError(f"there is no node {node}")
        if (reason and not here.closed) or (not reason and here.marked):
            self.put_node(replace(here, marked=reason, closed=reason and f"marked: {reason}"))

    def _ours(self, instance_id: str) -> Running:
        one = self.running.get(instance_id)
        if one is None:
            raise RefusedError(f"there is no {instance_id}")
        if one.origin:
            raise RefusedError(f"{instance_id} is not ours: {one.origin} launched it")
        return one

    def _check(self, step: Step) -> None:
        wanted: dict[str, int] = {}
        for one in step.launches:
            if one.instance_id in self.running:
                raise RefusedError(f"{one.instance_id} is there already")
            if not any((t.name, t.role) == (one.template, one.role) for t in self.templates):
                raise RefusedError(f"no template {one.template!r} for {one.role}")
            for spot in one.ranks:
                wanted[spot.node] = wanted.get(spot.node, 0) + one.gpus
        for name, gpus in wanted.items():
            self._check_node(name, gpus)
        for quota in self.quotas:
            used, more = self._used(quota.gpu_type), self._of_type(wanted, quota.gpu_type)
            if used + more > quota.limit:
                kind = quota.gpu_type or "GPU"
                raise RefusedError(f"quota: {used} + {more} {kind}s are more than {quota.limit}")

    def _check_node(self, name: str, gpus: int) -> None:
        if name not in self.nodes:
            raise RefusedError(f"no node {name!r}")
        if closed := self.nodes[name].closed:
            raise RefusedError(f"node {name} is closed: {closed}")
        if (left := self.free(name)) < gpus:
            raise RefusedError(f"node {name} has {left} GPUs left, {gpus} are asked for")

    def _of_type(self, wanted: Mapping[str, int], gpu_type: str) -> int:
        return sum(n for name, n in wanted.items() if self._is(name, gpu_type))

    def _used(self, gpu_type: str) -> int:
        return sum(
            len(one.ranks) * self._gpus.get(one.instance_id, 0)
            for one in self.running.values()
            if one.phase not in _GONE and self._is(one.ranks[0].node, gpu_type)
        )

    def _is(self, node: str, gpu_type: str) -> bool:
        here = self.nodes.get(node)
        return not gpu_type or (here is not None and any(g.type == gpu_type for g in here.gpus))

    def _endpoint(self, one: Launch) -> str:
        here = self.nodes[one.ranks[0].node]
        return f"http://{here.address or here.name}:8000/{one.instance_id}"

    def _with_holdings(self, node: Node) -> Node:
        ours = tuple(
            Holding(f"job/{one.instance_id}", self._gpus[one.instance_id], (), one.instance_id)
            for one in self.running.values()
            if one.phase not in _GONE and one.instance_id in self._gpus
            for spot in one.ranks
            if spot.node == node.name
        )
        return replace(node, holdings=(*node.holdings, *ours))

    # ---- driven by who tests ---------------------------------------------------------------------

    def add_node(
        self,
        name: str,
        gpus: int = 8,
        gpu_type: str = "H20",
        topology: Mapping[str, str] | None = None,
    ) -> None:
        """Let a node come."""
        rows = tuple(Gpu(index, gpu_type) for index in range(gpus))
        self.put_node(Node(name, rows, topology or {}, address=name))

    def put_node(self, node: Node) -> None:
        """Let a node be as given."""
        self.nodes[node.name] = node
        self.touch(nodes=(node.name,))

    def kill_node(self, name: str) -> None:
        """Let a node go, and all that stood there fail."""
        del self.nodes[name]
        for one in tuple(self.running.values()):
            if any(spot.node == name for spot in one.ranks) and one.phase not in _GONE:
                self.put(replace(one, phase=Phase.FAILED, message=f"node {name} died"))
        self.touch(nodes=(name,))

    def put(self, one: Running, gpus: int | None = None) -> None:
        """Let an instance be as given; with ``gpus`` it holds so many on each of its nodes."""
        before = self.running.get(one.instance_id)
        if gpus is not None:
            self._gpus[one.instance_id] = gpus
        self.running[one.instance_id] = one
        spots = (*one.ranks, *(before.ranks if before else ()))
        self.touch(running=(one.instance_id,), nodes=tuple(spot.node for spot in spots))

    def become(self, instance_id: str, phase: Phase, message: str = "") -> None:
        """Let an instance come to a phase."""
        one = self.running[instance_id]
        seen = one.gate.open and phase is Phase.READY
        self.put(replace(one, phase=phase, message=message, gate_seen=seen))

    def end_in(self, instance_id: str, seconds: float | None) -> None:
        """Let an instance's end be so far away; None: it has none."""
        at = None if seconds is None else self.clock() + seconds
        self.put(replace(self.running[instance_id], ends_at=at))

    def end_due(self) -> None:
        """Let what has reached its end be ended."""
        for one in tuple(self.running.values()):
            if one.ends_at is not None and one.ends_at <= self.clock() and one.phase not in _GONE:
                self.become(one.instance_id, Phase.FAILED, "its time limit was reached")

    def vanish(self, instance_id: str) -> None:
        """Let an instance be gone without a trace."""
        one = self.running.pop(instance_id)
        self.touch(running=(instance_id,), nodes=tuple(spot.node for spot in one.ranks))

    def expire(self) -> None:
        """Forget what changed until now: who watches from before must look anew."""
        self._revision += 1
        self._oldest = self._revision
        self._log.clear()
        self._wake()

    def touch(self, *, nodes: tuple[str, ...] = (), running: tuple[str, ...] = ()) -> None:
        """Tell those who watch that these are different, and how the notes are."""
        self._revision += 1
        there = {name: self.nodes.get(name) for name in nodes if name}
        self._log.append(
            Change(
                str(self._revision),
                {n: self._with_holdings(node) if node else None for n, node in there.items()},
                {key: self.running.get(key) for key in running},
                self.notes,
            )
        )
        self._wake()

    def _wake(self) -> None:
        for event in self._watchers:
            event.set()
