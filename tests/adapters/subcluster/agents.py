"""Hosts with agents, in virtual time: the agent's own link and body, and the coordinator's own face.

Between the two is a pipe that carries the bytes of the real messages; below the body are twins of
processes, routers and metrics. A host outlives coordinators, as its engines do.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from heteroscale.channel import TlsFiles
from heteroscale.v1 import agent_pb2
from heteroscale.words import Role, ScrapeQuality
from heteroscale_agent.body import AgentBody
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.hands.port import Hands
from heteroscale_agent.hands.process import Ident
from heteroscale_agent.identity import Identity
from heteroscale_agent.journal import Journal
from heteroscale_agent.link import LinkSettings, Session, Wiring
from heteroscale_agent.model import EngineScrape, EngineState, Gpu, Inventory, Report, TemplateInfo
from heteroscale_agent.outbox import Outbox
from heteroscale_agent.serverclock import LinkError
from heteroscale_coordinator.edge.service import AgentService
from tests.agent.body_twins import SPEC, Clock, FakeEyes, FakeGate, FakeProbe, FakeProcesses
from tests.agent.body_twins import FakeRoles as Roles

ROLES = {"chat-prefill": Role.PREFILL, "chat-decode": Role.DECODE}
_WELCOME = 10.0
_PAUSE = 1.0


class Wire:
    """A link between a host and the coordinator; cut, it holds back what is on its way."""

    def __init__(self) -> None:
        self.whole = asyncio.Event()
        self.whole.set()


class Pipe:
    """One stream over a wire, and both of its ends."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._up: asyncio.Queue[Any] = asyncio.Queue()
        self._down: asyncio.Queue[Any] = asyncio.Queue()

    async def _next(self, queue: asyncio.Queue[Any]) -> Any:
        said = await queue.get()
        await self._wire.whole.wait()
        return said

    # ---- the coordinator's end: a servicer's context ---------------------------------------------

    async def read(self) -> Any:
        return await self._next(self._up)

    async def write(self, message: agent_pb2.ConnectResponse) -> None:
        self._down.put_nowait(message.SerializeToString())

    def peer(self) -> str:
        return "pipe"

    async def abort(self, code: grpc.StatusCode, text: str) -> None:
        self._down.put_nowait((code, text))

    def hang_up(self) -> None:
        """The coordinator is gone."""
        self._down.put_nowait((grpc.StatusCode.UNAVAILABLE, "the coordinator is gone"))

    # ---- the agent's end -------------------------------------------------------------------------

    def end(self) -> AgentEnd:
        return AgentEnd(self)


