"""The duty of an agent within a job: wait for its launch, leave when told to, end with its instance."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import structlog

from heteroscale.words import InstanceState
from heteroscale_agent.gatekeeper import Gatekeeper
from heteroscale_agent.instances import Instance, Record, moved
from heteroscale_agent.job.claim import Post
from heteroscale_agent.life import switch_given_up
from heteroscale_agent.registry import Registry

_log = structlog.get_logger(__name__)
_S = InstanceState

TICK = 0.25
"""Seconds between looks at how its instance is."""


@dataclass(frozen=True, slots=True)
class End:
    """Why the agent ends, and with which exit status."""

    status: int
    why: str


class Duty:
    """What an agent within a job does besides living like any other."""

    def __init__(self, registry: Registry, gatekeeper: Gatekeeper, post: Post) -> None:
        self._registry = registry
        self._gatekeeper = gatekeeper
        self._post = post
        self._began_at = registry.clock()
        self._told = asyncio.Event()

    def told_to_end(self) -> None:
        """Take note of a signal; the second ends the wait for requests."""
        self._post.signals += 1
        self._told.set()
        _log.info("signalled", count=self._post.signals, instance=self._post.claim.instance_id)

    async def run(self) -> End:
        """Return once the agent is to end."""
        obeyed = 0
        while True:
            if self._post.signals > obeyed:
                obeyed = self._post.signals
                await self.leave()
            if (end := self.end()) is not None:
                self._post.over = True
                return end
            self._told.clear()
            try:
                await asyncio.wait_for(self._told.wait(), TICK)
            except TimeoutError:
                continue

    def end(self) -> End | None:
        """Return whether, and how, the agent is to end now."""
        instance = self._instance
        if instance is None:
            return self._without_instance()
        record = instance.record
        if not record.ended:
            return None
        return End(0 if record.state is _S.TERMINATED else 1, record.message)

    def _without_instance(self) -> End | None:
        post, waited = self._post, self._registry.clock() - self._began_at
        if post.dismissed:
            return End(0, post.dismissed)
        if post.leaving:
            return End(0, "told to end before anything was started")
        if post.refused:
            return End(1, f"its launch was refused: {post.refused}")
        if waited <= post.claim.wait:
            return None
        nobody = f"no coordinator asked for {post.claim.instance_id} within {post.claim.wait:g} s"
        return End(1, nobody)

    def is_out(self) -> bool:
        """Return whether no router has the instance any more, as far as they can be asked."""
        instance = self._instance
        now = self._registry.clock()
        return instance is None or self._gatekeeper.finished(instance, now)

    @property
    def _instance(self) -> Instance | None:
        return self._registry.instances.get(self._post.claim.instance_id)

    async def leave(self) -> None:
        """Begin to empty the instance, or end the wait for it."""
        instance = self._instance
        if instance is None:
            return
        async with instance.lock:
            after = self._left(instance.record)
            if after is None:
                return
            results = switch_given_up(instance.record, after.message)
            entries = map(self._registry.result_entry, results)
            # What ends it is not ours to decide: the disk may refuse, the job ends all the same.
            await self._registry.observe(instance, after, *entries)
            instance.lease_until_at = None  # whoever stays silent, it does not come back
            for result in results:
                status = instance.status(self._registry.clock())
                self._registry.say(replace(result, status=status))

    def _left(self, record: Record) -> Record | None:
        now, claim = self._registry.clock(), self._post.claim
        if record.ended or record.terminating:
            return None
        order = claim.drain(at_once=self._post.signals > 1)
        if record.state is _S.LAUNCHING:
            why = "its job ends before it was ready"
            changes = {"terminating": True, "terminate_at": now, "grace": order.grace}
            return moved(record, _S.DRAINING, now, why, owed=record.owed, **changes)
        if record.state is _S.DRAINING and record.drain is not None:
            # What it has waited for stands; only when it is over at the latest is another matter.
            over = now - record.since_at + (order.force_after or 0.0)
            sooner = min(over, record.drain.force_after or over)
            drain = replace(record.drain, force_after=sooner, grace=order.grace)
            return replace(record, drain=drain, lease=None, message="its job ends: draining")
        why = "its job ends: draining"
        return moved(record, _S.DRAINING, now, why, drain=order, owed=record.owed)
