"""Kinds of value that several parts of the Agent document share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
Port = Annotated[int, Field(ge=1, le=65535)]
EngineKind = Literal["vllm", "sglang", "llamacpp", "tensorrt-llm", "tgi"]


def usual_metrics_path(data: dict[str, Any]) -> str:
    """Return where an engine of this kind shows its metrics; ``data`` is what was read before."""
    return "/prometheus/metrics" if data.get("engine") == "tensorrt-llm" else "/metrics"
