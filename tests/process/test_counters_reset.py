"""An engine starts again behind the same port: its counters begin at zero, the agent's go on."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from heteroscale.v1 import agent_pb2
from heteroscale_workbench.router import free_port
from tests.process.boss import Boss, server
from tests.process.fleet import fleet, hosts, layout
from tests.workbench.sims import EngineProcess, engine_process

pytestmark = pytest.mark.process
OK = agent_pb2.SCRAPE_QUALITY_OK


async def _generate(engine: EngineProcess, tokens: int) -> None:
    body = {"prompt": "a few words", "max_tokens": tokens}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{engine.url}/v1/completions", json=body) as reply,
    ):
        assert reply.status == 200


class Readings:
    """What an agent reports of one engine, in order."""

    def __init__(self, boss: Boss, instance_id: str) -> None:
        self._boss, self._id = boss, instance_id
        self.seen: list[agent_pb2.EngineReading] = []

    async def until(self, *, quality_ok: bool, tokens: float) -> None:
        """Read reports until one says this."""
        while True:
            reading = await self._boss.reading(self._id)
            self.seen.append(reading)
            told = reading.generation_tokens if reading.HasField("generation_tokens") else None
            if (reading.quality == OK) is quality_ok and (not quality_ok or told == tokens):
                return

    @property
    def totals(self) -> list[float]:
        """The cumulative tokens of fresh readings."""
        return [r.generation_tokens for r in self.seen if r.HasField("generation_tokens")]


@pytest.mark.parametrize("flavour", ["sglang", "vllm"])
async def test_counters_go_on_where_they_were_and_never_fall(tmp_path: Path, flavour: str) -> None:
    port = free_port()
    static = {
        "instanceId": "theirs",
        "service": "chat",
        "role": "aggregated",
        "endpoint": f"http://127.0.0.1:{port}",
        "engine": flavour,
    }
    how = layout(tmp_path, hosts=hosts("H20", static_engines=(static,)), coordinator=False)
    arguments = ("aggregated", "--port", str(port), "--metrics", flavour)
    async with fleet(how) as world, server(world).serving() as coordinator:
        boss = await Boss.greet(coordinator)
        readings = Readings(boss, "theirs")
        async with engine_process(*arguments, wait=False) as engine:
            engine.port = port
            await engine.ready()
            await readings.until(quality_ok=True, tokens=0)
            await _generate(engine, 40)
            await readings.until(quality_ok=True, tokens=40)
            engine.process.kill()
            await readings.until(quality_ok=False, tokens=40)
        async with engine_process(*arguments, wait=False) as engine:
            engine.port = port
            await engine.ready()
            await readings.until(quality_ok=True, tokens=40)
            await _generate(engine, 7)
            await readings.until(quality_ok=True, tokens=47)
    assert readings.totals == sorted(readings.totals)
    assert max(readings.totals) == 47
