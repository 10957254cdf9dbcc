"""Carries committed decisions from the loop into their record, without the loop ever waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Protocol

import structlog

from heteroscale_coordinator.core.model import Decision
from heteroscale_coordinator.edge.feed import FeedLaggedError
from heteroscale_coordinator.edge.ports import Loop

log = structlog.get_logger("heteroscale.decisions")


class Record(Protocol):
    """The record of decisions, written; see ``store.decisions.DecisionLog``."""

    def record(self, decisions: Sequence[Decision]) -> None:
        """Take decisions in; blocks, and never raises."""
        ...


async def record_decisions(loop: Loop, record: Record) -> None:
    """Record what is decided until the loop stops.

    A disk that hangs for so long that the feed overflows costs decisions, which is said.
    """
    while True:
        async with aclosing(loop.subscribe()) as feed:
            try:
                async for changes, _ in feed:
                    if changes.decisions:
                        await asyncio.to_thread(record.record, changes.decisions)
            except FeedLaggedError:
                log.warning("decisions_lost", why="the record is slower than the loop")
            else:
                return
