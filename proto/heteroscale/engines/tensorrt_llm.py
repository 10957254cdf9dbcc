"""TensorRT-LLM: `trtllm-serve` (1.0 and newer), and its backend of Triton, by their sources.

`trtllm-serve` shows Prometheus text at `/prometheus/metrics`, and only with
`return_perf_metrics: true`; its `/metrics` is JSON of another kind. Through Triton
there are gauges and, with the newest backends, histograms of lengths, but no latency.
"""

from __future__ import annotations

from heteroscale.engines.base import EngineMapping, Quantity, Series, series

_PROMPT = series("trtllm_prompt_tokens")


def _triton(kind: str) -> Series:
    return series("nv_trt_llm_request_metrics", where={"request_type": (kind,)})


TENSORRT_LLM = EngineMapping(
    name="tensorrt-llm",
    generation_tokens=(
        Quantity((series("trtllm_generation_tokens"),)),
        Quantity((series("nv_llm_output_token_len_sum"),)),
    ),
    prompt_tokens=(
        Quantity((_PROMPT,)),
        Quantity((series("nv_llm_input_token_len_sum"),)),
    ),
    computed_prompt_tokens=(Quantity((_PROMPT,), minus=(series("trtllm_prompt_cached_tokens"),)),),
    requests_finished=(
        Quantity((series("trtllm_request_success"),)),
        Quantity((series("nv_llm_output_token_len_count"),)),
    ),
    requests_aborted=(Quantity((series("trtllm_request_error"),)),),
    running=(Quantity((series("trtllm_num_requests_running"),)), Quantity((_triton("active"),))),
    waiting=(Quantity((series("trtllm_num_requests_waiting"),)), Quantity((_triton("waiting"),))),
    kv_usage=series("trtllm_kv_cache_utilization"),
    time_to_first_token=series("trtllm_time_to_first_token_seconds"),
    time_between_tokens=series("trtllm_time_per_output_token_seconds"),
    model_labels=("model_name", "model"),
    experimental=True,
)
