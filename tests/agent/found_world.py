"""A body that discovers, on twins of its hands: time is the test's, the sources are real."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heteroscale.words import InstanceState
from heteroscale_agent.model import InstanceStatus
from tests.agent.body_twins import World

DEADLINE = 60.0


class FoundWorld(World):
    """A host whose agent looks for engines that others started."""

    def __init__(self, folder: Path, discovery: dict[str, Any], **spec: Any) -> None:
        super().__init__(folder, discovery=discovery, **spec)

    def found(self) -> dict[str, InstanceStatus]:
        """Return what is discovered and has not ended, by origin."""
        statuses = self.body.statuses()
        return {s.origin: s for s in statuses if "/" in s.origin and not _ended(s)}

    def ended(self) -> list[InstanceStatus]:
        """Return what was discovered and is gone."""
        return [s for s in self.body.statuses() if "/" in s.origin and _ended(s)]

    async def until_state(self, instance_id: str, state: InstanceState) -> None:
        """Let ticks pass until an instance is in ``state``."""
        await self.until(lambda: self.status(instance_id).state is state)

    async def until(self, wanted: Callable[[], object]) -> None:
        """Let ticks pass, without virtual time, until ``wanted`` says yes."""
        async with asyncio.timeout(DEADLINE):
            while not wanted():
                await self.body.tick()
                await asyncio.sleep(0.01)


def _ended(status: InstanceStatus) -> bool:
    return status.state.value in {"terminated", "failed"}
