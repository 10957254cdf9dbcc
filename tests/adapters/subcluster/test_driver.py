"""A cluster behind the port, as the coordinator's own loop sees it."""

from __future__ import annotations

import asyncio

from heteroscale.words import InstanceState
from heteroscale_scheduler_adapters.port import Phase
from tests.adapters.subcluster.rig import Rig, cluster, kubelet, play

S = InstanceState


def test_a_step_is_launched_whole_and_gets_into_service() -> None:
    async def story() -> None:
        east = cluster()
        rig = Rig(east)
        async with rig.coordinator() as one, kubelet(east):
            await one.apply()
            await one.until(lambda: one.serving() == {"prefill": 1, "decode": 2}, "in service")
            assert len(east.requests) == 1, "one step"
            assert all(run.phase is Phase.READY for run in east.running.values())
            for instance in one.having(S.IN_SERVICE):
                assert instance.agent_id.startswith("east/n")
                assert instance.gpu_type == "H20"
                assert instance.startup_time is not None
                assert 25 <= instance.startup_time <= 45
            await asyncio.sleep(300)
            assert one.serving() == {"prefill": 1, "decode": 2}
            assert len(east.requests) == 1, "and nothing more"

    play(story())
