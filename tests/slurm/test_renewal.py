"""Real jobs reach their time limit: successors run before, and none is killed for it."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import pytest

from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.edge.adapters import Pace
from heteroscale_scheduler_adapters.port import Adapter
from heteroscale_scheduler_adapters.slurm import create
from tests.adapters.subcluster.rig import CHAT, Coordinator, Rig
from tests.slurm.cluster import DEADLINE, SlurmCluster, slurm_cluster
from tests.slurm.files import Machine
from tests.slurm.host import WHY_NOT
from tests.slurm.rig import ENGINE

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]


class _Real(Rig):
    """A coordinator over a real cluster, by the clock on the wall.

    Of the three minutes one and a quarter pass before anybody is succeeded: half of what the warning
    leaves.
    """

    def __init__(self, slurm: SlurmCluster) -> None:
        super().__init__(pace=Pace(look=1.0))
        self._slurm = slurm
        self.clusters = {"hpc": None}  # type: ignore[dict-item]

    def clock(self) -> float:
        return time.time()

    def adapter(self, name: str) -> Adapter:
        templates = [
            {"name": f"chat-{role}", "role": role, "gpus": 1, "script": ENGINE}
            for role in ("prefill", "decode")
        ]
        options = {
            "way": "command",
            "command": {"config": self._slurm.environ["SLURM_CONF"]},
            "templates": templates,
            "job": {"timeLimit": "3m", "warning": "30s"},
        }
        return cast("Adapter", create(name, options))


async def test_jobs_are_succeeded_before_their_time_limit_and_end_as_they_are_told_to() -> None:
    async with (
        slurm_cluster([Machine("n1", "gpu:H20:8", "leaf")]) as slurm,
        _Real(slurm).coordinator() as one,
        asyncio.timeout(4 * DEADLINE),
    ):
        await one.apply(f"{CHAT}  renewal: {{margin: 1s, emptying: 10s}}\n")
        await one.until(lambda: one.serving() == {"prefill": 1, "decode": 2}, "in service")
        served: list[bool] = []

        def renewed() -> bool:
            serving = one.serving()
            served.append(serving.get("prefill", 0) >= 1 and serving.get("decode", 0) >= 2)
            return len(_renewed(one)) >= 3

        await one.until(renewed, "three successors")
        assert all(served), "as many as are wanted, all the while"
        bound_by = {d.bound_by for d in one.decisions if d.action is Action.RENEW}
        assert bound_by == {"renewal"}
        told = await slurm.until(
            lambda text: len(_ended(text, _renewed(one))) >= 3,
            *("squeue", "-h", "-t", "CD,CA,F,TO,NF", "-o", "%T|%k"),
        )
        assert set(_ended(told, _renewed(one))) == {"COMPLETED"}, "none by its limit"


def _renewed(one: Coordinator) -> list[str]:
    done = (d for d in one.decisions if d.action is Action.RENEW)
    return [instance_id for d in done for instance_id in d.instance_ids]


def _ended(text: str, instances: list[str]) -> list[str]:
    """Return the states of these instances' jobs."""
    lines = [line.partition("|") for line in text.splitlines()]
    return [state for state, _, said in lines if any(f'"{one}"' in said for one in instances)]
