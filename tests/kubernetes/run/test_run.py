"""From load to pods."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.run.stage import Plan, stage

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        importlib.util.find_spec("sglang_router") is None, reason="needs sglang-router"
    ),
]
ROUTED = {"example.com/routed": "yes"}


async def test_pods_of_both_roles_serve(kubelet: Kubelet, tmp_path: Path) -> None:
    async with stage(kubelet, tmp_path, Plan(gate={"labels": ROUTED}, selector=ROUTED)) as run:
        await run.apply(prefill={"min": 1}, decode={"min": 1})
        await run.until_serving(1, 1)
        async with run.traffic(5.0) as load:

            async def some_passed() -> bool:
                return load.snapshot().passed >= 5

            await run.until(some_passed, "five requests")
