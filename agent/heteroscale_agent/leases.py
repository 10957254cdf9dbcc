"""Which instances go back into service by themselves when no coordinator is heard; pure.

| out of service because | with no word from a coordinator |
|---|---|
| soft_scale_in | leased: back in service when the lease ends |
| ratio_hold | back in service at its deadline, which renewals do not move |
| operator, maintenance, sick | stays out |
| draining, before TERM | leased: back in service |

A lease is kept as its length. After a restart of the agent a lease that was running starts again in
full: the agent cannot know what it would have been renewed to, and too long out of service harms
less than traffic on an instance that the coordinator is about to drain. A hold keeps its deadline.
"""

from __future__ import annotations

from heteroscale.words import InstanceState, WithdrawReason
from heteroscale_agent.instances import Record

_STAYS_OUT = frozenset({WithdrawReason.OPERATOR, WithdrawReason.MAINTENANCE, WithdrawReason.SICK})


def complaint(reason: WithdrawReason, lease: float | None) -> str:
    """Return what is wrong with withdrawing for ``reason`` under ``lease``, or nothing."""
    if reason not in _STAYS_OUT and (lease is None or lease <= 0):
        return f"{reason} needs a lease longer than 0 s"
    return ""


def stays_out(record: Record) -> bool:
    """Return whether it is out for a reason that only a command ends."""
    return record.state is InstanceState.WITHDRAWN and record.withdraw_reason in _STAYS_OUT


def renewable(record: Record) -> bool:
    """Return whether renewals extend it: soft scale-in, and draining before TERM."""
    if record.state is InstanceState.DRAINING:
        return not record.terminating
    return record.withdraw_reason is WithdrawReason.SOFT_SCALE_IN


def until(record: Record, now: float) -> float | None:
    """Return when a lease that starts ``now`` ends; None where nothing is leased."""
    return now + record.lease if record.lease is not None and renewable(record) else None


def why_back(record: Record, lease_until_at: float | None, now: float) -> str:
    """Return why it goes back into service ``now``, in words; nothing when it stays as it is."""
    held = record.withdraw_reason is WithdrawReason.RATIO_HOLD
    if held and record.hold_until_at is not None and now >= record.hold_until_at:
        return "its ratio hold reached its deadline; back in service"
    if renewable(record) and lease_until_at is not None and now >= lease_until_at:
        doing = "drain" if record.state is InstanceState.DRAINING else "withdrawal"
        return f"the lease of its {doing} ended without a coordinator's word; back in service"
    return ""
