"""Real llama.cpp under the whole of HeteroScale: scaled, withdrawn, reinstated, drained under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import llamacpp
from tests.e2e.life import Load, whole_life
from tests.e2e.stage import layout, playing

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


async def test_llamacpp_lives_its_whole_life_under_load(tmp_path: Path) -> None:
    engine = llamacpp.engine(tmp_path)
    load = Load(running="llamacpp:requests_processing", waiting="llamacpp:requests_deferred")
    async with playing(layout(tmp_path, engine), engine) as stage:
        await whole_life(stage, "llamacpp", load)
