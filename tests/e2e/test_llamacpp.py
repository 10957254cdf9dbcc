"""Real llama.cpp under the whole of HeteroScale: scaled, withdrawn, reinstated, drained under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import llamacpp
from tests.e2e.life import Load, whole_life
from tests.e2e.stage import Stage, layout
from tests.process.fleet import fleet

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


async def test_llamacpp_lives_its_whole_life_under_load(tmp_path: Path) -> None:
    engine = llamacpp.engine(tmp_path)
    load = Load(target=60.0, busy=115.0, calm=15.0, running="llamacpp:requests_processing")
    async with fleet(layout(tmp_path, engine)) as made:
        await whole_life(Stage.of(made, engine), "llamacpp", load)
