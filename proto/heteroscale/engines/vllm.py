"""vLLM: names of 0.2x to 0.33, newest first (docs: "Production metrics").

A prefill instance shows no gauge of KV that decoders still have to fetch: `transferring` is then
unknown, and `kv_usage` must say whether it still holds blocks. On the decode side the fetches show
by stage.
"""

from __future__ import annotations

from heteroscale.engines.base import EngineMapping, Quantity, series

_PROMPT = series("vllm:prompt_tokens")
_CUT_OFF = {"finished_reason": ("abort", "error")}

VLLM = EngineMapping(
    name="vllm",
    generation_tokens=(Quantity((series("vllm:generation_tokens"),)),),
    prompt_tokens=(Quantity((_PROMPT,)),),
    computed_prompt_tokens=(
        Quantity((series("vllm:prompt_tokens_by_source", where={"source": ("local_compute",)}),)),
        Quantity((_PROMPT,), minus=(series("vllm:prompt_tokens_cached"),)),
        Quantity(
            (_PROMPT,),
            minus=(series("vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits"),),
        ),
    ),
    requests_finished=(Quantity((series("vllm:request_success", unless=_CUT_OFF),)),),
    requests_aborted=(Quantity((series("vllm:request_success", where=_CUT_OFF),)),),
    running=(Quantity((series("vllm:num_requests_running"),)),),
    waiting=(Quantity((series("vllm:num_requests_waiting"),)),),
    transferring=(Quantity(optional=(series("vllm:num_requests_kv_fetch_by_stage"),)),),
    kv_usage=series("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    time_to_first_token=series("vllm:time_to_first_token_seconds"),
    time_between_tokens=series(
        "vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"
    ),
)
