"""sglang-router: names of 0.3 (`smg_…`), as 0.3.2 shows them on its `--prometheus-port`.

TTFT and time per token are shown with gRPC workers only. With HTTP workers, prefill/decode pairs
among them, `smg_router_request_duration_seconds` ends when the answer's head is there for a stream,
and when all of it is for the rest: no TTFT. A request that its queue turned away is answered 408 or
429 and stands under the rate limit; a 503 with an error code is a router without workers (one without
is its readiness page). Active requests are counted on the prefill and on the decode worker, so
how many run is unknown.
"""

from __future__ import annotations

from heteroscale_agent.probes.routers.base import Quantity, RouterMapping, series

_ANSWERS = "smg_http_responses"
_FAILED = ("500", "501", "502", "504")

SGLANG_ROUTER = RouterMapping(
    name="sglang-router",
    time_to_first_token=series("smg_router_ttft_seconds"),
    time_between_tokens=series("smg_router_tpot_seconds"),
    requests_finished=(Quantity((series("smg_router_request_duration_seconds_count"),)),),
    requests_failed=(
        Quantity((series(_ANSWERS, where={"status_code": _FAILED}, beside=(_ANSWERS,)),)),
    ),
    requests_rejected=(
        Quantity(
            (
                series(
                    _ANSWERS,
                    where={"status_code": ("503",)},
                    unless={"error_code": ("",)},
                    beside=(_ANSWERS,),
                ),
            ),
            optional=(series("smg_http_rate_limit", where={"result": ("rejected",)}),),
        ),
    ),
    shown_at_once=("smg_worker_pool_size", "smg_worker_health"),
)
