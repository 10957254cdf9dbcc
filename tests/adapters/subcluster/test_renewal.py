"""Instances that their cluster ends at a known moment, from the port to the drain and back."""

from __future__ import annotations

import asyncio

from heteroscale.words import InstanceState
from heteroscale_coordinator.core.model import Action
from heteroscale_scheduler_adapters.port import Capabilities, Phase
from tests.adapters.subcluster.rig import CHAT, Coordinator, Rig, cluster, kubelet, play

S = InstanceState
LIFE = 1200.0


def _least(one: Coordinator) -> tuple[int, int]:
    serving = one.serving()
    return serving.get("prefill", 0), serving.get("decode", 0)


def test_successors_serve_before_time_limits_are_reached_and_nothing_is_killed() -> None:
    async def story() -> None:
        east = cluster(life=LIFE)
        rig = Rig(east)
        async with rig.coordinator() as one, kubelet(east):
            await one.apply()
            await one.until(lambda: one.serving() == {"prefill": 1, "decode": 2}, "in service")
            first = set(east.running)
            assert {one.state.instances[key].ends_at for key in first} == {
                run.ends_at for run in east.running.values()
            }
            for _ in range(int(LIFE)):
                await asyncio.sleep(1)
                assert _least(one) >= (1, 2)
            assert all(east.running[key].phase is Phase.ENDED for key in first)
            assert all(run.phase is not Phase.FAILED for run in east.running.values())
            renewed = [d for d in one.decisions if d.action is Action.RENEW]
            assert {d.bound_by for d in renewed} == {"renewal"}
            assert not [d for d in one.decisions if d.action is Action.SCALE_OUT]

    play(story())


def test_a_coordinator_that_takes_over_goes_on_with_the_renewal() -> None:
    async def story() -> None:
        east = cluster(life=LIFE)
        rig = Rig(east)
        async with kubelet(east):
            async with rig.coordinator() as one:
                await one.apply()
                await one.until(lambda: one.serving() == {"prefill": 1, "decode": 2}, "up")
                first = set(east.running)
                await one.until(
                    lambda: any(i.leaves_by for i in one.state.instances.values()), "it began"
                )
            async with rig.coordinator() as two:
                for _ in range(600):
                    await asyncio.sleep(1)
                    assert (
                        sum(
                            run.phase is Phase.READY and run.gate.open
                            for run in east.running.values()
                        )
                        >= 3
                    )
                await two.until(
                    lambda: all(east.running[key].phase is Phase.ENDED for key in first), "renewed"
                )
            assert all(run.phase is not Phase.FAILED for run in east.running.values())

    play(story())


def test_without_room_for_a_successor_it_is_drained_before_its_limit_and_said() -> None:
    async def story() -> None:
        east = cluster(nodes=1, gpus=3, life=LIFE)
        rig = Rig(east)
        async with rig.coordinator() as one, kubelet(east):
            await one.apply()
            await one.until(lambda: one.serving() == {"prefill": 1, "decode": 2}, "in service")
            first = set(east.running)
            await asyncio.sleep(LIFE + 120)
            assert all(east.running[key].phase is Phase.ENDED for key in first)
            late = [d for d in one.decisions if d.bound_by == "time_limit"]
            assert late
            assert "No place for" in late[0].reason
            await one.until(lambda: one.serving() == {"prefill": 1, "decode": 2}, "up again")

    play(story())


def test_an_end_that_is_moved_away_ends_the_renewal() -> None:
    async def story() -> None:
        east = cluster(life=LIFE)
        rig = Rig(east)
        async with rig.coordinator() as one, kubelet(east):
            await one.apply(CHAT)
            await one.until(lambda: one.serving() == {"prefill": 1, "decode": 2}, "in service")
            await one.until(
                lambda: any(i.leaves_by for i in one.state.instances.values()), "it began"
            )
            for key in tuple(east.running):
                east.end_in(key, None)
            await one.until(
                lambda: not any(i.leaves_by for i in one.state.instances.values()), "called off"
            )
            await asyncio.sleep(LIFE)
            assert not [run for run in east.running.values() if run.phase is Phase.FAILED]
            assert not [d for d in one.decisions if d.bound_by == "time_limit"]

    play(story())


def test_where_nobody_keeps_traffic_away_the_old_one_is_told_to_end_once_its_successor_serves() -> (
    None
):
    async def story() -> None:
        east = cluster(life=LIFE)
        able = {"east": Capabilities(gates=False, watches=True)}
        async with Rig(east, able=able).coordinator() as one, kubelet(east):
            await one.apply()
            await one.until(lambda: one.serving() == {"prefill": 1, "decode": 2}, "in service")
            first = set(east.running)
            for _ in range(int(LIFE)):
                await asyncio.sleep(1)
                assert _least(one) >= (1, 2)
            assert all(east.running[key].phase is Phase.ENDED for key in first)
            renewed = [d for d in one.decisions if d.action is Action.RENEW]
            assert sorted(key for d in renewed for key in d.instance_ids) == sorted(first)

    play(story())
