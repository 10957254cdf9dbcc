"""Sick nodes are told to the cluster's own people, and what others closed is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

from heteroscale.words import WITHIN
from heteroscale_coordinator.core.devices import GpuFact, GpuSample, KnownDevices
from heteroscale_coordinator.core.events import AgentConnected, InventoryLearned, ReportReceived
from heteroscale_coordinator.core.model import Inventory
from heteroscale_scheduler_adapters.memory import MemoryCluster, Refusal
from heteroscale_scheduler_adapters.port import Capabilities
from tests.adapters.subcluster.rig import Coordinator, Rig, cluster, play

WELL, SICK = GpuSample(process_count=0), GpuSample(xid_count=1, last_xid=79)


class Standing:
    """An agent that stands within a node, and tells every few seconds how its GPU is."""

    def __init__(self, one: Coordinator, node: str) -> None:
        self._one, self._node, self.gpu = one, node, WELL

    async def run(self) -> None:
        box, name = self._one.loop.mailbox, f"standing-{self._node}"
        inventory = Inventory(gpus=(GpuFact(0, "H20"),), labels={WITHIN: f"east/{self._node}"})
        box.put_now(InventoryLearned(name, inventory))
        box.put_now(AgentConnected(name, 1, name))
        for sequence in count(1):
            await asyncio.sleep(5)
            now = self._one.loop.now()
            told = KnownDevices([self.gpu], [])
            box.report(ReportReceived(name, 1, sequence, devices=told, received_at=now))


@asynccontextmanager
async def standing(one: Coordinator, node: str) -> AsyncIterator[Standing]:
    agent = Standing(one, node)
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _mark(east: MemoryCluster, node: str = "n0") -> str:
    return east.nodes[node].marked


def test_a_node_with_a_sick_gpu_is_marked_and_the_mark_is_taken_back_once_it_is_well() -> None:
    async def story() -> None:
        east = cluster()
        async with Rig(east).coordinator() as one, standing(one, "n0") as agent:
            await asyncio.sleep(120)
            assert not any(node.marked for node in east.nodes.values())
            agent.gpu = SICK
            await asyncio.sleep(50)
            assert not _mark(east), "it may pass"
            await one.until(lambda: _mark(east), "marked")
            marks = {name: node.marked for name, node in east.nodes.items() if node.marked}
            assert marks == {"n0": "GPU 0: Xid 79"}
            agent.gpu = WELL
            await asyncio.sleep(500)
            assert _mark(east), "not yet"
            await one.until(lambda: not east.nodes["n0"].closed, "open again")
            assert sum(call.startswith("mark") for call in east.calls) == 2

    play(story())


def test_what_others_closed_is_left_as_it_is() -> None:
    async def story() -> None:
        east = cluster()
        east.put_node(replace(east.nodes["n0"], closed="drained: a fan"))
        async with Rig(east).coordinator() as one, standing(one, "n0") as agent:
            agent.gpu = SICK
            await asyncio.sleep(300)
            agent.gpu = WELL
            await asyncio.sleep(900)
            assert east.nodes["n0"].closed == "drained: a fan"
            assert not any(call.startswith("mark") for call in east.calls)

    play(story())


def test_where_nobody_tells_any_more_a_mark_stands() -> None:
    async def story() -> None:
        east = cluster()
        async with Rig(east).coordinator() as one:
            async with standing(one, "n0") as agent:
                agent.gpu = SICK
                await one.until(lambda: _mark(east), "marked")
            await asyncio.sleep(1800)
            assert _mark(east)

    play(story())


def test_a_refused_mark_is_not_asked_for_every_second() -> None:
    async def story() -> None:
        east = cluster()
        east.faults["mark"] = Refusal("you are no operator")
        async with Rig(east).coordinator() as one, standing(one, "n0") as agent:
            agent.gpu = SICK
            await asyncio.sleep(360)
            assert 2 <= sum(call.startswith("mark") for call in east.calls) <= 6

    play(story())


def test_nothing_is_marked_where_nobody_asked_for_it() -> None:
    async def story() -> None:
        east = cluster()
        able = {"east": Capabilities(gates=True, watches=True)}
        async with Rig(east, able=able).coordinator() as one, standing(one, "n0") as agent:
            agent.gpu = SICK
            await asyncio.sleep(300)
            assert not any(call.startswith("mark") for call in east.calls)

    play(story())
