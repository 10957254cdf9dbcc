"""Dynamo's frontend, names of 0.5 to 1.0 (`dynamo_frontend_…`), by its source.

It knows TTFT and the time between tokens as its users feel them. A Dynamo *worker* shows the names of
its engine on its system port, and is watched as an engine. `DYN_METRICS_PREFIX` must not be set.
"""

from __future__ import annotations

from heteroscale_agent.probes.routers.base import Quantity, RouterMapping, series

_REQUESTS = "dynamo_frontend_requests"
_CLIENTS = ("validation", "not_found", "cancelled", "not_implemented")

DYNAMO = RouterMapping(
    name="dynamo",
    time_to_first_token=series("dynamo_frontend_time_to_first_token_seconds"),
    time_between_tokens=series("dynamo_frontend_inter_token_latency_seconds"),
    requests_finished=(
        Quantity((series(_REQUESTS, where={"status": ("success",)}, beside=(_REQUESTS,)),)),
    ),
    requests_failed=(
        Quantity(
            (
                series(
                    _REQUESTS,
                    where={"status": ("error",)},
                    unless={"error_type": ("overload", *_CLIENTS)},
                    beside=(_REQUESTS,),
                ),
            )
        ),
    ),
    requests_rejected=(
        Quantity((series(_REQUESTS, where={"error_type": ("overload",)}, beside=(_REQUESTS,)),)),
    ),
    running=(Quantity((series("dynamo_frontend_inflight_requests"),)),),
    waiting=(Quantity((series("dynamo_frontend_queued_requests"),)),),
    experimental=True,
)
