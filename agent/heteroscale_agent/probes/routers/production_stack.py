"""The router of vLLM's production-stack (2026), by its source.

It shows averages of TTFT and of the time between tokens as gauges per engine, which no window can be
made of: both are unknown. Its errors are exceptions of its own; refusals it passes on are not told.
Its gauges bear vLLM's names, one for each engine behind it (label `server`).
"""

from __future__ import annotations

from heteroscale_agent.probes.routers.base import Quantity, RouterMapping, series

_LATENCY = "vllm:request_latency_seconds"
_DONE = {"status": ("success",)}

PRODUCTION_STACK = RouterMapping(
    name="production-stack",
    requests_finished=(Quantity((series(f"{_LATENCY}_count", where=_DONE),)),),
    requests_failed=(
        Quantity((series(f"{_LATENCY}_count", unless=_DONE, beside=(f"{_LATENCY}_count",)),)),
    ),
    running=(Quantity((series("vllm:num_requests_running", unless={"server": ("",)}),)),),
    shown_at_once=("vllm:healthy_pods_total", "vllm:num_incoming_requests"),
    experimental=True,
)
