"""When an instance may be stopped without losing a request: quiescence, a pure fold over scrapes.

Gate confirmed closed on all routers, then a settle time in which requests on their way arrive, then
several fresh scrapes in a row with nothing running, waiting or in transfer. Unknown is not zero: a
scrape that does not say so is not quiet. A gate that opens again starts everything anew.

A prefill instance also holds KV that decoders have yet to fetch. Where the engine shows no gauge
of open transfers (vLLM), its KV usage must be zero. Seen on a real pair of vLLM 0.32 over NIXL: while
KV waits to be fetched nothing runs or waits, and usage alone stays above zero, without traffic too;
it is zero as soon as the last decode has fetched, or the KV's lease is over. Older versions stop
counting when nothing runs. So should usage never get to zero though all else is quiet, the lease
must pass in quiet, after which the engine has let go of it by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from heteroscale.words import Role, ScrapeQuality
from heteroscale_agent.model import Drain, EngineState

KV_LEASE = 500.0
"""Seconds, where a template says no other. vLLM frees unfetched KV after its
VLLM_NIXL_ABORT_REQUEST_TIMEOUT, 480 s by default; newer ones after `kv_lease_duration` of
`kv_connector_extra_config`, 30 s by default, which waiting decodes renew. This is the longer one with
some margin."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a drain has come. ``message`` says in words what it waits for."""

    closed_at: float | None = None
    scraped_at: float | None = None
    quiet_scrapes: int = 0
    quiet_since_at: float | None = None
    done: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """What counts as quiet for one instance: seconds, scrapes, and the role it plays.

    ``kv_lease``: seconds after which KV that nobody fetched is surely gone.
    """

    settle_time: float
    quiet_scrapes: int
    role: Role
    kv_lease: float = KV_LEASE

    @classmethod
    def of(cls, drain: Drain, role: Role, kv_lease: float = KV_LEASE) -> Terms:
        """Return the terms of a drain command; at least one scrape is always asked for."""
        return cls(drain.settle_time, max(1, drain.quiet_scrapes), role, kv_lease)


def advance(
    progress: Progress, terms: Terms, now: float, *, gate_closed: bool, engine: EngineState | None
) -> Progress:
    """Return ``progress`` after looking at the gate and the newest scrape at ``now``."""
    if not gate_closed:
        return Progress(message="waiting for every router to confirm the removal")
    if progress.closed_at is None:
        progress = Progress(closed_at=now)
    closed_at = progress.closed_at if progress.closed_at is not None else now
    settled_at = closed_at + terms.settle_time
    if now < settled_at:
        return replace(progress, message=f"settling for {settled_at - now:.1f} s more")
    if engine is None or engine.quality is ScrapeQuality.MISSING:
        return replace(
            _disturbed(progress), message="waiting for metrics: what runs inside is unknown"
        )
    last = settled_at if progress.scraped_at is None else progress.scraped_at
    if engine.quality is not ScrapeQuality.OK or engine.scraped_at <= last:
        if progress.scraped_at is not None:
            return progress
        return replace(progress, message="settled; waiting for a fresh scrape")
    return _judge(replace(progress, scraped_at=engine.scraped_at), terms, engine)


def _judge(progress: Progress, terms: Terms, engine: EngineState) -> Progress:
    scrape = engine.scrape
    in_flight = scrape.in_flight
    if in_flight is None:
        return replace(_disturbed(progress), message="running or waiting is unknown, so not zero")
    if in_flight != 0:
        return replace(_disturbed(progress), message=f"{in_flight:g} requests in flight")
    since = progress.quiet_since_at if progress.quiet_since_at is not None else engine.scraped_at
    progress = replace(progress, quiet_since_at=since)
    prefills = terms.role in (Role.PREFILL, Role.ATTENTION)
    holds_kv = prefills and scrape.transferring is None and scrape.kv_usage != 0
    if holds_kv and engine.scraped_at - since < terms.kv_lease:
        left = terms.kv_lease - (engine.scraped_at - since)
        usage = "unknown" if scrape.kv_usage is None else f"{scrape.kv_usage:.4%}"
        return replace(
            progress,
            quiet_scrapes=0,
            message=f"KV usage {usage}: decoders may still fetch it, at most {left:.0f} s more",
        )
    quiet = progress.quiet_scrapes + 1
    return replace(
        progress,
        quiet_scrapes=quiet,
        done=quiet >= terms.quiet_scrapes,
        message=f"quiet in {quiet} of {terms.quiet_scrapes} scrapes",
    )


def _disturbed(progress: Progress) -> Progress:
    return replace(progress, quiet_scrapes=0, quiet_since_at=None, done=False)
