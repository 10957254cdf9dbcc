"""One small mapping file per kind of router; adding a kind is adding a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from heteroscale_agent.probes.routers.base import RouterMapping
from heteroscale_agent.probes.routers.dynamo import DYNAMO
from heteroscale_agent.probes.routers.llm_d import LLM_D
from heteroscale_agent.probes.routers.production_stack import PRODUCTION_STACK
from heteroscale_agent.probes.routers.sglang_router import SGLANG_ROUTER

ROUTERS: Mapping[str, RouterMapping] = MappingProxyType(
    {m.name: m for m in (SGLANG_ROUTER, PRODUCTION_STACK, LLM_D, DYNAMO)}
)
"""Every router the agent can read, by the name that configurations use."""
