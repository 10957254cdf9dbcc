"""VictoriaMetrics answers a look as the engines' own pages do, and for now, not for a while ago."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from heteroscale.engines import MAPPINGS
from heteroscale.words import Role
from heteroscale_agent.probes.engines.base import read
from heteroscale_coordinator.core.spec.source import FindingSpec
from heteroscale_coordinator.edge.prometheus.answers import PrometheusError
from heteroscale_coordinator.edge.prometheus.client import PrometheusClient
from heteroscale_coordinator.edge.prometheus.live.look import Look, Looker
from heteroscale_coordinator.edge.prometheus.spec import WatchedServer
from heteroscale_workbench.engine_sim.settings import Flavour
from tests.advisor.day import Day
from tests.coordinator.test_serve import free_port
from tests.prometheus import test_advise
from tests.prometheus.server import PATIENCE
from tests.workbench import sims

PROGRAM = "victoria-metrics"
pytestmark = pytest.mark.skipif(
    shutil.which(PROGRAM) is None, reason=f"no {PROGRAM}: apt-get install {PROGRAM}"
)
BODY = {"model": "chat", "prompt": "six words are in this prompt", "max_tokens": 12}


@asynccontextmanager
async def victoria(folder: Path, engines: dict[str, sims.Serving]) -> AsyncIterator[str]:
    """Run one that scrapes engines every second, each under the name of its pod."""
    jobs = [
        {"targets": [urlsplit(one.url).netloc], "labels": {"pod": name}}
        for name, one in engines.items()
    ]
    config = folder / "scrape.yml"
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s"},
                "scrape_configs": [{"job_name": "engines", "static_configs": jobs}],
            }
        ),
        "utf-8",
    )
    address = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        f"-promscrape.config={config}",
        f"-httpListenAddr={address}",
        f"-storageDataPath={folder / 'data'}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"http://{address}"
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def test_a_look_tells_what_the_engines_tell_now(tmp_path: Path) -> None:
    how = sims.settings(flavour=Flavour.VLLM, model="chat")
    async with sims.serving(how) as prefill, sims.serving(how) as decode:
        engines = {"chat-prefill-0": prefill, "chat-decode-0": decode}
        async with (
            victoria(tmp_path, engines) as url,
            PrometheusClient(WatchedServer(url=url), {}) as client,
        ):
            looker = Looker(client, "chat", FindingSpec())
            for _ in range(2):
                status, _ = await decode.post(BODY)
                assert status == 200
            page = read(MAPPINGS["vllm"], await decode.metrics())
            seen: list[Look] = []

            async def told() -> bool:
                with suppress(PrometheusError):
                    seen[:] = [await looker.look()]
                values = seen[-1].values if seen else {}
                return values.get("generation_tokens", {}).get("chat-decode-0") == (
                    page.generation_tokens
                )

            await sims.until(told, PATIENCE)
    (look,) = seen
    roles = {one.name: one.role for one in look.found.instances}
    assert roles == {"chat-prefill-0": Role.PREFILL, "chat-decode-0": Role.DECODE}
    assert look.ages.keys() == engines.keys()
    assert look.values["generation_tokens"]["chat-decode-0"] == 24
    assert look.values["running"]["chat-decode-0"] == 0


def imported(day: Day, start: int, seconds: int, every: int) -> str:
    """Return a day as VictoriaMetrics takes it in: Prometheus's text, with moments in milliseconds."""
    rows = (row.rsplit(" ", 1) for row in day.openmetrics(start, seconds, every) if row[0] != "#")
    return "".join(f"{told} {int(at) * 1000}\n" for told, at in rows)


async def test_a_past_is_advised_on_as_from_a_prometheus(tmp_path: Path) -> None:
    day, seconds = test_advise.DAY, test_advise.SECONDS
    now = float(int(time.time()) // 60 * 60)
    past = imported(day, int(now) - seconds, seconds, test_advise.EVERY)
    async with victoria(tmp_path, {}) as url, httpx.AsyncClient(timeout=PATIENCE) as http:

        async def taken() -> bool:
            with suppress(httpx.TransportError):
                answer = await http.post(f"{url}/api/v1/import/prometheus", content=past)
                return answer.is_success
            return False

        await sims.until(taken, PATIENCE)
        # Else what was taken in is seen a little later.
        (await http.get(f"{url}/internal/force_flush")).raise_for_status()
        words = ("--service", "chat", "--startup", "30s", "--slo-tbt", "50ms", "--json", "-")
        asked = asyncio.get_running_loop().run_in_executor
        code, text, said = await asked(None, test_advise.run, url, now, *words)
    assert code == 0, said
    told = json.loads(text)
    roles = {row["role"]: row for row in told["roles"]}
    assert roles["prefill"]["gpus_per_instance"] == 2
    # One of eight was away for a while, and no hole for it.
    assert (roles["decode"]["fewest"], roles["decode"]["most"]) == (7, 8)
    assert told["known"] > 0.85
    assert told["held"]["kept"]["tbt"] == 1.0
