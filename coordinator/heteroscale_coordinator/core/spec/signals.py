"""Further signals that size roles in proportion."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat

from heteroscale.documents.fields import DocumentModel
from heteroscale.words import Role

LINEAR = (
    *("tps", "arriving_tps", "arrival_rate", "running", "in_flight", "kv_usage"),
    *("gpu_util", "sm_activity", "rdma_share"),
)
"""Readings that grow in proportion to load."""
ROLES = (Role.PREFILL, Role.DECODE, Role.AGGREGATED)
NAMES = tuple(f"{role.value}_{kind}" for role in ROLES for kind in LINEAR)


def _is_linear(name: str) -> str:
    if name in NAMES:
        return name
    if name.rpartition("_")[2] in ("ttft", "tbt"):
        raise ValueError(
            f"{name} is not in proportion to load: it is flat, then a cliff. Promise it in `slo`, where "
            "`policy.guard` watches it, or let it drive alone with `policy.driver: latency`"
        )
    raise ValueError(
        f"{name!r} is no signal in proportion to load: write prefill_, decode_ or aggregated_ and one "
        f"of {', '.join(LINEAR)}"
    )


SignalName = Annotated[
    str, AfterValidator(_is_linear), Field(json_schema_extra={"enum": list(NAMES)})
]


class SignalSpec(DocumentModel):
    """One signal that sizes the role it is read on; the other role follows by the ratio."""

    signal: SignalName
    """As `heteroscale get service` shows it. `…_tps` (prefill: prompt tokens that missed the cache),
    `…_arriving_tps`, `…_arrival_rate`, `…_running`, `…_in_flight`, `…_kv_usage`, `…_gpu_util`,
    `…_sm_activity`, `…_rdma_share`. Decode's GPU utilisation stays high at slight load: the paper calls
    it useless, and a service that follows it climbs to its maximum and stays."""
    target: PositiveFloat | dict[str, PositiveFloat]
    """The reading that one instance should show, in the signal's unit (shares from 0 to 1). One number,
    or one for each GPU type. Needed = count × mean ÷ target."""

    @property
    def role(self) -> Role:
        """The role that it is read on, and sizes."""
        return Role(self.signal.partition("_")[0])

    @property
    def kind(self) -> str:
        """What is read."""
        return self.signal.partition("_")[2]

    def target_of(self, gpu_type: str) -> float:
        """Return the target of ``gpu_type``; the mean of the given ones for a type not named."""
        if isinstance(self.target, dict):
            return self.target.get(gpu_type, sum(self.target.values()) / len(self.target))
        return self.target
