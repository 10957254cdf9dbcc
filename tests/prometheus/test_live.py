"""A real Prometheus that scrapes simulated engines tells what their agents' scrapes tell."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from heteroscale.engines import MAPPINGS
from heteroscale.words import Role
from heteroscale_advisor import ask
from heteroscale_agent.model import EngineScrape
from heteroscale_agent.probes.engines.base import read
from heteroscale_coordinator.edge.prometheus import promql
from heteroscale_coordinator.edge.prometheus.answers import PrometheusError
from heteroscale_coordinator.edge.prometheus.client import PrometheusClient
from heteroscale_coordinator.edge.prometheus.spec import PrometheusSpec
from heteroscale_workbench.engine_sim.faults import MetricsFault
from heteroscale_workbench.engine_sim.settings import Flavour
from tests.prometheus.server import PATIENCE, Target, prometheus
from tests.workbench.sims import Serving, serving, settings, until

WINDOW = 10.0
FIELDS = {
    "ttft_sum": ("time_to_first_token", "sum_seconds"),
    "ttft_count": ("time_to_first_token", "count"),
    "tbt_sum": ("time_between_tokens", "sum_seconds"),
    "tbt_count": ("time_between_tokens", "count"),
}


def target(engine: Serving, **labels: str) -> Target:
    return Target(urlsplit(engine.url).netloc, labels)


def told(scrape: EngineScrape, signal: str) -> float | None:
    """Return what an agent's scrape says of a signal."""
    if signal not in FIELDS:
        value: float | None = getattr(scrape, signal)
        return value
    name, part = FIELDS[signal]
    reading = getattr(scrape, name)
    return None if reading is None else float(getattr(reading, part))


async def newest(client: PrometheusClient, query: str, by: str = "instance") -> Mapping[str, float]:
    """Return what a query gives now, by instance."""
    now = float(round(time.time()))
    answer = await client.range(query, now, now, 1.0)
    return {labels[by]: points[-1][1] for labels, points in answer.series if points}


@pytest.mark.parametrize("flavour", [Flavour.VLLM, Flavour.SGLANG])
async def test_every_signal_is_what_an_agent_reads(flavour: Flavour, tmp_path: Path) -> None:
    how = settings(flavour=flavour, model="tiny")
    async with (
        serving(how) as one,
        serving(how) as other,
        prometheus(tmp_path, [target(one, role="prefill"), target(other, role="decode")]) as url,
        PrometheusClient(PrometheusSpec(url=url), {}) as client,
    ):
        body = {"model": "tiny", "prompt": "six words are in this prompt", "max_tokens": 12}
        for engine in (one, one, other):
            status, _ = await engine.post(body)
            assert status == 200
        asked = await found(client, url, "tiny")
        assert {i.role for i in asked.found.instances} == {Role.PREFILL, Role.DECODE}
        mapping = MAPPINGS[flavour.value]
        pages = {urlsplit(e.url).netloc: read(mapping, await e.metrics()) for e in (one, other)}
        queries = asked.queries[flavour.value]
        assert {"generation_tokens", "running", "waiting", "kv_usage"} <= set(queries)
        for signal, query in queries.items():
            # Cumulative instead of a rate: nothing runs any more, so both must say the same.
            plain = promql.fill(
                query.replace("rate(", "last_over_time("), asked.found.select, WINDOW
            )
            expected = {name: told(page, signal) for name, page in pages.items()}
            known = {name: pytest.approx(v) for name, v in expected.items() if v is not None}

            async def agrees(plain: str = plain, known: dict[str, Any] = known) -> bool:
                return dict(await newest(client, plain)) == known

            await until(agrees, PATIENCE)


async def test_what_is_silent_becomes_unknown_and_never_zero(tmp_path: Path) -> None:
    how = settings(flavour=Flavour.VLLM, model="tiny")
    async with (
        serving(how) as stays,
        serving(how) as fails,
        prometheus(tmp_path, [target(stays, role="prefill"), target(fails, role="decode")]) as url,
        PrometheusClient(PrometheusSpec(url=url), {}) as client,
    ):
        asked = await found(client, url, "tiny")
        query = promql.fill(asked.queries["vllm"]["running"], asked.found.select, WINDOW)
        names = [urlsplit(one.url).netloc for one in (stays, fails)]

        async def tell(*those: str) -> bool:
            return dict(await newest(client, query)) == dict.fromkeys(those, 0.0)

        await until(lambda: tell(*names), PATIENCE)
        fails.faults.metrics = MetricsFault.ERROR
        await until(lambda: tell(names[0]), PATIENCE)


async def test_without_engines_it_is_said_what_was_looked_for(tmp_path: Path) -> None:
    async with (
        prometheus(tmp_path) as url,
        PrometheusClient(PrometheusSpec(url=url), {}) as client,
    ):
        now = time.time()
        with pytest.raises(PrometheusError) as error:
            await ask.find(client, "tiny", PrometheusSpec(url=url), now - 600, now)
    assert "vllm:num_requests_running (vllm)" in str(error.value)
    assert "--enable-metrics" in str(error.value)


async def found(client: PrometheusClient, url: str, service: str) -> ask.Asked:
    """Return what is found of a service of two instances, once both were scraped."""
    spec = PrometheusSpec(url=url)
    result: list[ask.Asked] = []

    async def there() -> bool:
        now = time.time()
        try:
            asked = await ask.find(client, service, spec, now - 600, now)
        except PrometheusError:
            return False
        result[:] = [asked]
        return len(asked.found.instances) == 2

    await until(there, PATIENCE)
    return result[0]
