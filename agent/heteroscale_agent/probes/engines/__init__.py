"""One small mapping file per engine; adding an engine is adding a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from heteroscale_agent.probes.engines.base import EngineMapping
from heteroscale_agent.probes.engines.llamacpp import LLAMACPP
from heteroscale_agent.probes.engines.sglang import SGLANG
from heteroscale_agent.probes.engines.tensorrt_llm import TENSORRT_LLM
from heteroscale_agent.probes.engines.tgi import TGI
from heteroscale_agent.probes.engines.vllm import VLLM

MAPPINGS: Mapping[str, EngineMapping] = MappingProxyType(
    {m.name: m for m in (VLLM, SGLANG, LLAMACPP, TENSORRT_LLM, TGI)}
)
"""Every engine the agent can read, by the name that templates and configurations use."""
