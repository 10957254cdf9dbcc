"""What a contract test needs of a cluster beside its adapter: who plays its hardware and its users.

A harness for a new kind of cluster implements ``Cluster``. What its world cannot do it names in
``lacks``, and the tests that ask for it are skipped with that reason. See ``suite.PortContract``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol, TypeVar

from heteroscale_scheduler_adapters.port import (
    Adapter,
    ExpiredError,
    GateWish,
    Launch,
    Node,
    Phase,
    Running,
    Spot,
    Step,
    World,
)

_T = TypeVar("_T")
PATIENCE = 60.0
"""Seconds until a fact that does not come fails its test."""


class Cluster(Protocol):
    """A cluster that a test drives. Methods return once it has taken it; facts may come later."""

    service: str
    """Of what is launched and adopted."""
    templates: Mapping[str, str]
    """Role (``prefill``, ``decode``) to a template that the adapter knows, of one GPU each."""
    pace: float
    """Seconds between looks while a test waits for a fact; 0 where facts come at once."""
    lacks: Mapping[str, str]
    """Method's name (or ``kept``, ``outage`` …) to why this world cannot do it."""

    async def adapter(self) -> Adapter:
        """Return a new adapter object over the same cluster, open; the harness closes it."""
        ...

    async def add_node(
        self,
        name: str,
        gpus: int = 8,
        gpu_type: str = "H20",
        topology: Mapping[str, str] | None = None,
    ) -> None:
        """Let a node come, with these GPUs and domains (level to name)."""
        ...

    async def remove_node(self, name: str) -> None:
        """Let a node be gone for good, and what stood there with it."""
        ...

    async def cordon(self, name: str, why: str) -> None:
        """Close a node to new work, as its administrators do."""
        ...

    async def taint(self, name: str, key: str, value: str, effect: str) -> None:
        """Taint a node."""
        ...

    async def quota(self, gpu_type: str, limit: int) -> None:
        """Let no more than so many GPUs be held."""
        ...

    async def occupy(self, node: str, gpus: int) -> str:
        """Have somebody else hold GPUs of a node; return the holder's name, or a part of it."""
        ...

    async def others(self, role: str, node: str) -> str:
        """Have somebody else start an instance of our service there, ready; return its instance id."""
        ...

    async def start(self, instance_id: str) -> None:
        """Play the kubelet: what was launched stands on its nodes, not ready."""
        ...

    async def ready(self, instance_id: str) -> None:
        """Let an instance get ready (``start`` before it if needed)."""
        ...

    async def fail(self, instance_id: str) -> None:
        """Let an instance end by itself, for good."""
        ...

    async def finish(self, instance_id: str) -> None:
        """Let an instance that was told to stop be gone."""
        ...

    async def keep(self, instance_id: str, why: str) -> None:
        """Have the cluster keep an instance (a disruption budget)."""
        ...

    async def expire(self) -> None:
        """Let revisions of before be no longer watchable."""
        ...

    async def outage(self) -> None:
        """Let nobody answer any more."""
        ...

    async def recover(self) -> None:
        """Undo ``outage``."""
        ...

    async def lose_next_answer(self, call: str) -> None:
        """Let the next such call be carried out, but its answer be lost."""
        ...


def launch(
    cluster: Cluster,
    instance_id: str,
    node: str,
    role: str = "decode",
    *,
    gate: GateWish | None = None,
    group: str = "",
) -> Launch:
    """Return the launch of one instance of one GPU."""
    return Launch(
        instance_id,
        cluster.service,
        role,
        cluster.templates[role],
        (Spot(node),),
        1,
        group=group,
        gate=gate or GateWish(open=True),
    )


def step(request_id: str, *launches: Launch) -> Step:
    """Return a step."""
    return Step(request_id, f"d-{request_id}", launches)


async def until(cluster: Cluster, adapter: Adapter, fact: Callable[[World], bool]) -> World:
    """Return the first world in which ``fact`` holds."""
    world: World | None = None
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while True:
                world = await adapter.world()
                if fact(world):
                    return world
                await asyncio.sleep(cluster.pace)
    raise AssertionError(f"it never came; the last world: {world}")


async def phase(cluster: Cluster, adapter: Adapter, instance_id: str, *phases: Phase) -> Running:
    """Return an instance once it is in one of these phases."""
    world = await until(
        cluster,
        adapter,
        lambda w: instance_id in w.running and w.running[instance_id].phase in phases,
    )
    return world.running[instance_id]


def over(world: World, instance_id: str) -> bool:
    """Return whether an instance is gone, or told as ended."""
    one = world.running.get(instance_id)
    return one is None or one.phase in (Phase.ENDED, Phase.FAILED)


class Replica:
    """A world that is kept by watching: ``nodes`` and ``running`` as the changes say.

    Expired, it looks at the whole anew, as the port asks.
    """

    def __init__(self, adapter: Adapter, world: World) -> None:
        self._adapter = adapter
        self._take(world)
        self.looked = 0
        self._moved = asyncio.Event()
        self._task = asyncio.create_task(self._follow())

    def _take(self, world: World) -> None:
        self.nodes: dict[str, Node] = dict(world.nodes)
        self.running: dict[str, Running] = dict(world.running)
        self._revision = world.revision

    async def _follow(self) -> None:
        while True:
            try:
                async for change in self._adapter.watch(self._revision):
                    _merge(self.nodes, change.nodes)
                    _merge(self.running, change.running)
                    self._revision = change.revision
                    self._moved.set()
            except ExpiredError:
                self._take(await self._adapter.world())
                self.looked += 1
                self._moved.set()

    async def until(self, fact: Callable[[Replica], bool]) -> None:
        """Wait until ``fact`` holds."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not fact(self):
                    self._moved.clear()
                    waiting = asyncio.ensure_future(self._moved.wait())
                    await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
                    waiting.cancel()
                    if self._task.done():
                        self._task.result()
        except TimeoutError:
            raise AssertionError(f"never told: {self.nodes} {self.running}") from None

    async def close(self) -> None:
        """Watch no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def _merge(table: dict[str, _T], changed: Mapping[str, _T | None]) -> None:
    for key, value in changed.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
