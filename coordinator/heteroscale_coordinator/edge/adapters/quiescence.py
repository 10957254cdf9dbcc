"""When an instance of a cluster may be stopped without losing a request. Pure.

The same rule as the agent has for its own: gate closed, then a settle time in which requests on their
way arrive, then several fresh samples in a row with nothing running, waiting or in transfer. Unknown is
not zero. A prefill instance also holds KV that decoders have yet to fetch: where its engine shows no
gauge of open transfers, its KV usage must be zero, or the KV's lease must pass in quiet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from heteroscale.words import Role
from heteroscale_coordinator.core.track import Point

KV_LEASE = 500.0
"""Seconds after which an engine has surely let go of KV that nobody fetched: vLLM's default is 480 s."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What counts as quiet: seconds, samples, and the role it plays."""

    settle: float
    samples: int
    role: Role
    kv_lease: float = KV_LEASE


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the emptying has come. ``message`` says in words what it waits for."""

    closed_at: float | None = None
    sampled_at: float | None = None
    quiet: int = 0
    quiet_since: float | None = None
    done: bool = False
    message: str = ""


def advance(
    before: Progress, terms: Terms, now: float, *, closed: bool, newest: Point | None
) -> Progress:
    """Return the progress after looking at the gate and the newest sample at ``now``."""
    if not closed:
        return Progress(message="waiting until no traffic reaches it")
    closed_at = now if before.closed_at is None else before.closed_at
    progress = replace(before, closed_at=closed_at)
    settled_at = closed_at + terms.settle
    if now < settled_at:
        return replace(progress, message=f"settling for {settled_at - now:.0f} s more")
    last = settled_at if progress.sampled_at is None else progress.sampled_at
    if newest is None:
        return replace(progress, message="waiting for metrics: what runs inside is unknown")
    if newest.at <= last:
        if progress.sampled_at is not None:
            return progress
        return replace(progress, message="settled; waiting for a fresh sample")
    return _judge(replace(progress, sampled_at=newest.at), terms, newest)


def _judge(progress: Progress, terms: Terms, newest: Point) -> Progress:
    busy = replace(progress, quiet=0, quiet_since=None)
    if newest.running is None or newest.waiting is None:
        return replace(busy, message="running or waiting is unknown, so not zero")
    in_flight = newest.running + newest.waiting + (newest.transferring or 0.0)
    if in_flight:
        return replace(busy, message=f"{in_flight:g} requests in flight")
    since = newest.at if progress.quiet_since is None else progress.quiet_since
    prefills = terms.role in (Role.PREFILL, Role.ATTENTION)
    left = terms.kv_lease - (newest.at - since)
    if prefills and newest.transferring is None and newest.kv_usage != 0 and left > 0:
        usage = "unknown" if newest.kv_usage is None else f"{newest.kv_usage:.4%}"
        text = f"KV usage {usage}: decoders may still fetch it, at most {left:.0f} s more"
        return replace(progress, quiet=0, quiet_since=since, message=text)
    quiet = progress.quiet + 1
    return replace(
        progress,
        quiet=quiet,
        quiet_since=since,
        done=quiet >= terms.samples,
        message=f"quiet in {quiet} of {terms.samples} samples",
    )
