"""The KV-transfer guard: while transfer is near its limit, no step adds pairs across domains.

A prefill and a decode in different domains move every request's KV over the switches between them.
When the ports of the service's nodes are nearly full, or requests wait for their KV, more such pairs
make latency worse for all. The policy says how many, never where: the guard puts a demand on placement
into the verdict (``Together``), and a step that cannot meet it waits, with the reason.

What is unknown blocks nothing: no port tells, or no engine tells its transfers.
"""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_coordinator.core.memory.transfer import TransferMemory
from heteroscale_coordinator.core.model import Action, Counts, SignalValue, Together
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.observe import Signals
from heteroscale_coordinator.core.policy.view import ServiceView
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.sums import Sum, reckon

ENOUGH_RATE = 0.05
"""Requests/s at decode below which a time in transfer is chance."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """How near KV transfer is to its limits. None is unknown, and blocks nothing."""

    nic_share: float | None
    seconds: Sum | None
    """How long a request's KV is under way, as it was reckoned."""
    over: tuple[str, ...]
    """Limits that are passed, in words."""
    text: str

    @property
    def values(self) -> tuple[SignalValue, ...]:
        """Both readings as signals."""
        rows = (
            ("nic_share", self.nic_share, "share"),
            ("transfer_time", self.seconds.value if self.seconds else None, "s"),
        )
        return tuple(
            SignalValue(name, value, unit, "missing" if value is None else "ok", value is not None)
            for name, value, unit in rows
        )


def observe_transfer(view: ServiceView, seen: Signals) -> Transfer | None:
    """Return how KV transfer is; None when the service has none, or it is not watched."""
    rules = view.spec.policy.transfer
    if Role.PREFILL not in view.spec.roles or not rules.enabled:
        return None
    share = max(view.nic_shares, default=None)
    seconds = _seconds(view, seen)
    limit = view.spec.slo.ttft and rules.ttft_share * view.spec.slo.ttft
    over, told = [], []
    if share is not None:
        words = f"the busiest RDMA port carries {share:.0%} of what it can (limit {rules.nic_share:.0%})"
        told.append(words)
        over += [words] * (share > rules.nic_share)
    if seconds is not None and limit is not None:
        words = f"KV is {1000 * seconds.value:.0f} ms under way (limit {1000 * limit:.0f} ms)"
        told.append(words)
        over += [words] * (seconds.value > limit)
    text = ", ".join(told) or "unknown: no RDMA port and no engine tells"
    return Transfer(share, seconds, tuple(over), text)


def _seconds(view: ServiceView, seen: Signals) -> Sum | None:
    """Return the mean seconds in transfer at decode by Little's law, the larger of both windows."""
    engines, policy = seen.engines(Role.DECODE), view.spec.policy
    found = []
    for length in (policy.window_out, policy.window_in):
        moving = signals.total(engines, signals.gauge_mean("transferring", length))
        rate = signals.total(engines, signals.rate_of("arrived", length))
        if moving is not None and rate is not None and rate >= ENOUGH_RATE:
            note = f"at decode over {length:g} s"
            found.append(
                reckon("transferring / arrivals", "s", note, transferring=moving, arrivals=rate)
            )
    return max(found, key=lambda line: line.value, default=None)


def remembered(
    memory: TransferMemory, transfer: Transfer | None, now: float, settle: float
) -> TransferMemory:
    """Return since when a limit is passed: forgotten after ``settle`` seconds below all of them."""
    if transfer is not None and transfer.over:
        return TransferMemory(now if memory.since is None else memory.since)
    if memory.since is None:
        return memory
    calm = now if memory.calm_since is None else memory.calm_since
    return TransferMemory() if now - calm >= settle else TransferMemory(memory.since, calm)


def together(
    spec: ServiceSpec, memory: TransferMemory, transfer: Transfer | None
) -> Together | None:
    """Return the demand on placement while transfer is near a limit; None when it is not."""
    if transfer is None or memory.since is None:
        return None
    wished = "s2" if spec.placement.affinity == "cluster" else spec.placement.affinity
    why = "; ".join(transfer.over) or f"it was a short while ago; now {transfer.text}"
    return Together(spec.policy.transfer.within or wished, f"KV transfer is near its limit: {why}")


def binds(action: Action, present: Counts, spec: ServiceSpec) -> bool:
    """Return whether the demand holds for a step: always for more, never for the minimum."""
    if action is Action.REPAIR:
        return all(present.get(role, 0) >= rules.min for role, rules in spec.roles.items())
    return action is Action.SCALE_OUT
