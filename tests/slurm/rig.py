"""An adapter over a mini Slurm, and what a test asks of both: each fact is waited for, none is timed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, cast

from heteroscale_scheduler_adapters.port import (
    AdapterError,
    Launch,
    Phase,
    Running,
    Spot,
    Step,
    World,
)
from heteroscale_scheduler_adapters.slurm import create
from heteroscale_scheduler_adapters.slurm.adapter import SlurmAdapter
from heteroscale_scheduler_adapters.slurm.hostlist import expand
from heteroscale_scheduler_adapters.slurm.way import Way
from tests.slurm.cluster import DEADLINE, SlurmCluster, slurm_cluster
from tests.slurm.files import Machine

# An engine that ends as it is told to.
ENGINE = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
ROLES = ("prefill", "decode")


class Told:
    """One cluster, and adapters that ask it."""

    def __init__(self, cluster: SlurmCluster, stack: AsyncExitStack) -> None:
        self.cluster = cluster
        self._stack = stack

    async def adapter(self, **options: Any) -> SlurmAdapter:
        """Return an adapter, open, as a coordinator's process that just started has it."""
        templates = [
            {"name": role, "role": role, "gpus": 4, "port": 8000, "script": ENGINE}
            for role in ROLES
        ]
        said = {
            "way": "command",
            "timeout": "20s",
            "command": {"config": self.cluster.environ["SLURM_CONF"]},
            "templates": templates,
            **options,
        }
        one = create("hpc", said)
        self._stack.push_async_callback(one.close)
        await one.open()
        return one

    async def until(self, adapter: SlurmAdapter, fact: Callable[[World], bool]) -> World:
        """Return the first world in which ``fact`` holds; looks that fail are looked again."""
        seen: object = None
        with suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                while True:
                    try:
                        world = await adapter.world()
                    except AdapterError as error:
                        seen = error
                    else:
                        if fact(world):
                            return world
                        seen = world
                    await asyncio.sleep(0.1)
        raise AssertionError(f"it never came; the last look: {seen}")

    async def phase(self, adapter: SlurmAdapter, instance: str, *phases: Phase) -> Running:
        """Return an instance once it is in one of these phases."""
        world = await self.until(adapter, lambda w: phase_of(w, instance) in phases)
        return world.running[instance]

    async def nodes(self, instance: str) -> list[str]:
        """Return where ``squeue`` says that an instance's job is."""
        said = await self.cluster.run("squeue", "-h", "-o", "%N|%k", "-t", "R")
        lines = [line.partition("|") for line in said.splitlines()]
        (where,) = [nodes for nodes, _, comment in lines if f'"{instance}"' in comment]
        return sorted(expand(where))

    async def job(self, instance: str) -> str:
        """Return the number of an instance's job that has not ended."""
        (number,) = await self.jobs(instance)
        return number

    async def jobs(self, instance: str) -> list[str]:
        """Return the numbers of an instance's jobs that have not ended."""
        said = await self.cluster.run("squeue", "-h", "-o", "%A|%k")
        lines = [line.partition("|") for line in said.splitlines()]
        return [number for number, _, comment in lines if f'"{instance}"' in comment]

    def leaf(self, node: str) -> str:
        """Return a node's leaf switch, as ``topology.conf`` has it."""
        text = (self.cluster.folder / "topology.conf").read_text()
        found = re.findall(r"SwitchName=(\S+) Nodes=(\S+)", text)
        (name,) = [name for name, nodes in found if node in nodes.split(",")]
        return cast("str", name)


@asynccontextmanager
async def told(
    machines: Sequence[Machine] | None = None, *, lines: Sequence[str] = (), rest: str = ""
) -> AsyncIterator[Told]:
    """Run a cluster."""
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(slurm_cluster(machines, lines=lines, rest=rest))
        yield Told(made, stack)


def launch(instance: str, *nodes: str, role: str = "decode", gpus: int = 4) -> Launch:
    """Return the launch of an instance with one rank on each node."""
    return Launch(instance, "chat", role, role, tuple(Spot(node) for node in nodes), gpus)


def step(request: str, *launches: Launch) -> Step:
    """Return a step."""
    return Step(request, f"d-{request}", launches)


def phase_of(world: World, instance: str) -> Phase | None:
    """Return an instance's phase; None: it is not there."""
    one = world.running.get(instance)
    return one.phase if one else None


class Between:
    """A way in where something happens just before a call, once; all else is the way's own."""

    def __init__(self, adapter: SlurmAdapter, call: str, happens: Callable[[], Any]) -> None:
        assert adapter._steps is not None
        self._way = adapter._steps._way
        self._call, self._happens, self._done = call, happens, False
        adapter._steps._way = cast("Way", self)

    def __getattr__(self, name: str) -> Any:
        if name != self._call or self._done:
            return getattr(self._way, name)
        self._done = True

        async def first(*given: Any, **named: Any) -> Any:
            if (work := self._happens()) is not None:
                await work
            return await getattr(self._way, name)(*given, **named)

        return first
