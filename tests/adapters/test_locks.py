"""Locks of instances: one for all who ask at a time, and forgotten with the last."""

from __future__ import annotations

import asyncio

from heteroscale_coordinator.edge.adapters.locks import Locks


async def test_who_asks_meanwhile_waits_and_nothing_is_kept_of_who_is_done() -> None:
    locks, seen = Locks(), list[str]()

    async def work(name: str, mark: str) -> None:
        async with locks.of(name):
            seen.append(f"{mark} begins")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append(f"{mark} ends")

    first, second = (asyncio.create_task(work("i-1", mark)) for mark in "ab")
    await asyncio.sleep(0)
    assert len(locks) == 1
    await asyncio.gather(first, second)
    assert seen == ["a begins", "a ends", "b begins", "b ends"]
    assert not len(locks)
