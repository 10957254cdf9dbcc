"""llm-d's endpoint picker, and that of the Gateway API inference extension, by their sources.

Names were `inference_model_…`, then `inference_objective_…`, now `llm_d_router_epp_…`; for a while
the old ones are shown beside the new. TTFT is shown by the newer ones only, and only of requests
whose answer passes through the picker. Its errors name a code; `ResourceExhausted` (429) and
`ServiceUnavailable` (503) are refusals.
"""

from __future__ import annotations

from heteroscale_agent.probes.routers.base import Quantity, RouterMapping, series

_PREFIXES = ("llm_d_router_epp", "llm_d_epp", "inference_objective", "inference_model")
_REFUSED = ("ResourceExhausted", "InferencePoolResourceExhausted", "ServiceUnavailable")
_CLIENTS = ("BadRequest", "BadConfiguration", "NotFound")


def _names(name: str) -> tuple[str, ...]:
    return tuple(f"{prefix}_{name}" for prefix in _PREFIXES)


LLM_D = RouterMapping(
    name="llm-d",
    time_to_first_token=series(*_names("request_ttft_seconds")),
    time_between_tokens=series(*_names("request_tpot_seconds")),
    requests_finished=(Quantity((series(*_names("request_duration_seconds_count")),)),),
    requests_failed=(
        Quantity(
            (
                series(
                    *_names("request_error"),
                    unless={"error_code": (*_REFUSED, *_CLIENTS)},
                    beside=_names("request"),
                ),
            )
        ),
    ),
    requests_rejected=(
        Quantity(
            (
                series(
                    *_names("request_error"),
                    where={"error_code": _REFUSED},
                    beside=_names("request"),
                ),
            )
        ),
    ),
    running=(Quantity((series(*_names("running_requests")),)),),
    waiting=(
        Quantity(
            (
                series(
                    "llm_d_router_epp_flow_control_queue_size",
                    "llm_d_epp_flow_control_queue_size",
                    "inference_extension_flow_control_queue_size",
                ),
            )
        ),
    ),
    shown_at_once=("inference_pool_ready_pods", "llm_d_router_epp_ready_pods"),
    model_labels=("model_name",),
    experimental=True,
    refusals={
        401: "the picker's metrics want a token; start it with --metrics-endpoint-auth=false",
        403: "the picker's metrics want a token; start it with --metrics-endpoint-auth=false",
    },
)
