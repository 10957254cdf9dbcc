"""Two sub-clusters of real agents: one is cut off as launches are on their way to it.

They are placed in the other; what comes of them when it is heard again leaves softly.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from heteroscale.words import InstanceState
from heteroscale_workbench.cluster.local import Layout, two_minipods
from tests.process import fleet
from tests.process.fleet import document
from tests.process.stage import RULES, SPEC, Stage

pytestmark = pytest.mark.process
_S = InstanceState
SITES = {"minipod-0": "east", "minipod-1": "west"}
AMPLE = 90.0
"""Seconds to wait; most of it is the silence of a sub-cluster, which must outlast a busy machine."""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    hosts = [replace(one, physical_cluster=SITES[one.s1]) for one in two_minipods(4, 2)]
    rules = RULES.model_copy(update={"silent_after": 15.0, "lost_after": 60.0})
    return replace(fleet.layout(tmp_path, hosts=hosts, rules=rules), wires=True)


async def test_launches_to_a_sub_cluster_that_is_cut_off_are_placed_in_the_other(
    stage: Stage,
) -> None:
    east = sorted(stage.cluster.wires)[:2]
    for name in east:
        stage.cluster.wires[name].cut()
    policy = {**SPEC["policy"], "observation": "3s"}
    spec = {**SPEC, "policy": policy, "placement": {"subCluster": {"prefer": ["east"]}}}
    await stage.operator.apply(document(stage.cluster, (1, 1), (2, 2), **spec))

    async def on_its_way() -> bool:
        return len(await there(stage, east)) == 3

    async def stands_in_west() -> bool:
        serving = await stage.ids(_S.IN_SERVICE)
        return len(serving) == 3 and not serving & await there(stage, east)

    await stage.until(on_its_way, "three launches on their way to east")
    sent = await there(stage, east)
    await stage.until(stands_in_west, "all three in west", AMPLE)
    assert await stage.are(sent, _S.LOST)
    text = (await stage.page("/metrics")).text
    assert 'heteroscale_sub_cluster_left_out{reason="silent",sub_cluster="east"} 1.0' in text
    west = await stage.ids(_S.IN_SERVICE)

    for name in east:
        stage.cluster.wires[name].heal()

    async def settled() -> bool:
        left = await stage.live()
        return left == {_S.IN_SERVICE: 3} and not await stage.ids(_S.LOST)

    await stage.until(settled, "three in service, and nothing else", AMPLE)
    assert set(stage.starts().values()) == {1}, "nothing was started twice"
    assert west <= set(stage.starts()) <= west | sent
    (placed, *_) = [
        d for d in await stage.operator.decisions("chat") if set(d.instance_ids) == west
    ]
    assert "left out: east (silent: 2 of 2 agents are not heard)" in placed.inputs["placement"]


async def there(stage: Stage, agents: list[str]) -> set[str]:
    """Return the instances that were placed on agents."""
    return {key for key, one in (await stage.by_id()).items() if set(one.agent_ids) & set(agents)}
