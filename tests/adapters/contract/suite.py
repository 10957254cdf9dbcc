"""What every adapter must do, whatever its cluster: subclass ``PortContract`` with a ``cluster`` fixture.

    class TestKubernetes(PortContract):
        @pytest.fixture
        async def cluster(self) -> AsyncIterator[Cluster]: ...

Capabilities decide what is asked; what a harness cannot play is skipped with its own reason.
"""

from __future__ import annotations

import asyncio

import pytest

from heteroscale_scheduler_adapters.port import (
    Adapter,
    GateWish,
    Launch,
    Phase,
    RefusedError,
    Spot,
    UnavailableError,
)
from tests.adapters.contract.harness import (
    Cluster,
    Replica,
    launch,
    over,
    phase,
    step,
    until,
)

CLOSED = GateWish(open=False, reason="soft_scale_in", until=2_000_000_000.0)


def need(cluster: Cluster, *methods: str) -> None:
    """Skip the test where the harness cannot play what it asks for."""
    for method in methods:
        if why := cluster.lacks.get(method):
            pytest.skip(f"{method}: {why}")


def need_gates(adapter: Adapter) -> None:
    if not adapter.capabilities.gates:
        pytest.skip("this cluster gates no traffic: an agent beside the engine does")


def need_watch(adapter: Adapter) -> None:
    if not adapter.capabilities.watches:
        pytest.skip("this cluster tells no changes: it is asked anew each few seconds")


async def serving(
    cluster: Cluster, adapter: Adapter, instance_id: str, node: str, role: str = "decode"
) -> None:
    """Launch one instance and let it get ready."""
    await adapter.launch(step(f"r-{instance_id}", launch(cluster, instance_id, node, role)))
    await cluster.ready(instance_id)
    await phase(cluster, adapter, instance_id, Phase.READY)


