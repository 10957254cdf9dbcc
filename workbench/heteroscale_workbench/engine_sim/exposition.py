"""Renders /metrics in the names of the engine that is imitated.

The engines' own prometheus_client writes the text, so number formats are the same as theirs.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from heteroscale_workbench.engine_sim.engine import Engine
from heteroscale_workbench.engine_sim.settings import Flavour
from heteroscale_workbench.engine_sim.sglang_metrics import SglangMetrics
from heteroscale_workbench.engine_sim.vllm_metrics import VllmMetrics


class Exposition:
    """Renders the metrics of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        if engine.settings.flavour is Flavour.SGLANG:
            self._registry.register(SglangMetrics(engine))
            return
        for collector in (GCCollector, PlatformCollector, ProcessCollector):
            collector(registry=self._registry)
        self._registry.register(VllmMetrics(engine))

    def render(self) -> bytes:
        """Return the text of /metrics."""
        return generate_latest(self._registry)
