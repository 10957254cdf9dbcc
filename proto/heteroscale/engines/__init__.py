"""One small mapping file per engine; adding an engine is adding a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from heteroscale.engines.base import EngineMapping
from heteroscale.engines.llamacpp import LLAMACPP
from heteroscale.engines.sglang import SGLANG
from heteroscale.engines.tensorrt_llm import TENSORRT_LLM
from heteroscale.engines.tgi import TGI
from heteroscale.engines.vllm import VLLM

MAPPINGS: Mapping[str, EngineMapping] = MappingProxyType(
    {m.name: m for m in (VLLM, SGLANG, LLAMACPP, TENSORRT_LLM, TGI)}
)
"""Every engine that can be read, by the name that templates and configurations use."""
