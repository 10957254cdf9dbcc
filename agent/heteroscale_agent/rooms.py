"""The rooms of one agent, wired, and how they live side by side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from heteroscale import __version__
from heteroscale_agent.body import AgentBody
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.eyes import HostEyes
from heteroscale_agent.hands.host import host_hands
from heteroscale_agent.identity import Identity
from heteroscale_agent.job import Claim, Post
from heteroscale_agent.link import Link, LinkSettings, Wiring
from heteroscale_agent.outbox import Outbox
from heteroscale_agent.patience import Patience


class Pace:
    """How often to sample: as often as reports are wanted, never slower than configured."""

    def __init__(self, configured: float) -> None:
        self._configured = configured
        self.report_interval = configured

    @property
    def sample_interval(self) -> float:
        """Seconds between samples."""
        return min(self._configured, self.report_interval)

    def wanted(self, report_interval: float) -> None:
        """Take note of what the coordinator asks for."""
        self.report_interval = report_interval


async def sample(eyes: HostEyes, outbox: Outbox, pace: Pace) -> None:
    """Sample for ever; each report leaves when it is due, with the samples since the last in it."""
    clock = asyncio.get_running_loop().time
    due = report_due = clock()
    while True:
        report = await eyes.sample()
        now = clock()
        outbox.put_report(report, ready=now >= report_due)
        if now >= report_due:
            report_due = max(report_due + pace.report_interval, now)
        due = max(due + pace.sample_interval, now)
        await asyncio.sleep(max(0.0, due - clock()))


@dataclass(frozen=True, slots=True)
class Rooms:
    """The rooms of one agent, wired."""

    eyes: HostEyes
    body: AgentBody
    outbox: Outbox
    pace: Pace
    link: Link


async def wired(spec: AgentSpec, identity: Identity, claim: Claim | None) -> Rooms:
    """Return the rooms of an agent; nothing runs yet."""
    outbox, pace = Outbox(), Pace(spec.sample_interval)
    eyes = await HostEyes.open(spec)
    post = Post(claim) if claim is not None else None
    hands = host_hands(spec, time.monotonic)
    body = AgentBody(spec, eyes, outbox.put, hands, agent_id=identity.agent_id, post=post)
    settings = LinkSettings(
        spec.coordinator,
        spec.tls.files(),
        spec.insecure,
        spec.cluster_id,
        spec.advertise_host,
        __version__,
        claim,
    )
    wiring = Wiring(settings, identity, eyes, body, outbox, time.monotonic, pace.wanted)
    link = Link(wiring, Patience(max_backoff=spec.reconnect_within))
    return Rooms(eyes, body, outbox, pace, link)


@asynccontextmanager
async def alive(rooms: Rooms) -> AsyncIterator[None]:
    """Have all rooms live while the caller waits for the end."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(rooms.body.run()),
                group.create_task(sample(rooms.eyes, rooms.outbox, rooms.pace)),
                group.create_task(rooms.link.run()),
            ]
            yield
            for task in tasks:
                task.cancel()
    finally:
        await rooms.eyes.close()
