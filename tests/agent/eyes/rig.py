"""Eyes opened on a host of the test's own, with a clock moved by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from heteroscale_agent.config import AgentSpec, GpuSettings, RdmaSettings
from heteroscale_agent.eyes import HostEyes
from heteroscale_agent.ports import ScrapeTarget
from tests.agent.metrics_server import MetricsServer


class HandClock:
    """Virtual seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def engine_text(tokens: float, *, running: float | str = 1, waiting: float = 0) -> str:
    return (
        f"vllm:generation_tokens_total {tokens}\n"
        f"vllm:num_requests_running {running}\nvllm:num_requests_waiting {waiting}\n"
        "vllm:kv_cache_usage_perc 0.25\n"
    )


@asynccontextmanager
async def opened(clock: HandClock, tmp_path: Path, **settings: Any) -> AsyncIterator[HostEyes]:
    fields: dict[str, Any] = {
        "sample_interval": 1.0,
        "scrape_timeout": 20.0,
        "gpu": GpuSettings(source="none"),
        "rdma": RdmaSettings(root=tmp_path / "infiniband"),
    }
    spec = AgentSpec(coordinator="127.0.0.1:1").model_copy(update={**fields, **settings})
    eyes = await HostEyes.open(spec, clock=clock, environ={"HETEROSCALE_TOPOLOGY": "s1=pod-3"})
    try:
        yield eyes
    finally:
        await eyes.close()


def target(name: str, server: MetricsServer, engine: str = "vllm") -> ScrapeTarget:
    return ScrapeTarget(name, server.url, engine)