class PortContract:
    """The contract of ``port.Adapter``."""

    # ---- what is there ---------------------------------------------------------------------------

    async def test_the_world_tells_nodes_with_their_gpus_and_domains(
        self, cluster: Cluster
    ) -> None:
        await cluster.add_node("n1", 4, "H20", {"s1": "rack-1", "s2": "row-1"})
        await cluster.add_node("n2", 2, "L20", {"s1": "rack-2", "s2": "row-1"})
        adapter = await cluster.adapter()
        world = await until(cluster, adapter, lambda w: {"n1", "n2"} <= w.nodes.keys())
        first, second = world.nodes["n1"], world.nodes["n2"]
        assert [gpu.type for gpu in first.gpus] == ["H20"] * 4
        assert len({gpu.index for gpu in first.gpus}) == 4
        assert [gpu.type for gpu in second.gpus] == ["L20"] * 2
        assert first.topology["s1"] != second.topology["s1"]
        assert first.topology["s2"] == second.topology["s2"]
        assert "physical_cluster" not in first.topology, "that is the adapter's name"
        assert not first.closed
        assert not first.holdings

    async def test_a_node_that_went_is_in_the_world_no_more(self, cluster: Cluster) -> None:
        need(cluster, "remove_node")
        await cluster.add_node("n1")
        await cluster.add_node("n2")
        adapter = await cluster.adapter()
        await until(cluster, adapter, lambda w: {"n1", "n2"} <= w.nodes.keys())
        await cluster.remove_node("n1")
        await until(cluster, adapter, lambda w: "n1" not in w.nodes and "n2" in w.nodes)

    async def test_a_closed_node_says_why(self, cluster: Cluster) -> None:
        need(cluster, "cordon")
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        await cluster.cordon("n1", "disk replaced")
        world = await until(cluster, adapter, lambda w: bool(w.nodes["n1"].closed))
        assert len(world.nodes["n1"].gpus) == 8, "what runs there still has its GPUs"

    async def test_taints_are_told(self, cluster: Cluster) -> None:
        need(cluster, "taint")
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        await cluster.taint("n1", "dedicated", "research", "NoSchedule")

        world = await until(cluster, adapter, lambda w: bool(w.nodes["n1"].taints))
        (taint,) = world.nodes["n1"].taints
        assert (taint.key, taint.value, taint.effect) == ("dedicated", "research", "NoSchedule")

    async def test_quotas_are_told_and_kept_by_whole_steps(self, cluster: Cluster) -> None:
        need(cluster, "quota")
        await cluster.add_node("n1", 8, "H20")
        adapter = await cluster.adapter()
        await cluster.quota("H20", 1)
        world = await until(cluster, adapter, lambda w: bool(w.quotas))
        assert [(q.gpu_type, q.limit) for q in world.quotas] in ([("H20", 1)], [("", 1)])
        with pytest.raises(RefusedError):
            await adapter.launch(
                step("r1", launch(cluster, "i-1", "n1"), launch(cluster, "i-2", "n1"))
            )
        world = await adapter.world()
        assert over(world, "i-1")
        assert over(world, "i-2")

    async def test_what_others_hold_is_a_holding_and_no_instance(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        holder = await cluster.occupy("n1", 3)
        world = await until(cluster, adapter, lambda w: bool(w.nodes["n1"].holdings))
        (held,) = world.nodes["n1"].holdings
        assert holder in held.holder
        assert held.gpus == 3
        assert len(set(held.indices)) in (0, 3)
        assert not held.instance_id
        assert not world.running

    async def test_what_we_hold_is_a_holding_of_its_instance(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        await serving(cluster, adapter, "i-1", "n1")
        world = await until(cluster, adapter, lambda w: bool(w.nodes["n1"].holdings))
        (held,) = world.nodes["n1"].holdings
        assert (held.instance_id, held.gpus) == ("i-1", 1)

    async def test_an_instance_of_ours_that_others_launched_is_adopted_and_never_stopped(
        self, cluster: Cluster
    ) -> None:
        need(cluster, "others")
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        theirs = await cluster.others("decode", "n1")
        one = await phase(cluster, adapter, theirs, Phase.READY)
        assert one.origin
        assert (one.service, one.role, one.request_id) == (cluster.service, "decode", "")
        assert one.ranks[0].node == "n1"
        with pytest.raises(RefusedError):
            await adapter.stop(theirs, 1.0)
        again = await (await cluster.adapter()).world()
        assert again.running[theirs].phase is Phase.READY, "by the same id, and untouched"

    async def test_templates_are_told(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        world = await (await cluster.adapter()).world()
        known = {(t.name, t.role, t.gpus) for t in world.templates}
        assert {(name, role, 1) for role, name in cluster.templates.items()} <= known

    async def test_without_an_answer_the_world_is_not_known(self, cluster: Cluster) -> None:
        need(cluster, "outage")
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        await until(cluster, adapter, lambda w: "n1" in w.nodes)
        await cluster.outage()
        with pytest.raises(UnavailableError):
            await adapter.world()
        with pytest.raises(UnavailableError):
            await adapter.launch(step("r1", launch(cluster, "i-1", "n1")))
        with pytest.raises(UnavailableError):
            await adapter.stop("i-0", 1.0)
        await cluster.recover()
        await until(cluster, adapter, lambda w: "n1" in w.nodes)

    # ---- watched ---------------------------------------------------------------------------------

    async def test_a_watch_tells_what_the_world_would(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        need_watch(adapter)
        world = await until(cluster, adapter, lambda w: "n1" in w.nodes)
        replica = Replica(adapter, world)
        try:
            await cluster.add_node("n2", 2, "L20")
            await serving(cluster, adapter, "i-1", "n1")
            await cluster.occupy("n2", 1)
            await replica.until(
                lambda r: (
                    "n2" in r.nodes
                    and bool(r.nodes["n2"].holdings)
                    and "i-1" in r.running
                    and r.running["i-1"].phase is Phase.READY
                )
            )
            await cluster.fail("i-1")
            await replica.until(
                lambda r: "i-1" not in r.running or r.running["i-1"].phase is Phase.FAILED
            )
            now = await until(cluster, adapter, lambda w: not w.nodes["n1"].holdings)
            await replica.until(lambda r: r.nodes == now.nodes)
            # What a controller puts in its place comes when it comes: both are asked until they agree.
            await until(cluster, adapter, lambda w: replica.running == w.running)
            assert not replica.looked, "it never had to look anew"
        finally:
            await replica.close()

    async def test_a_watch_that_expired_is_as_good_as_the_world_anew(
        self, cluster: Cluster
    ) -> None:
        need(cluster, "expire")
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        need_watch(adapter)
        world = await until(cluster, adapter, lambda w: "n1" in w.nodes)
        await cluster.add_node("n2")
        await cluster.expire()
        replica = Replica(adapter, world)
        try:
            await replica.until(lambda r: "n2" in r.nodes)
            assert replica.nodes == (await adapter.world()).nodes
        finally:
            await replica.close()

    # ---- launched --------------------------------------------------------------------------------

    async def test_a_step_starts_and_is_told_as_it_was_asked(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        await cluster.add_node("n2")
        adapter = await cluster.adapter()
        await adapter.launch(
            step(
                "r1",
                launch(cluster, "i-1", "n1", "prefill", group="g-1"),
                launch(cluster, "i-2", "n2", "decode", group="g-1"),
            )
        )
        await cluster.ready("i-1")
        await cluster.ready("i-2")
        first = await phase(cluster, adapter, "i-1", Phase.READY)
        second = await phase(cluster, adapter, "i-2", Phase.READY)
        assert (first.service, first.role, first.group) == (cluster.service, "prefill", "g-1")
        assert (first.request_id, first.origin) == ("r1", "")
        assert first.template == cluster.templates["prefill"]
        assert [spot.node for spot in first.ranks] == ["n1"]
        assert [spot.node for spot in second.ranks] == ["n2"]
        assert first.endpoint
        assert first.gate.open

    async def test_a_step_is_told_from_when_it_was_taken(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        await adapter.launch(step("r1", launch(cluster, "i-1", "n1")))
        one = await phase(cluster, adapter, "i-1", Phase.QUEUED, Phase.STARTING, Phase.READY)
        assert one.request_id == "r1"

    async def test_a_step_that_cannot_be_whole_starts_nothing(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        good = launch(cluster, "i-1", "n1")
        bad = Launch("i-2", cluster.service, "decode", "no-such", (Spot("n1"),), 1)
        with pytest.raises(RefusedError):
            await adapter.launch(step("r1", good, bad))
        world = await adapter.world()
        assert over(world, "i-1")
        assert over(world, "i-2")
        assert not world.nodes["n1"].holdings

    async def test_a_step_asked_again_is_the_same_step(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        asked = step("r1", launch(cluster, "i-1", "n1"), launch(cluster, "i-2", "n1"))
        await adapter.launch(asked)
        await adapter.launch(asked)
        later = await cluster.adapter()
        await later.launch(asked)
        await cluster.ready("i-1")
        await cluster.ready("i-2")
        await phase(cluster, later, "i-1", Phase.READY)
        await phase(cluster, later, "i-2", Phase.READY)
        await later.launch(asked)
        world = await until(
            cluster, later, lambda w: sum(h.gpus for h in w.nodes["n1"].holdings) == 2
        )
        assert set(world.running) == {"i-1", "i-2"}

    async def test_two_who_ask_at_once_start_one_step(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        first, second = await cluster.adapter(), await cluster.adapter()
        asked = step("r1", launch(cluster, "i-1", "n1"))
        await asyncio.gather(first.launch(asked), second.launch(asked))
        await cluster.ready("i-1")
        world = await until(cluster, first, lambda w: bool(w.nodes["n1"].holdings))
        assert [held.gpus for held in world.nodes["n1"].holdings] == [1]
        assert set(world.running) == {"i-1"}

    async def test_a_launch_whose_answer_was_lost_is_finished_by_asking_again(
        self, cluster: Cluster
    ) -> None:
        need(cluster, "lose_next_answer")
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        asked = step("r1", launch(cluster, "i-1", "n1"), launch(cluster, "i-2", "n1"))
        await cluster.lose_next_answer("launch")
        with pytest.raises(UnavailableError):
            await adapter.launch(asked)
        await (await cluster.adapter()).launch(asked)
        await cluster.ready("i-1")
        await cluster.ready("i-2")
        world = await until(
            cluster, adapter, lambda w: sum(h.gpus for h in w.nodes["n1"].holdings) == 2
        )
        assert set(world.running) == {"i-1", "i-2"}

    async def test_an_instance_that_ended_by_itself_has_failed_and_holds_nothing(
        self, cluster: Cluster
    ) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        await serving(cluster, adapter, "i-1", "n1")
        await cluster.fail("i-1")
        await phase(cluster, adapter, "i-1", Phase.FAILED)
        await until(cluster, adapter, lambda w: not w.nodes["n1"].holdings)

    async def test_an_instance_of_several_ranks_starts_on_all_its_nodes(
        self, cluster: Cluster
    ) -> None:
        await cluster.add_node("n1")
        await cluster.add_node("n2")
        adapter = await cluster.adapter()
        if not adapter.capabilities.several_ranks:
            pytest.skip("no instances of several ranks here")
        need(cluster, "several_ranks")
        one = launch(cluster, "i-1", "n1")
        wide = Launch("i-1", one.service, one.role, one.template, (Spot("n1"), Spot("n2")), 1)
        await adapter.launch(step("r1", wide))
        await cluster.ready("i-1")
        seen = await phase(cluster, adapter, "i-1", Phase.READY)
        assert [spot.node for spot in seen.ranks] == ["n1", "n2"]
        await until(
            cluster, adapter, lambda w: all(len(w.nodes[n].holdings) == 1 for n in ("n1", "n2"))
        )

    # ---- gated -----------------------------------------------------------------------------------

    async def test_a_gate_is_a_level_and_survives_the_adapter(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        need_gates(adapter)
        await serving(cluster, adapter, "i-1", "n1")
        await adapter.gate("i-1", CLOSED)
        await adapter.gate("i-1", CLOSED)
        later = await cluster.adapter()
        world = await until(cluster, later, lambda w: w.running["i-1"].gate == CLOSED)
        assert world.running["i-1"].phase is Phase.READY, "withdrawn is not stopped"
        await until(cluster, later, lambda w: w.running["i-1"].gate_seen is not True)
        await later.gate("i-1", GateWish(open=True))
        world = await until(cluster, adapter, lambda w: w.running["i-1"].gate.open)
        assert world.running["i-1"].gate_seen is not False

    async def test_a_lease_is_renewed_by_asking_again(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        need_gates(adapter)
        await serving(cluster, adapter, "i-1", "n1")
        await adapter.gate("i-1", CLOSED)
        longer = GateWish(open=False, reason="soft_scale_in", until=2_000_000_030.0)
        await adapter.gate("i-1", longer)
        await until(cluster, adapter, lambda w: w.running["i-1"].gate == longer)

    async def test_what_is_launched_withdrawn_gets_ready_and_no_traffic(
        self, cluster: Cluster
    ) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        need_gates(adapter)
        held = GateWish(open=False, reason="ratio_hold", until=2_000_000_000.0)
        await adapter.launch(step("r1", launch(cluster, "i-1", "n1", gate=held)))
        await cluster.ready("i-1")
        one = await phase(cluster, adapter, "i-1", Phase.READY)
        assert one.gate == held
        assert one.gate_seen is not True

    async def test_nobody_is_gated_who_is_not_there(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        need_gates(adapter)
        with pytest.raises(RefusedError):
            await adapter.gate("i-0", CLOSED)

    # ---- stopped ---------------------------------------------------------------------------------

    async def test_a_stop_is_a_level_and_ends_one_instance(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        await serving(cluster, adapter, "i-1", "n1")
        await serving(cluster, adapter, "i-2", "n1")
        await adapter.stop("i-1", 30.0)
        await (await cluster.adapter()).stop("i-1", 30.0)
        await until(
            cluster,
            adapter,
            lambda w: over(w, "i-1") or w.running["i-1"].phase is Phase.STOPPING,
        )
        await cluster.finish("i-1")
        world = await until(cluster, adapter, lambda w: over(w, "i-1"))
        assert "i-1" not in world.running or world.running["i-1"].phase is Phase.ENDED
        assert world.running["i-2"].phase is Phase.READY
        await until(cluster, adapter, lambda w: len(w.nodes["n1"].holdings) == 1)
        await adapter.stop("i-1", 30.0)

    async def test_who_was_never_there_is_stopped_already(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        await adapter.stop("i-0", 1.0)

    async def test_what_has_not_started_can_be_stopped(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        await adapter.launch(step("r1", launch(cluster, "i-1", "n1")))
        await adapter.stop("i-1", 1.0)
        await cluster.finish("i-1")
        await until(cluster, adapter, lambda w: over(w, "i-1"))
        await until(cluster, adapter, lambda w: not w.nodes["n1"].holdings)

    async def test_what_the_cluster_keeps_is_refused_and_goes_on(self, cluster: Cluster) -> None:
        need(cluster, "keep")
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        await serving(cluster, adapter, "i-1", "n1")
        await cluster.keep("i-1", "a disruption budget")
        with pytest.raises(RefusedError):
            await adapter.stop("i-1", 30.0)
        world = await adapter.world()
        assert world.running["i-1"].phase is Phase.READY
        assert world.running["i-1"].kept

    async def test_others_workloads_are_left_alone_by_all_that_we_do(
        self, cluster: Cluster
    ) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        holder = await cluster.occupy("n1", 2)
        await serving(cluster, adapter, "i-1", "n1")
        await adapter.stop("i-1", 1.0)
        await cluster.finish("i-1")
        world = await until(cluster, adapter, lambda w: len(w.nodes["n1"].holdings) == 1)
        (held,) = world.nodes["n1"].holdings
        assert holder in held.holder
        assert held.gpus == 2

    # ---- life ------------------------------------------------------------------------------------

    async def test_closing_an_adapter_stops_nothing(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        await serving(cluster, adapter, "i-1", "n1")
        await adapter.close()
        later = await cluster.adapter()
        assert (await later.world()).running["i-1"].phase is Phase.READY

    async def test_a_call_given_up_can_be_made_again(self, cluster: Cluster) -> None:
        await cluster.add_node("n1")
        adapter = await cluster.adapter()
        asked = step("r1", launch(cluster, "i-1", "n1"), launch(cluster, "i-2", "n1"))
        for turns in range(6):
            task = asyncio.ensure_future(adapter.launch(asked))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await adapter.launch(asked)
        await cluster.ready("i-1")
        await cluster.ready("i-2")
        world = await until(
            cluster, adapter, lambda w: sum(h.gpus for h in w.nodes["n1"].holdings) == 2
        )
        assert set(world.running) == {"i-1", "i-2"}
