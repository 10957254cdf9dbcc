"""Real vLLM under the whole of HeteroScale: scaled, withdrawn, reinstated, drained under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import vllm
from tests.e2e.life import Load, whole_life
from tests.e2e.stage import layout, playing

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


async def test_vllm_lives_its_whole_life_under_load(tmp_path: Path) -> None:
    engine = vllm.engine(tmp_path)
    load = Load(running="vllm:num_requests_running", waiting="vllm:num_requests_waiting")
    async with playing(layout(tmp_path, engine), engine) as stage:
        await whole_life(stage, "vllm", load)