class AgentEnd:
    """What the agent's session holds for a gRPC call."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._status = (grpc.StatusCode.OK, "")

    async def write(self, message: agent_pb2.ConnectRequest) -> None:
        self._pipe._up.put_nowait(message.SerializeToString())

    async def read(self) -> Any:
        said = await self._pipe._next(self._pipe._down)
        if isinstance(said, tuple):
            self._status = said
            return grpc.aio.EOF
        return agent_pb2.ConnectResponse.FromString(said)

    async def code(self) -> grpc.StatusCode:
        return self._status[0]

    async def details(self) -> str:
        return self._status[1]

    def cancel(self) -> None:
        self._pipe._up.put_nowait(grpc.aio.EOF)


class Eyes(FakeEyes):
    """Sees GPUs, and engines that are idle but for what a test says runs in them."""

    def __init__(self, cluster: str, name: str, gpus: int) -> None:
        super().__init__(Clock(), gpus)
        self.in_flight: dict[str, float] = {}
        topology = {"s1": f"{cluster}-rack", "s2": f"{cluster}-row", "physical_cluster": cluster}
        templates = tuple(TemplateInfo(key, role, 1, "sglang") for key, role in ROLES.items())
        rows = tuple(Gpu(i, f"{name}-GPU-{i}", "NVIDIA H20", "H20", 1 << 36) for i in range(gpus))
        self._inventory = Inventory(gpus=rows, topology=topology, templates=templates)

    def inventory(self) -> Inventory:
        return self._inventory

    def engine(self, instance_id: str) -> EngineState | None:
        running = self.in_flight.get(instance_id, 0.0)
        scrape = EngineScrape(running=running, waiting=0.0, transferring=0.0, kv_usage=0.0)
        now = asyncio.get_running_loop().time()
        return EngineState(instance_id, ScrapeQuality.OK, now, scrape)

    async def sample(self) -> Report:
        return Report(asyncio.get_running_loop().time(), 1.0)


class Host:
    """One of them."""

    def __init__(self, folder: Path, cluster: str, name: str, gpus: int) -> None:
        self.name, self.wire = name, Wire()
        self.processes, self.gate, self.probe = FakeProcesses(), FakeGate(), FakeProbe()
        self.eyes = Eyes(cluster, name, gpus)
        self.door: AgentService | None = None
        """The coordinator that can be dialled; None: nobody listens."""
        self.streams: set[asyncio.Task[None]] = set()
        templates = {
            key: {"command": ["engine", "{port}"], "role": role.value, "engine": "sglang"}
            for key, role in ROLES.items()
        }
        said = {**SPEC, "templates": templates, "state_dir": folder / name}
        self._spec = AgentSpec.model_validate(said)
        self._outbox = Outbox()
        self._interval = 5.0

    # ---- life ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Live until cancelled."""
        clock = asyncio.get_running_loop().time
        gates: Any = {"none": self.gate}
        hands = Hands(self.processes, gates, self.probe, Roles(), "boot-1")
        body = AgentBody(
            self._spec,
            self.eyes,
            self._outbox.put,
            hands,
            clock=clock,
            journal=Journal(self._spec.state_dir, wall=clock),
            rng=random.Random(7),  # noqa: S311 - draws ports
            agent_id=self.name,
        )
        identity = Identity(self.name, 1, f"token-{self.name}", "boot-1", self.name)
        settings = LinkSettings("pipe", TlsFiles(), True, "", "", "1.0")
        wiring = Wiring(settings, identity, self.eyes, body, self._outbox, clock, self._pace)
        await body.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(body.run())
            tasks.create_task(self._report())
            tasks.create_task(self._link(wiring))

    def _pace(self, interval: float) -> None:
        self._interval = interval

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            self._outbox.put_report(await self.eyes.sample())

    async def _link(self, wiring: Wiring) -> None:
        sequence = count(1)
        while True:
            if self.door is not None:
                pipe = Pipe(self.wire)
                stream = asyncio.create_task(self._serve(self.door, pipe))
                self.streams.add(stream)
                stream.add_done_callback(self.streams.discard)
                end: Any = pipe.end()
                with suppress(LinkError):
                    await Session(wiring, end, sequence, _WELCOME).run(asyncio.Event())
                end.cancel()
            await asyncio.sleep(_PAUSE)

    async def _serve(self, door: AgentService, pipe: Pipe) -> None:
        context: Any = pipe
        try:
            await door._connect(context, context)
        finally:
            pipe.hang_up()

    # ---- what a test asks ------------------------------------------------------------------------

    def ident(self, instance_id: str) -> Ident | None:
        return self.processes.find(instance_id)

    def starts(self, instance_id: str) -> int:
        """Return how many processes of an instance run now."""
        return sum(one.instance_id == instance_id for one in self.processes.running.values())


class AgentSite:
    """A sub-cluster of such hosts, as stories see it."""

    watched_by_rig = False
    """Whether the rig's own agent measures what stands there; these hosts measure theirs."""

    def __init__(self, folder: Path, name: str, hosts: int = 2, gpus: int = 4) -> None:
        self.name = name
        self.hosts = [Host(folder, name, f"{name}-h{n}", gpus) for n in range(hosts)]

    def dial(self, door: AgentService | None) -> None:
        """Let a coordinator be reached, or nobody."""
        for host in self.hosts:
            host.door = door

    async def hang_up(self) -> None:
        """The coordinator dies: its streams end."""
        self.dial(None)
        streams = [stream for host in self.hosts for stream in host.streams]
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Have the hosts live meanwhile."""
        tasks = [asyncio.create_task(host.run()) for host in self.hosts]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self) -> None:
        for host in self.hosts:
            host.wire.whole.clear()

    def heal(self) -> None:
        for host in self.hosts:
            host.wire.whole.set()

    def refuse(self, why: str) -> None:
        for host in self.hosts:
            host.processes.spawn_error = why

    def never_ready(self) -> None:
        for host in self.hosts:
            host.probe.answer = False

    def fail(self, instance_id: str) -> None:
        for host in self.hosts:
            if (ident := host.ident(instance_id)) is not None:
                host.processes.end(ident, 1)

    def busy(self, instance_id: str, requests: float) -> None:
        for host in self.hosts:
            host.eyes.in_flight[instance_id] = requests

    def launched(self) -> int:
        """Return how many were ever started."""
        return sum(host.processes.spawned for host in self.hosts)

    def alive_ids(self) -> set[str]:
        """Return what runs."""
        return {o.instance_id for host in self.hosts for o in host.processes.running.values()}

    def told_to_end(self) -> int:
        """Return how many got a TERM."""
        return sum(len(host.processes.terminated) for host in self.hosts)

    def routed(self, instance_id: str) -> bool:
        """Return whether traffic reaches it."""
        return any(instance_id in ids for host in self.hosts for ids in host.gate.places.values())
