"""Bare metal, Slurm and Kubernetes are one fleet: spread over, one silent for a while, none doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from heteroscale.words import InstanceState
from tests.federation.stage import EAST, HPC, METAL, PATIENCE, Federation, federation
from tests.slurm.host import WHY_NOT

pytestmark = [pytest.mark.process, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]
S = InstanceState


async def test_three_worlds_are_one_fleet_and_one_is_silent_for_a_while(tmp_path: Path) -> None:
    async with federation(tmp_path) as stage:
        await spread(stage)
        await silence(stage)
        await launches_on_their_way(stage)


async def spread(stage: Federation) -> None:
    await stage.want(3, 3, spread={"level": "subCluster", "most": 1})
    await stage.until_counted({METAL: (1, 1), HPC: (1, 1), EAST: (1, 1)})
    placed = await stage.placed(S.IN_SERVICE)
    for world, really in ((HPC, await stage.jobs()), (EAST, stage.pods().keys())):
        assert really == ids(placed, world)
    assert len(stage.cluster.engine_processes()) == 2


async def silence(stage: Federation) -> None:
    """The API server does not answer: what stands there counts, and what is new goes elsewhere."""
    before, pods = await stage.placed(S.IN_SERVICE), stage.pods()
    await stage.hang_api_server()
    await stage.until_counted({EAST: (1, 1)}, S.UNKNOWN)
    await stage.want(5, 5, spread={"level": "subCluster", "most": 2})
    await stage.until_counted({METAL: (2, 2), HPC: (2, 2)})
    assert await stage.placed(S.UNKNOWN) == {EAST: before[EAST]}, "counted, not replaced"
    assert "left out: east (silent: 2 of 2 agents are not heard)" in (await stage.placements())[0]
    stage.heal_api_server()
    await stage.until_counted({METAL: (2, 2), HPC: (2, 2), EAST: (1, 1)})
    assert (await stage.placed(S.IN_SERVICE))[EAST] == before[EAST]
    assert stage.pods() == pods, "the same pods, and no other"
    assert len(await stage.by_id()) == 10


async def launches_on_their_way(stage: Federation) -> None:
    """Slurm does not answer as two launches reach it: they are placed elsewhere, and start once."""
    before, jobs = await stage.placed(S.IN_SERVICE), await stage.jobs()
    stage.slurm.pause_controller()
    await stage.want(6, 6, subCluster={"prefer": [HPC]})
    await stage.until_counted({HPC: (1, 1)}, S.LOST)
    sent = await stage.ids(S.LOST)

    async def placed_elsewhere() -> bool:
        serving = await stage.counted(S.IN_SERVICE)
        return HPC not in serving and sum(map(sum, serving.values())) == 8

    await stage.until(placed_elsewhere, "both placed elsewhere", PATIENCE)
    assert (await stage.placed(S.UNKNOWN))[HPC] == before[HPC], "counted, not replaced"
    assert "left out: hpc (silent: 2 of 2 agents are not heard)" in (await stage.placements())[0]
    stage.slurm.resume_controller()

    async def reconciled() -> bool:
        serving, lost = await stage.ids(S.IN_SERVICE), await stage.ids(S.LOST)
        return ids(before, HPC) <= serving and len(serving - sent) == 12 and not lost

    await stage.until(reconciled, "all twelve in service, and nothing unknown", PATIENCE)
    # Slurm may have taken, behind our back, what it was sent: then that is one job for each.
    assert await stage.jobs() - jobs <= sent
    assert set(stage.starts().values()) == {1}, "nothing was started twice"


def ids(placed: dict[str, dict[str, list[str]]], world: str) -> set[str]:
    """Return what stands in a world, of both roles."""
    return {key for role in placed[world].values() for key in role}
