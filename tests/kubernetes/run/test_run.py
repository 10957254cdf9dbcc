"""From load to pods."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from tests.kubernetes.kube import Kube
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.run.stage import LONG, Plan, stage

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        importlib.util.find_spec("sglang_router") is None, reason="needs sglang-router"
    ),
]
ROUTED = {"example.com/routed": "yes"}
PROMETHEUS = Plan({"labels": ROUTED}, ROUTED, "prometheus")
AGENTS = Plan(
    {"readiness": True}, {"heteroscale.io/service": "chat"}, "agents", 2, ("decode",), ("prefill",)
)


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")
async def test_both_roles_go_out_and_in_with_the_traffic(kubelet: Kubelet, tmp_path: Path) -> None:
    async with stage(kubelet, tmp_path, PROMETHEUS) as run:
        await run.apply(prefill={"min": 1, "max": 2}, decode={"min": 2, "max": 4})
        await run.until_serving(1, 2)
        async with run.traffic(0.4, LONG):
            async with run.traffic(9.0):
                run.break_watches()
                await run.until_serving(2, 4)
            await run.until_serving(1, 2)
        run.nothing_was_cut(3)
        await run.steps_were_whole()
        await run.nothing_was_unexpected()
        run.rights_sufficed()


async def test_the_coordinator_is_killed_as_both_roles_leave(
    small_kube: Kube, tmp_path: Path
) -> None:
    kubelet = Kubelet(small_kube)  # it plays the controller of LeaderWorkerSets too
    async with stage(kubelet, tmp_path, AGENTS) as run:
        await run.apply(prefill={"min": 2, "max": 2}, decode={"min": 4, "max": 4})
        await run.until_serving(2, 4)
        async with run.traffic(0.4, LONG):
            await run.apply(prefill={"min": 1, "max": 2}, decode={"min": 2, "max": 4})
            await run.until_withdrawn()
            await run.coordinator.kill()
            await run.coordinator.start()
            await run.until_serving(1, 2)
        run.nothing_was_cut(3)
        run.rights_sufficed()
