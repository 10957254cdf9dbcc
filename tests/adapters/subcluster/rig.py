"""A real coordinator's loop and core around clusters, in virtual time: minutes pass in milliseconds.

Engines are played: each instance that the cluster shows as ready is measured every few seconds, by an
agent that stands beside them, as a DaemonSet's would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import wraps
from itertools import count
from typing import Any, TypeVar, cast

from heteroscale.documents import read_documents
from heteroscale.words import InstanceState, Role, ScrapeQuality
from heteroscale_coordinator.core.events import (
    AgentConnected,
    ApplyService,
    Changes,
    DrainInstance,
    ReportReceived,
    ScaleService,
    Wish,
)
from heteroscale_coordinator.core.model import Decision, EngineSample, Instance
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.spec import ServiceDocument
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import renewals
from heteroscale_coordinator.edge.adapters import Driver, Drivers, Pace
from heteroscale_coordinator.edge.admission import Admission
from heteroscale_coordinator.edge.dispatch import Dispatcher
from heteroscale_coordinator.edge.routers import Routers
from heteroscale_coordinator.edge.service import AgentService
from heteroscale_coordinator.edge.sessions import Sessions
from heteroscale_coordinator.edge.store.memory import Backing, MemoryStore
from heteroscale_coordinator.edge.trust import Gatekeeper
from heteroscale_coordinator.loop import Loop
from heteroscale_coordinator.zones import ZonedStep
from heteroscale_scheduler_adapters.memory import MemoryAdapter, MemoryCluster
from heteroscale_scheduler_adapters.port import Adapter, Capabilities, Phase, Template
from tests.adapters.subcluster.agents import AgentSite
from tests.agent.virtual import VirtualLoop

S = InstanceState
Result = TypeVar("Result")
START = 1_000_000.0
PATIENCE = 3_600.0
"""Virtual seconds until a fact that does not come fails its test."""
BESIDE = "beside"
CHAT = """\
apiVersion: heteroscale/v1
kind: Service
metadata:
  name: chat
spec:
  roles:
    prefill: {template: chat-prefill, min: 1, max: 8}
    decode: {template: chat-decode, min: 2, max: 16}
  ratio: "1:2"
  drain: {settle: 5s, quietScrapes: 3, grace: 30s, lease: 30s}
"""
WHOLE = {"prefill": 1, "decode": 2}
"""What of it serves."""
TEMPLATES = (Template("chat-prefill", "prefill", 1), Template("chat-decode", "decode", 1))


class _Inline(VirtualLoop):
    """Work for threads is done at once: time must not pass meanwhile."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the future's
            future.set_exception(error)
        return future


