"""Who leads: a Lease of the cluster (coordination.k8s.io/v1), so that of several coordinators one acts.

As client-go does it: no clock of another machine is ever compared. A holder counts as alive until the
lease has not changed for its duration *on our own monotonic clock*, from when we first saw it so. The
one that leads gives up earlier than that, counted from when it *sent* its last good renewal; so the two
never overlap while monotonic clocks run equally fast.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from heteroscale_coordinator.edge.cluster_api import (
    Address,
    ApiError,
    ChangedError,
    ClusterApi,
    NotThereError,
    Object,
)

log = structlog.get_logger("heteroscale.lease")

API_VERSION = "coordination.k8s.io/v1"


class LeaseLostError(RuntimeError):
    """Another coordinator may lead by now: this one must end, and does nothing more."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds. ``deadline`` < ``duration``, ``retry`` well below ``deadline``."""

    duration: float = 15.0
    """Without a change for so long, others may take it."""
    deadline: float = 10.0
    """Who leads ends itself when no renewal succeeded for so long."""
    retry: float = 2.0
    """Between two tries, to take it or to renew it."""


def micro_time(wall: float) -> str:
    """Return a MicroTime of ``wall``, seconds since 1970: with six digits always, or it is refused."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Election:
    """What is known of the lease, and what may be written into it (pure: times are given)."""

    def __init__(self, identity: str, times: LeaseTimes) -> None:
        self.identity = identity
        self._times = times
        self._seen: Mapping[str, Any] | None = None
        self._seen_at = 0.0

    @property
    def holder(self) -> str:
        """Who holds it, as last seen; empty: nobody, or nothing was seen yet."""
        return str((self._seen or {}).get("holderIdentity") or "")

    def observe(self, spec: Mapping[str, Any], now: float) -> None:
        """Take in what the lease says; ``now`` is monotonic."""
        if self._seen is None or dict(self._seen) != dict(spec):
            self._seen, self._seen_at = dict(spec), now

    def free(self, now: float) -> bool:
        """Return whether it may be taken or renewed by us."""
        if not self.holder or self.holder == self.identity:
            return True
        seconds = (self._seen or {}).get("leaseDurationSeconds") or self._times.duration
        return now >= self._seen_at + float(seconds)

    def claim(self, wall: float) -> dict[str, Any]:
        """Return the spec that makes it ours, or renews it."""
        before, now = self._seen or {}, micro_time(wall)
        ours = self.holder == self.identity
        transitions = int(before.get("leaseTransitions") or 0)
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._times.duration)),
            "acquireTime": before.get("acquireTime") or now if ours else now,
            "renewTime": now,
            "leaseTransitions": transitions if ours or self._seen is None else transitions + 1,
        }

    def released(self, wall: float) -> dict[str, Any]:
        """Return the spec of a lease that nobody holds: the next one needs not wait."""
        before = self._seen or {}
        return {
            "leaseDurationSeconds": 1,
            "renewTime": micro_time(wall),
            "leaseTransitions": int(before.get("leaseTransitions") or 0),
        }


class Lease:
    """One lease, taken, kept and given back."""

    def __init__(
        self,
        api: ClusterApi,
        at: Address,
        identity: str,
        *,
        times: LeaseTimes | None = None,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._api, self._at = api, at
        self._times = times or LeaseTimes()
        self._monotonic, self._wall, self._sleep, self._jitter = monotonic, wall, sleep, jitter
        self._election = Election(identity, self._times)
        self._renewed_at = float("-inf")
        self.trouble = ""
        """Why the last try failed; empty: it did not."""

    @property
    def waits_for(self) -> str:
        """Why it is not ours, in words."""
        holder = self._election.holder or "nobody yet"
        text = f"the lease {self._at.namespace}/{self._at.name} is held by {holder}"
        return f"{text}; {self.trouble}" if self.trouble else text

    def held(self) -> bool:
        """Return whether we may still act. At once, without asking anybody."""
        return self._monotonic() < self._renewed_at + self._times.deadline

    async def acquire(self) -> None:
        """Return once it is ours."""
        while not await self._attempt(self._times.deadline):
            # Spread, so that several who wait do not ask in step.
            await self._sleep(self._times.retry * (1.0 + 0.2 * self._jitter()))
        log.info("leading", lease=f"{self._at.namespace}/{self._at.name}")

    async def keep(self) -> None:
        """Renew it for ever.

        Raises:
            LeaseLostError: it is another's, or could not be renewed in time.

        """
        while True:
            await self._sleep(self._times.retry)
            left = self._renewed_at + self._times.deadline - self._monotonic()
            ours = left > 0 and await self._attempt(left)
            if not ours and self._election.holder not in ("", self._election.identity):
                self._renewed_at = float("-inf")
            if not self.held():
                raise LeaseLostError(
                    f"the lease was lost: {self.waits_for}. This coordinator ends, so that two never "
                    "act; started again, it waits for its turn"
                )

    async def release(self) -> None:
        """Give it back, if it is ours; errors are only logged: it runs out by itself."""
        if not self.held():
            return
        self._renewed_at = float("-inf")
        try:
            lease = await self._api.get(self._at)
            if (lease.get("spec") or {}).get("holderIdentity") == self._election.identity:
                spec = self._election.released(self._wall())
                await self._api.replace(self._at, {**lease, "spec": spec})
        except ApiError as error:
            log.warning("lease not released", why=str(error))

    async def _attempt(self, seconds: float) -> bool:
        """Take or renew it; False: it is another's, or it is not known."""
        try:
            async with asyncio.timeout(seconds):
                done = await self._claim()
        except ChangedError:
            return False  # another was quicker; the next try reads who
        except (ApiError, TimeoutError) as error:
            why = str(error) or "the API server does not answer"
            if why != self.trouble:
                log.warning("lease", trouble=why)
            self.trouble = why
            return False
        self.trouble = ""
        return done

    async def _claim(self) -> bool:
        try:
            lease: Object | None = await self._api.get(self._at)
        except NotThereError:
            lease = None
        if lease is not None:
            self._election.observe(lease.get("spec") or {}, self._monotonic())
            if not self._election.free(self._monotonic()):
                return False
        sent_at, spec = self._monotonic(), self._election.claim(self._wall())
        if lease is None:
            meta = {"namespace": self._at.namespace, "name": self._at.name}
            new = {"apiVersion": API_VERSION, "kind": "Lease", "metadata": meta, "spec": spec}
            written = await self._api.create(self._at, new)
        else:
            written = await self._api.replace(self._at, {**lease, "spec": spec})
        self._election.observe(written.get("spec") or spec, self._monotonic())
        self._renewed_at = sent_at
        return True


def lease_at(namespace: str, name: str) -> Address:
    """Return the address of a lease."""
    return Address(API_VERSION, "Lease", "leases", namespace, name)
