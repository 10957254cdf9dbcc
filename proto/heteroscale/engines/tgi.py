"""TGI (text-generation-inference): names of 2.0 to 3.3, as its router's source has them.

Tokens, latencies and lengths are histograms that a request enters when it ends; their sums are our
counters. There is no TTFT, and the time per token is a request's mean: over a window it is the mean
of requests, not of tokens. Counters appear with the first request.
"""

from __future__ import annotations

from heteroscale.engines.base import EngineMapping, Quantity, series

_CUT_OFF = ("dropped", "generation", "incomplete")

TGI = EngineMapping(
    name="tgi",
    generation_tokens=(Quantity((series("tgi_request_generated_tokens_sum"),)),),
    prompt_tokens=(Quantity((series("tgi_request_input_length_sum"),)),),
    requests_finished=(Quantity((series("tgi_request_success"),)),),
    requests_aborted=(
        Quantity(
            (
                series(
                    "tgi_request_failure", where={"err": _CUT_OFF}, beside=("tgi_request_success",)
                ),
            )
        ),
    ),
    running=(Quantity((series("tgi_batch_current_size"),)),),
    waiting=(Quantity((series("tgi_queue_size"),)),),
    time_between_tokens=series("tgi_request_mean_time_per_token_duration"),
    experimental=True,
)