def play(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a test in virtual time."""
    with asyncio.Runner(loop_factory=_Inline) as runner:
        return runner.run(work)


def played(story: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Have a story be a test that is played in virtual time."""

    @wraps(story)
    def test(*fixtures: Any, **named: Any) -> None:
        play(story(*fixtures, **named))

    return test


def clock() -> float:
    """Return the time of all clusters and coordinators."""
    return START + asyncio.get_running_loop().time()


def cluster(name: str = "east", nodes: int = 4, gpus: int = 8, **more: Any) -> MemoryCluster:
    """Return a cluster of nodes in one minipod each two."""
    made = MemoryCluster(name, templates=TEMPLATES, clock=clock, **more)
    for number in range(nodes):
        topology = {"s1": f"{name}-rack-{number // 2}", "s2": f"{name}-row"}
        made.add_node(f"n{number}", gpus, topology=topology)
    return made


class Coordinator:
    """One process of it: a loop, its drivers, its outlet."""

    def __init__(self, loop: Loop, drivers: Drivers) -> None:
        self.loop, self.drivers = loop, drivers
        self.decisions: list[Decision] = []
        self._ids = count(1)
        self.in_flight: dict[str, float] = {}
        """By instance, requests that its engine says run there; others say none."""
        self.measured: Callable[[str], bool] = lambda _: True
        """Whether an instance's metrics are to be had."""

    @property
    def state(self) -> State:
        return self.loop.state

    async def submit(self, wish: Wish) -> None:
        """Have a wish granted; its refusal fails the test."""
        answer = await self.loop.submit(wish)
        assert not answer.error, answer.error

    async def apply(self, text: str = CHAT) -> None:
        """Apply a service."""
        document = read_documents(text, "chat.yaml")[0].parse(ServiceDocument)
        wish = ApplyService(self.request(), document.metadata.name, document.spec, text)
        await self.submit(wish)

    async def scale(self, **counts: int) -> None:
        """Set counts by hand."""
        wanted = {Role(name): number for name, number in counts.items()}
        await self.submit(ScaleService(self.request(), "chat", wanted))

    def request(self) -> str:
        return f"wish-{next(self._ids)}"

    def having(self, *states: InstanceState) -> list[Instance]:
        """Return the instances in one of these states, by id."""
        every = sorted(self.state.instances.values(), key=lambda one: one.instance_id)
        return [one for one in every if one.state in states]

    def serving(self) -> dict[str, int]:
        """Return how many of each role are in service."""
        found: dict[str, int] = {}
        for one in self.having(S.IN_SERVICE):
            found[one.role.value] = found.get(one.role.value, 0) + 1
        return found

    async def serve(self, text: str = CHAT) -> None:
        """Apply a service, and wait until it serves."""
        await self.apply(text)
        await self.until(lambda: self.serving() == WHOLE, "in service")

    def a_decode(self) -> str:
        """Return the id of a decode instance that serves."""
        found = self.having(S.IN_SERVICE)
        return next(one.instance_id for one in found if one.role is Role.DECODE)

    async def drain(self, instance_id: str) -> None:
        """Drain an instance, and wait until it is being emptied."""
        await self.submit(DrainInstance(self.request(), instance_id, "test"))
        await self.until(lambda: self.state.instances[instance_id].state is S.DRAINING, "draining")

    async def until(self, fact: Callable[[], Any], what: str = "") -> None:
        """Wait until ``fact`` holds."""
        for _ in range(int(2 * PATIENCE)):
            if fact():
                return
            await asyncio.sleep(0.5)
        rows = [(i.instance_id, i.role, i.state, i.agent_id) for i in self.state.instances.values()]
        said = [(d.action, d.reason) for d in self.decisions[-3:]]
        commands = [(c.verb, c.state, c.message) for c in self.state.commands.values()]
        raise AssertionError(f"never came: {what}\n{rows}\n{commands}\n{said}")

    async def measure(self) -> None:
        """Play the agent that measures what is ready, wherever it stands."""
        tokens: dict[str, float] = {}
        self.loop.mailbox.put_now(AgentConnected(BESIDE, 1, BESIDE))
        for sequence in count(1):
            await asyncio.sleep(5.0)
            now, samples = self.loop.now(), []
            for one in self.state.instances.values():
                if one.state in (S.IN_SERVICE, S.WITHDRAWN, S.DRAINING) and self.measured(
                    one.instance_id
                ):
                    tokens[one.instance_id] = tokens.get(one.instance_id, 0.0) + 1.0
                    samples.append(
                        EngineSample(
                            one.instance_id,
                            ScrapeQuality.OK,
                            now,
                            tokens[one.instance_id],
                            tokens[one.instance_id],
                            tokens[one.instance_id],
                            1.0,
                            0.0,
                            self.in_flight.get(one.instance_id, 0.0),
                            0.0,
                            0.0,
                            0.0,
                        )
                    )
            self.loop.mailbox.report(
                ReportReceived(BESIDE, 1, sequence, tuple(samples), received_at=now)
            )


class Rig:
    """Clusters and what lies on the coordinator's disk: both outlive coordinators."""

    def __init__(
        self,
        *clusters: MemoryCluster,
        rules: Rules | None = None,
        pace: Pace | None = None,
        able: Mapping[str, Capabilities] | None = None,
        hosts: Sequence[AgentSite] = (),
    ) -> None:
        self.clusters = {one.name: one for one in clusters}
        self.rules = rules or Rules()
        self.pace = pace or Pace()
        self.able = able or {}
        self.hosts = hosts
        """Sub-clusters of hosts with agents, beside those of adapters."""
        self.backing = Backing()

    def adapter(self, name: str) -> Adapter:
        """Return a new adapter object of a cluster."""
        if name in self.able:
            return cast(Adapter, MemoryAdapter(self.clusters[name], self.able[name]))
        return cast(Adapter, MemoryAdapter(self.clusters[name]))

    def clock(self) -> float:
        return clock()

    @asynccontextmanager
    async def coordinator(self) -> AsyncIterator[Coordinator]:
        """Run a coordinator; at the end it dies without a word."""
        store = MemoryStore(self.backing)
        snapshot = store.load()
        state = State(
            rules=self.rules,
            services=snapshot.services,
            instances=snapshot.instances,
            commands=snapshot.commands,
            cordons=snapshot.cordons,
        )
        loop = Loop(
            store=store,
            snapshot=snapshot,
            state=state,
            step=ZonedStep(),
            renewals=renewals,
            clock=self.clock,
        )
        drivers = Drivers(
            Driver(name, self.adapter(name), loop, self.pace, jitter=lambda: 0.5)
            for name in self.clusters
        )
        one = Coordinator(loop, drivers)
        sessions = Sessions(takeover_after=10.0)
        dispatcher = Dispatcher(sessions, Routers(), loop.now, drivers)
        dispatcher.restore(state)
        loop.outlet = dispatcher
        await loop.start()
        tasks = [
            asyncio.create_task(work)
            for work in (loop.run(), drivers.run(), one.measure(), _note(one))
        ]
        door = AgentService(
            loop=loop,
            sessions=sessions,
            dispatcher=dispatcher,
            admission=Admission(100.0, 100, loop.now),
            gatekeeper=Gatekeeper(mutual=False),
            cluster_id="local",
            coordinator_id="rig",
        )
        for site in self.hosts:
            site.dial(door)
        try:
            yield one
        finally:
            for site in self.hosts:
                await site.hang_up()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            loop.close()


async def _note(one: Coordinator) -> None:
    changes: Changes
    async for changes, _ in one.loop.subscribe():
        one.decisions.extend(changes.decisions)


async def ready_soon(made: MemoryCluster, after: float = 30.0) -> None:
    """Play the kubelet: what starts is ready some seconds later, what is stopped has ended."""
    since: dict[str, float] = {}
    while True:
        await asyncio.sleep(1.0)
        now = asyncio.get_running_loop().time()
        made.end_due()
        for key, one in tuple(made.running.items()):
            if one.phase is Phase.STARTING and now - since.setdefault(key, now) >= after:
                made.become(key, Phase.READY)
            elif one.phase is Phase.STOPPING:
                made.become(key, Phase.ENDED)


@asynccontextmanager
async def kubelet(*clusters: MemoryCluster, after: float = 30.0) -> AsyncIterator[None]:
    """Play every cluster's kubelet meanwhile."""
    tasks = [asyncio.create_task(ready_soon(one, after)) for one in clusters]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
