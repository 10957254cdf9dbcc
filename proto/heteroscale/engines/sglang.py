"""SGLang: names of 0.4 to 0.5.23, newest first (docs: "Production metrics").

Scheduler gauges come once per tensor, pipeline and expert rank and say the same each time;
`dp_rank` alone tells work apart. With priority scheduling a gauge shows its total under
`priority=""` beside one series per priority. Counters appear with the first request.
"""

from __future__ import annotations

from heteroscale.engines.base import EngineMapping, Quantity, Series, series


def _gauge(*names: str) -> Series:
    return series(*names, where={"priority": ("",)})


_PROMPT = series("sglang:prompt_tokens")

SGLANG = EngineMapping(
    name="sglang",
    generation_tokens=(Quantity((series("sglang:generation_tokens"),)),),
    prompt_tokens=(Quantity((_PROMPT,)),),
    computed_prompt_tokens=(
        # The same as the difference below; it also stands before the first cache hit.
        Quantity((series("sglang:uncached_prompt_tokens_histogram_sum"),)),
        Quantity((_PROMPT,), minus=(series("sglang:cached_tokens"),)),
    ),
    requests_finished=(Quantity((series("sglang:num_requests"),)),),
    requests_aborted=(Quantity((series("sglang:num_aborted_requests"),)),),
    running=(Quantity((_gauge("sglang:num_running_reqs"),)),),
    waiting=(
        Quantity(
            (_gauge("sglang:num_queue_reqs"),), optional=(_gauge("sglang:num_grammar_queue_reqs"),)
        ),
    ),
    transferring=(
        Quantity(
            optional=(
                _gauge(
                    "sglang:num_prefill_bootstrap_queue_reqs",
                    "sglang:num_prefill_prealloc_queue_reqs",
                ),
                _gauge("sglang:num_prefill_inflight_queue_reqs"),
                _gauge("sglang:num_decode_prealloc_queue_reqs"),
                _gauge("sglang:num_decode_transfer_queue_reqs"),
                _gauge("sglang:num_decode_host_receive_queue_reqs"),
                _gauge("sglang:num_decode_deferred_kv_release_reqs"),
            )
        ),
    ),
    kv_usage=_gauge("sglang:token_usage"),
    time_to_first_token=series("sglang:time_to_first_token_seconds"),
    time_between_tokens=series(
        "sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"
    ),
    replica_labels=frozenset({"tp_rank", "pp_rank", "moe_ep_rank", "pid"}),
    counters_appear_on_use=True,
)
