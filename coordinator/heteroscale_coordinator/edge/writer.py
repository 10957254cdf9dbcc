"""The one thread that writes to the store, and what is known of the store's health.

A store that fails is asked again with every turn; a store that hangs is waited for, because its
commit may yet succeed, and meanwhile ``on_stall`` is called so that leases go on being renewed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import structlog

from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.model import Inventory
from heteroscale_coordinator.edge.ports import Observer
from heteroscale_coordinator.edge.store.port import Store, StoreConflictError

log = structlog.get_logger("heteroscale.writer")


class Writer:
    """Commits in a thread of its own. ``trouble`` says why nothing can be committed; empty: it can."""

    def __init__(
        self,
        store: Store,
        *,
        on_stall: Callable[[], None],
        patience: float,
        heartbeat: float = 30.0,
        observer: Observer | None = None,
    ) -> None:
        self.trouble = "not started: no epoch has been committed yet"
        self._store = store
        self._on_stall = on_stall
        self._patience = patience
        self._heartbeat = heartbeat
        """Something is written at least this often, so that a sick store is noticed in peace."""
        self._observer = observer
        self._written_at = float("-inf")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    async def set_epoch(self, epoch: int) -> None:
        """Commit an epoch.

        Raises:
            StoreError: it could not be written.

        """
        await self._run(lambda: self._store.set_epoch(epoch))
        self.trouble = ""

    async def commit(self, changes: Changes, learned: Mapping[str, Inventory], now: float) -> bool:
        """Make a turn durable; False when the store could not, and nothing of it may be sent.

        Raises:
            StoreConflictError: another coordinator leads.

        """
        rested = now - self._written_at < self._heartbeat
        if rested and not (changes or learned or self.trouble):
            return True
        try:
            await self._run(lambda: self._write(changes, learned, now))
        except StoreConflictError:
            raise
        except Exception as error:  # noqa: BLE001 - drivers raise kinds of their own
            if not self.trouble:
                log.warning("commit failed, nothing is sent", error=str(error))
            self.trouble = f"the store cannot commit: {error}"
            return False
        if self.trouble:
            log.info("commits succeed again")
        self.trouble, self._written_at = "", now
        return True

    def close(self) -> None:
        """Wait for the last write and end the thread. The store itself is its owner's to close."""
        self._thread.shutdown(wait=True)

    def _write(self, changes: Changes, learned: Mapping[str, Inventory], now: float) -> None:
        started = time.perf_counter()
        failed = True
        try:
            if learned:
                self._store.save_inventories(learned)
            self._store.commit(changes, now)
            failed = False
        finally:
            if self._observer:
                self._observer.commit(time.perf_counter() - started, failed=failed)

    async def _run(self, work: Callable[[], None]) -> None:
        started = time.monotonic()
        job = asyncio.get_running_loop().run_in_executor(self._thread, work)
        before = self.trouble
        while not (await asyncio.wait({job}, timeout=self._patience))[0]:
            waited = time.monotonic() - started
            self.trouble = f"the store has not answered for {waited:.1f} s"
            self._on_stall()
        self.trouble = before
        job.result()
