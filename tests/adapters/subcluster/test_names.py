"""What monitoring may call a cluster's instances."""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import InstanceState
from tests.adapters.subcluster.rig import Rig, cluster, kubelet, play


def test_a_cluster_says_what_monitoring_calls_its_instances() -> None:
    async def story() -> None:
        east, west = cluster("east"), cluster("west")
        rig = Rig(east, west)
        async with rig.coordinator() as one, kubelet(east, west):
            await one.apply()
            await one.until(lambda: one.serving() == {"prefill": 1, "decode": 2}, "in service")
            assert not any("unexpected" in i.message for i in one.having(InstanceState.IN_SERVICE))
            key = min(east.running or west.running)
            made = east if east.running else west
            made.running[key] = replace(made.running[key], names=("chat-0", "llm/chat-0"))
            await one.until(lambda: [*one.drivers.names(key)] == ["chat-0", "llm/chat-0"])
            assert [*one.drivers.names("nobody's")] == []

    play(story())
