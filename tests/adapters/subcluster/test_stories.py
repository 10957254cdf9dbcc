"""Clusters that refuse, keep, limit and are late, as the coordinator's loop sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from heteroscale.words import InstanceState, Role
from heteroscale_scheduler_adapters.memory import MemoryCluster, Unavailable
from heteroscale_scheduler_adapters.port import Phase, Turn
from tests.adapters.subcluster.rig import CHAT, WHOLE, Coordinator, Rig, cluster, kubelet, played

S = InstanceState


@asynccontextmanager
async def served(
    made: MemoryCluster, text: str = CHAT, after: float = 30.0
) -> AsyncIterator[Coordinator]:
    """Run a coordinator whose service serves."""
    async with Rig(made).coordinator() as one, kubelet(made, after=after):
        await one.serve(text)
        yield one


@played
async def test_a_drain_is_forced_when_its_time_is_over_and_says_so() -> None:
    east = cluster()
    text = CHAT.replace("grace: 30s", "grace: 30s, forceAfter: 90s")
    async with served(east, text) as one:
        one.in_flight = dict.fromkeys(east.running, 1.0)
        key = one.a_decode()
        await one.drain(key)
        began = asyncio.get_running_loop().time()
        await one.until(lambda: key in east.graces, "stopped")
        assert 85 <= asyncio.get_running_loop().time() - began <= 100
        await one.until(lambda: one.state.instances[key].state is S.TERMINATED, "gone")
        assert list(east.graces) == [key]


@played
async def test_what_a_disruption_budget_keeps_stays_out_of_traffic_and_leaves_when_it_may() -> None:
    east = cluster()
    async with served(east) as one:
        for key in tuple(east.running):
            east.put(replace(east.running[key], kept="budget chat: 0 disruptions allowed"))
        key = one.a_decode()
        await one.drain(key)
        await one.until(lambda: "empty, but kept" in one.state.instances[key].message, "told why")
        assert "budget chat" in one.state.instances[key].message
        assert east.running[key].phase is Phase.READY
        assert not east.running[key].gate.open
        tries = sum(call == f"stop {key}" for call in east.calls)
        await asyncio.sleep(60)
        assert 3 <= sum(call == f"stop {key}" for call in east.calls) - tries <= 8
        east.put(replace(east.running[key], kept=""))
        await one.until(lambda: one.state.instances[key].state is S.TERMINATED, "gone")


@played
async def test_a_cluster_that_asks_to_be_left_alone_is() -> None:
    east = cluster()
    east.faults["launch"] = Unavailable("too many requests", times=2, retry_after=20.0)
    loop = asyncio.get_running_loop()
    async with Rig(east).coordinator() as one, kubelet(east, after=1.0):
        await one.apply()
        await one.until(lambda: any(c.startswith("launch") for c in east.calls), "asked")
        began = loop.time()
        await one.until(lambda: east.requests, "taken")
        assert loop.time() - began >= 39.0
        assert sum(call.startswith("launch") for call in east.calls) == 3
        await one.until(lambda: one.serving() == WHOLE, "in service")
        assert len(east.running) == 3


@played
async def test_an_instance_of_several_ranks_stands_on_several_nodes_and_fails_with_one() -> None:
    east = cluster()
    text = CHAT.replace("{template: chat-decode,", "{template: chat-decode, ranks: 2,")
    async with served(east, text) as one:
        wide = next(i for i in one.having(S.IN_SERVICE) if i.role.value == "decode")
        nodes = [rank.agent_id.removeprefix("east/") for rank in wide.ranks]
        assert len(set(nodes)) == 2
        assert [spot.node for spot in east.running[wide.instance_id].ranks] == nodes
        east.kill_node(nodes[1])
        await one.until(
            lambda: one.state.instances[wide.instance_id].state in (S.FAILED, S.LOST), "failed"
        )
        await one.until(lambda: one.serving() == WHOLE, "replaced")
        used = {rank.agent_id for i in one.having(S.IN_SERVICE) for rank in i.ranks}
        assert f"east/{nodes[1]}" not in used


@played
async def test_what_demand_does_not_need_is_withdrawn_watched_and_then_drained() -> None:
    east = cluster()
    async with served(east) as one:
        await one.scale(prefill=2, decode=4)
        await one.until(lambda: one.serving() == {"prefill": 2, "decode": 4}, "more")
        await one.until(lambda: one.having(S.WITHDRAWN), "withdrawn")
        key = one.having(S.WITHDRAWN)[0].instance_id
        wish = east.running[key].gate
        assert (wish.open, wish.reason) == (False, "soft_scale_in")
        assert wish.until is not None, "leased: it heals by itself"
        assert east.running[key].phase is Phase.READY, "and can be back at once"
        assert not east.graces
        await one.until(lambda: key in east.graces, "stopped")
        await one.until(lambda: one.serving() == WHOLE, "as few as are needed")


@played
async def test_of_an_object_with_ordinals_the_highest_leave() -> None:
    east = cluster()
    async with served(east) as one:
        await one.scale(prefill=2, decode=5)
        await one.until(lambda: one.serving() == {"prefill": 2, "decode": 5}, "more")
        # The newest have the lowest numbers: without them the newest would leave.
        decodes = [run for run in east.running.values() if run.role == "decode"]
        for number, run in enumerate(sorted(decodes, key=lambda run: -run.since)):
            east.put(replace(run, turn=Turn("StatefulSet chat", number)))
        await one.until(lambda: len(one.having(S.WITHDRAWN)) > 1, "withdrawn")
        out = {i.turn for i in one.having(S.WITHDRAWN) if i.role is Role.DECODE}
        assert out == {("StatefulSet chat", number) for number in range(5 - len(out), 5)}


def waiting(made: MemoryCluster) -> set[str]:
    """Return what stands out of traffic until the other role of its step serves."""
    return {key for key, run in made.running.items() if run.gate.reason == "ratio_hold"}


@played
async def test_of_a_step_who_is_ready_first_waits_for_the_other_role() -> None:
    east = cluster()
    text = CHAT + "  policy: {ratioGuard: {deadline: 300s}}\n"
    async with served(east, text) as one:
        await asyncio.sleep(120)  # while demand is unknown nobody is kept waiting
        await one.scale(prefill=3, decode=6)
        await one.until(lambda: waiting(east), "launched to wait")
        before = waiting(east)
        assert all(east.running[key].gate.until is not None for key in before), "at most so long"
        await one.until(lambda: any(i.instance_id in before for i in one.having(S.WITHDRAWN)), "")
        await one.until(lambda: one.serving() == {"prefill": 3, "decode": 6}, "all serve")
        assert all(run.gate.open for run in east.running.values())
