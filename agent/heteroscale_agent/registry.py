"""All instances of the host, and the one way to change one: journal it, count it, say it aloud."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import structlog

from heteroscale_agent.instances import Instance, Record, dump_record
from heteroscale_agent.journal import Journal, JournalError
from heteroscale_agent.leases import until
from heteroscale_agent.ledger import Entry, instance_entry, result_entry
from heteroscale_agent.model import CommandResult, InstanceEvent
from heteroscale_agent.ports import Clock, Outbox
from heteroscale_agent.quiescence import Progress

_log = structlog.get_logger(__name__)


class Registry:
    """Instances by id. Owned by the event loop; disk syncs happen in a thread of its own."""

    def __init__(self, journal: Journal, clock: Clock, outbox: Outbox) -> None:
        self.journal = journal
        self.clock = clock
        self.instances: dict[str, Instance] = {}
        self.speaking = False
        """Off until the first hello can be made, which says it all anyway."""
        self.heard = journal.epoch
        """The highest epoch heard on the stream; on disk a moment later."""
        self._outbox = outbox
        # One thread: a disk that hangs must not eat up the pool that everybody else uses.
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")

    @property
    def epoch(self) -> int:
        """The highest epoch heard, by word or by command."""
        return max(self.heard, self.journal.epoch)

    @property
    def behind(self) -> bool:
        """Whether the disk lacks something that was heard or noted."""
        return self.heard > self.journal.epoch or self.journal.behind

    async def append(self, entries: Iterable[Entry]) -> None:
        """Write entries before acting on them. Raises JournalError: then nothing may be done."""
        listed = list(entries)
        await asyncio.get_running_loop().run_in_executor(self._disk, self.journal.append, listed)

    async def note(self, entries: Iterable[Entry]) -> None:
        """Write entries of what has happened anyway; kept in memory while the disk refuses."""
        listed = list(entries)
        await asyncio.get_running_loop().run_in_executor(self._disk, self.journal.note, listed)

    async def flush(self) -> None:
        """Try again what `note` could not write."""
        if self.journal.behind:
            await asyncio.get_running_loop().run_in_executor(self._disk, self.journal.flush)

    async def decide(self, instance: Instance, record: Record, *more: Entry) -> None:
        """Put ``instance`` into ``record``, on disk first, together with ``more``.

        Raises:
            JournalError: nothing has changed.

        """
        await self.append([*more, _entry(record)])
        self._adopt(instance, record)

    async def observe(self, instance: Instance, record: Record, *more: Entry) -> None:
        """Put ``instance`` into ``record`` because the world has changed, disk or no disk."""
        await self.note([*more, _entry(record)])
        self._adopt(instance, record)

    async def try_decide(self, instance: Instance, record: Record) -> bool:
        """`decide`, but say False while the journal cannot be written; tried again next tick."""
        try:
            await self.decide(instance, record)
        except JournalError as error:
            _log.error("journal.refuses", instance=record.instance_id, error=str(error))
            return False
        return True

    def publish(self, instance: Instance) -> None:
        """Say aloud what an instance is now."""
        instance.shown_gate = instance.gate_state
        instance.shown_message = instance.message_without_numbers
        if self.speaking:
            self._outbox(InstanceEvent(instance.status(self.clock()), instance.record.cause))

    def say(self, result: CommandResult) -> None:
        """Put the end of a long command, journaled already, into the outbox."""
        if self.speaking:
            self._outbox(result)

    def result_entry(self, result: CommandResult) -> Entry:
        """Return the journal's entry of an answer, kept as long as its command's."""
        return result_entry(result, self.journal.keep_until(result.command_id))

    def close(self) -> None:
        """Finish what the disk was asked for and close the journal."""
        self._disk.shutdown(wait=True)
        self.journal.flush()
        self.journal.close()

    def _adopt(self, instance: Instance, record: Record) -> None:
        before = instance.record
        instance.record = record
        now = self.clock()
        if record.generation != before.generation:
            instance.lease_until_at = until(record, now)
            instance.progress = Progress()
        if record.wanted_in != before.wanted_in or record.has_gate != before.has_gate:
            instance.gate_due_at, instance.gate_tries = now, 0
            # Even where the wish is one of long ago again: a router may have heard others since.
            instance.view_wanted = None
        if record.generation != before.generation or record.message != before.message:
            _log.info(
                "instance",
                instance=record.instance_id,
                state=record.state.value,
                generation=record.generation,
                cause=record.cause,
                why=record.message,
            )
            self.publish(instance)


def _entry(record: Record) -> Entry:
    return instance_entry(record.instance_id, dump_record(record))
