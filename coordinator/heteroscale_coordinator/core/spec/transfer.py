"""When KV transfer is near its limit, and what is then not done any more."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale_coordinator.core.spec.names import Fraction


class TransferSpec(DocumentModel):
    """When KV transfer is near its limit: then no step may add pairs across domains."""

    enabled: bool = True
    """False: prefill and decode may always be placed as `placement` says."""
    nic_share: Fraction = 0.80
    """Near its limit when the busiest RDMA port of any node of the service carries more than this
    share of what it can. Risk: a node's ports carry what else runs there too."""
    ttft_share: Fraction = 0.30
    """Near its limit when a request's KV is under way for longer than this share of `slo.ttft`
    (requests in transfer ÷ requests a second, at decode). Without an SLO on TTFT it is not watched."""
    settle: Annotated[Duration, Field(gt=0)] = 60.0
    """Below both limits for so long: transfer is no longer near them."""
    within: Literal["s1", "s2"] | None = None
    """While near: prefill and decode of a step share a domain of this level, or the step waits. Unset:
    the level of `placement.affinity`, s2 for `cluster`."""
