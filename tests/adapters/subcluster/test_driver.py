"""A cluster behind the port, as the coordinator's own loop sees it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from heteroscale.words import InstanceState
from heteroscale_coordinator.core.events import ReinstateInstance
from heteroscale_scheduler_adapters.memory import Hang, LostAnswer, Refusal, Unavailable
from heteroscale_scheduler_adapters.port import (
    Capabilities,
    GateWish,
    Holding,
    Phase,
    Quota,
    Running,
    Spot,
)
from tests.adapters.subcluster.rig import WHOLE, Rig, cluster, kubelet, played

S = InstanceState


@played
async def test_a_step_is_launched_whole_and_gets_into_service() -> None:
    east = cluster()
    rig = Rig(east)
    async with rig.coordinator() as one, kubelet(east):
        await one.serve()
        assert len(east.requests) == 1, "one step"
        assert all(run.phase is Phase.READY for run in east.running.values())
        for instance in one.having(S.IN_SERVICE):
            assert instance.agent_id.startswith("east/n")
            assert instance.gpu_type == "H20"
            assert instance.startup_time is not None
            assert 25 <= instance.startup_time <= 45
        await asyncio.sleep(300)
        assert one.serving() == WHOLE
        assert len(east.requests) == 1, "and nothing more"


@played
async def test_a_refused_launch_is_placed_elsewhere() -> None:
    east, west = cluster("east"), cluster("west")
    east.faults["launch"] = Refusal("no more today")
    rig = Rig(east, west)
    async with rig.coordinator() as one, kubelet(east, west):
        await one.serve()
        assert not east.running
        assert any("no more today" in i.message for i in one.having(S.FAILED)) or west.running


@played
async def test_a_launch_taken_whose_answer_is_lost_is_one_step_also_after_a_restart() -> None:
    east = cluster()
    east.faults["launch"] = LostAnswer()
    rig = Rig(east)
    async with rig.coordinator() as one:
        await one.apply()
        await one.until(lambda: east.requests, "the launch")
    east.faults.clear()
    async with rig.coordinator() as one, kubelet(east):
        await one.until(lambda: one.serving() == WHOLE, "in service")
        await asyncio.sleep(300)
        assert one.serving() == WHOLE
        assert len(east.requests) == 1
        assert len(east.running) == 3


@played
async def test_a_restart_in_the_middle_of_a_launch_converges() -> None:
    east = cluster()
    east.faults["launch"] = Hang()
    rig = Rig(east)
    async with rig.coordinator() as one:
        await one.apply()
        await one.until(lambda: any(c.startswith("launch") for c in east.calls), "the call")
    east.faults.clear()
    async with rig.coordinator() as one, kubelet(east):
        await one.until(lambda: one.serving() == WHOLE, "in service")
        assert len(east.requests) == 1
        assert len(east.running) == 3


@played
async def test_a_cluster_that_hangs_keeps_its_instances_counted_and_comes_back() -> None:
    east, west = cluster("east"), cluster("west")
    rig = Rig(east, west)
    async with rig.coordinator() as one, kubelet(east, west):
        await one.serve()
        (home,) = {i.agent_id.partition("/")[0] for i in one.having(S.IN_SERVICE)}
        hung = rig.clusters[home]
        ids = {i.instance_id for i in one.having(S.IN_SERVICE)}
        hung.faults["*"] = Hang()
        hung.expire()
        await one.until(lambda: {i.instance_id for i in one.having(S.UNKNOWN)} == ids, "unknown")
        await asyncio.sleep(600)
        assert {i.instance_id for i in one.having(S.UNKNOWN)} == ids, "counted, not replaced"
        other = "west" if home == "east" else "east"
        assert not rig.clusters[other].running
        assert one.state.clusters[home].trouble
        hung.faults.clear()
        await one.until(lambda: one.serving() == WHOLE, "back")
        assert {i.instance_id for i in one.having(S.IN_SERVICE)} == ids
        assert not one.state.clusters[home].trouble


@played
async def test_what_failed_while_a_cluster_was_cut_off_is_found_on_its_return() -> None:
    east = cluster()
    rig = Rig(east)
    async with rig.coordinator() as one, kubelet(east):
        await one.serve()
        east.faults["*"] = Unavailable()
        east.expire()
        await one.until(lambda: one.having(S.UNKNOWN), "unknown")
        lost = one.having(S.UNKNOWN)[0].instance_id
        east.become(lost, Phase.FAILED, "out of memory")
        east.faults.clear()
        await one.until(lambda: one.state.instances[lost].state is S.FAILED, "failed")
        assert "out of memory" in one.state.instances[lost].message
        await one.until(lambda: one.serving() == WHOLE, "replaced")


@played
async def test_a_node_that_dies_has_its_instances_replaced_elsewhere() -> None:
    east = cluster()
    rig = Rig(east)
    async with rig.coordinator() as one, kubelet(east):
        await one.serve()
        dead = one.having(S.IN_SERVICE)[0].agent_id
        east.kill_node(dead.removeprefix("east/"))
        await one.until(lambda: dead not in one.state.agents, "forgotten")
        await one.until(lambda: one.serving() == WHOLE, "replaced")
        assert all(i.agent_id != dead for i in one.having(S.IN_SERVICE))
        assert not one.state.partition


@played
async def test_a_drain_waits_for_what_is_in_flight_and_then_stops_with_grace() -> None:
    east = cluster()
    rig = Rig(east)
    async with rig.coordinator() as one, kubelet(east):
        await one.serve()
        victim = next(i for i in one.having(S.IN_SERVICE) if i.role.value == "decode")
        key = victim.instance_id
        one.in_flight[key] = 2.0
        await one.drain(key)
        assert not east.running[key].gate.open
        await asyncio.sleep(120)
        assert east.running[key].phase is Phase.READY, "two requests are in flight"
        assert "2 requests in flight" in one.state.instances[key].message
        one.in_flight[key] = 0.0
        await one.until(lambda: one.state.instances[key].state is S.TERMINATED, "gone")
        assert east.graces[key] == 30.0


@played
async def test_a_drain_goes_on_after_a_restart_and_unknown_is_not_quiet() -> None:
    east = cluster()
    rig = Rig(east)
    async with rig.coordinator() as one, kubelet(east):
        await one.serve()
        key = one.a_decode()
        one.measured = lambda instance_id: instance_id != key
        await one.drain(key)
        await asyncio.sleep(120)
        assert key not in east.graces, "nothing tells what runs inside"
    async with rig.coordinator() as one, kubelet(east):
        await one.until(lambda: one.state.instances[key].state is S.TERMINATED, "gone")
        assert key in east.graces


@played
async def test_a_drain_is_called_back() -> None:
    east = cluster()
    rig = Rig(east)
    async with rig.coordinator() as one, kubelet(east):
        await one.serve()
        key = one.a_decode()
        one.in_flight[key] = 1.0
        await one.drain(key)
        await one.submit(ReinstateInstance(one.request(), key))
        await one.until(lambda: one.state.instances[key].state is S.IN_SERVICE, "back")
        assert east.running[key].gate.open
        await asyncio.sleep(120)
        assert key not in east.graces


@played
async def test_a_lease_that_ran_out_without_a_coordinator_ends_with_the_next_one() -> None:
    east = cluster()
    rig = Rig(east)
    async with rig.coordinator() as one, kubelet(east):
        await one.serve()
        key = one.a_decode()
    east.gate(key, GateWish(False, "soft_scale_in", rig.clock() + 30.0))
    await asyncio.sleep(120)
    assert not east.running[key].gate.open, "nobody in the cluster ends it"
    async with rig.coordinator() as one, kubelet(east):
        await one.until(lambda: east.running[key].gate.open, "open")
        await one.until(lambda: one.serving() == WHOLE, "in service")


@played
async def test_what_others_hold_is_not_offered() -> None:
    east = cluster(nodes=2, gpus=2)
    full = replace(east.nodes["n0"], holdings=(Holding("job/7 (alice)", 2),))
    east.put_node(full)
    east.put_node(replace(east.nodes["n1"], holdings=(Holding("job/8 (bob)", 1, (0,)),)))
    rig = Rig(east)
    async with rig.coordinator() as one, kubelet(east):
        await one.apply()
        await one.until(lambda: one.decisions, "a decision")
        await asyncio.sleep(120)
        assert not east.requests, "one GPU is free, three are needed"
        east.put_node(replace(full, holdings=()))
        await one.until(lambda: one.serving() == WHOLE, "in service")


@played
async def test_a_closed_node_gets_nothing_new() -> None:
    east = cluster(nodes=2)
    east.put_node(replace(east.nodes["n0"], closed="disk replaced"))
    rig = Rig(east)
    async with rig.coordinator() as one, kubelet(east):
        await one.serve()
        assert {i.agent_id for i in one.having(S.IN_SERVICE)} == {"east/n1"}


@played
async def test_a_clusters_own_quota_is_kept() -> None:
    east, west = cluster("east"), cluster("west")
    east.quotas, west.quotas = (Quota("", 2),), (Quota("H20", 2),)
    rig = Rig(east, west)
    async with rig.coordinator() as one, kubelet(east, west):
        await one.apply()
        await one.until(lambda: one.state.clusters.get("west"), "told")
        await asyncio.sleep(300)
        for made in (east, west):
            assert len(made.running) <= 2
        assert not any("quota" in i.message for i in one.state.instances.values())


@played
async def test_what_others_launched_for_a_service_is_adopted_and_never_stopped() -> None:
    east = cluster()
    ranks, origin = (Spot("n0"),), "deployment/llm/theirs"
    theirs = Running("x-1", "chat", "decode", Phase.READY, ranks, origin=origin)
    east.put(theirs, gpus=1)
    rig = Rig(east)
    async with rig.coordinator() as one, kubelet(east):
        await one.serve()
        assert one.state.instances["x-1"].origin == origin
        assert one.state.instances["x-1"].gpu_type == "H20"
        assert not one.state.instances["x-1"].ours
        assert len(east.running) == 3, "theirs is counted"


@played
async def test_an_orphan_is_told_and_left_alone() -> None:
    east = cluster()
    east.put(Running("o-1", "gone", "decode", Phase.READY, (Spot("n0"),)), gpus=1)
    rig = Rig(east)
    async with rig.coordinator() as one, kubelet(east):
        await one.until(lambda: "east" in one.state.clusters, "told")
        assert any("orphan o-1" in note for note in one.state.clusters["east"].notes)
        await asyncio.sleep(300)
        assert east.running["o-1"].phase is Phase.READY


@played
async def test_a_world_that_is_suddenly_empty_is_not_believed_at_once() -> None:
    east = cluster()
    rig = Rig(east)
    async with rig.coordinator() as one, kubelet(east):
        await one.serve()
        nodes, running = dict(east.nodes), dict(east.running)
        east.nodes.clear()
        east.running.clear()
        east.expire()
        await asyncio.sleep(40)
        assert one.having(S.UNKNOWN), "silent, not dead"
        assert not one.having(S.FAILED, S.LOST)
        east.nodes.update(nodes)
        east.running.update(running)
        await one.until(lambda: one.serving() == WHOLE, "back")
        assert len(east.requests) == 1


@played
async def test_what_never_gets_ready_is_given_up_and_launched_elsewhere() -> None:
    east = cluster()
    rig = Rig(east)
    async with rig.coordinator() as one:
        await one.apply()
        await one.until(lambda: len(one.having(S.FAILED)) >= 3, "given up")
        failed = one.having(S.FAILED)[0]
        assert "not ready within 600 s" in failed.message
        await one.until(lambda: failed.instance_id in east.graces, "stopped")


@played
async def test_a_cluster_that_tells_no_changes_is_asked_anew() -> None:
    east = cluster()
    able = {"east": Capabilities(gates=True, watches=False)}
    rig = Rig(east, able=able)
    async with rig.coordinator() as one, kubelet(east):
        await one.serve()
        assert not any(call.startswith("watch") for call in east.calls)


@played
async def test_a_slow_cluster_does_not_slow_another() -> None:
    east, west = cluster("east"), cluster("west")
    east.faults["*"] = Hang()
    rig = Rig(east, west)
    async with rig.coordinator() as one, kubelet(east, west):
        began = rig.clock()
        await one.serve()
        assert rig.clock() - began < 180
        assert not east.running


@played
async def test_a_lease_is_written_seldom_while_it_is_renewed() -> None:
    east = cluster()
    rig = Rig(east)
    async with rig.coordinator() as one, kubelet(east):
        await one.serve()
        key = one.a_decode()
        one.in_flight[key] = 1.0
        await one.drain(key)
        east.calls.clear()
        await asyncio.sleep(300)
        written = sum(call == f"gate {key}" for call in east.calls)
        assert 15 <= written <= 22, "each 15 s, not with each renewal"
        assert one.state.instances[key].state is S.DRAINING
