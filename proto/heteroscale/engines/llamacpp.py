"""llama.cpp's server with `--metrics` (names of 2024 to build 11434, tools/server/README.md).

It shows no histogram and counts no requests: latency and requests finished are unknown, and so is
KV usage since 2025. Its token counters grow when a request ends, not token by token. Its prompt
counter leaves out what came from the cache, which newer builds count beside it; with an older one
nobody knows how long prompts were.
"""

from __future__ import annotations

from heteroscale.engines.base import EngineMapping, Quantity, series

_COMPUTED = series("llamacpp:prompt_tokens")

LLAMACPP = EngineMapping(
    name="llamacpp",
    generation_tokens=(Quantity((series("llamacpp:tokens_predicted"),)),),
    prompt_tokens=(Quantity((_COMPUTED, series("llamacpp:prompt_tokens_cached"))),),
    computed_prompt_tokens=(Quantity((_COMPUTED,)),),
    running=(Quantity((series("llamacpp:requests_processing"),)),),
    waiting=(Quantity((series("llamacpp:requests_deferred"),)),),
    kv_usage=series("llamacpp:kv_cache_usage_ratio"),
    refusals={501: "llama-server shows its metrics only when it is started with --metrics"},
)
