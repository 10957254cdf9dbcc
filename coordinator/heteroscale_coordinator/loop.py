"""The one writer: take the inbox → step → commit → apply → dispatch. Every await of the turn is here.

A large cycle of placement takes many turns: each does a piece, and what came meanwhile is in the next.

Nothing leaves before it is committed. When the store cannot commit, the turn's changes are dropped
whole, what must not be lost is kept and tried again with backoff, wishes are refused, and leases
go on being renewed from what was committed last, so that a full disk changes nothing in the fleet.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from heteroscale.words import WITHIN
from heteroscale_coordinator.clock import mint as random_id
from heteroscale_coordinator.core.events import (
    Answer,
    Changes,
    InventoryLearned,
    RenewLeases,
    ReportReceived,
    Tick,
    Wish,
)
from heteroscale_coordinator.core.model import Inventory
from heteroscale_coordinator.core.resume import resume
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.answers import Answers, LoopUnavailableError
from heteroscale_coordinator.edge.feed import Feed, Subscription
from heteroscale_coordinator.edge.mailbox import Letter, Mailbox
from heteroscale_coordinator.edge.ports import LoopStatus, Observer, Outlet, Step
from heteroscale_coordinator.edge.store.port import (
    Snapshot,
    Store,
    StoreConflictError,
    StoreError,
)
from heteroscale_coordinator.edge.writer import Writer

log = structlog.get_logger("heteroscale.loop")

SPREAD = 10
"""Ticks come so many times in ``rules.tick``, so that services are spread over it."""
BATCH = 2_000
"""Letters of one turn at most: folding them stays under 20 ms."""
CLASSES_SAID = 8
"""Changes of RDMA class named in the log for one turn; of the rest only their number is told."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the loop gathers, retries and gives up, in seconds."""

    linger: float = 0.004
    """After a first letter so long for more, so that a thousand reports are one turn."""
    first_retry: float = 0.25
    last_retry: float = 2.0
    wish_timeout: float = 10.0


class Loop:
    """See the module. Whoever wires it sets ``outlet`` and calls ``start`` before ``run``."""

    def __init__(
        self,
        *,
        store: Store,
        snapshot: Snapshot,
        state: State,
        step: Step,
        renewals: Callable[[State, float], Iterable[RenewLeases]],
        clock: Callable[[], float],
        mint: Callable[[str], str] = random_id,
        pace: Pace | None = None,
        observer: Observer | None = None,
        after_turn: Callable[[State], None] | None = None,
    ) -> None:
        self.state = state
        self.mailbox = Mailbox()
        self.epoch = snapshot.epoch
        self.inventories: dict[str, Inventory] = snapshot.inventories
        """The slow facts that are stored, by agent id."""
        self.outlet: Outlet | None = None
        self._step, self._renewals, self._clock, self._mint = step, renewals, clock, mint
        self._pace = pace or Pace()
        self._observer, self._after_turn = observer, after_turn
        self._now = snapshot.last_now
        self._renew_every = state.rules.tick / 2
        self._writer = Writer(
            store,
            on_stall=self._renew,
            patience=self._renew_every,
            observer=observer,
        )
        self._leading = asyncio.Lock()
        self._feed = Feed()
        self._answers = Answers()
        self._held: list[Letter] = []
        self._stopping = asyncio.Event()
        self._retry = self._pace.first_retry
        self._step_trouble = self._stuck = ""
        self._ticked_at = self._renewed_at = float("-inf")
        state.begin(self.now())
        self._away = self.now() - snapshot.last_now if snapshot.last_now else 0.0
        self._partition = ""
        self._classes_told = 0

    # ---- for others ------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the coordinator's time: seconds since 1970, never going back."""
        self._now = max(self._now, self._clock())
        return self._now

    def status(self) -> LoopStatus:
        """Return how the loop is, at once."""
        troubles = (self._writer.trouble, self._step_trouble)
        return LoopStatus(self.now(), tuple(t for t in troubles if t), self.epoch, self._stuck)

    def subscribe(self) -> Subscription:
        """Return what is committed from this call on."""
        return self._feed.subscribe()

    async def submit(self, wish: Wish) -> Answer:
        """Put a wish into the next turn; the answer comes after its commit.

        Raises:
            LoopUnavailableError: the store cannot commit, no turn took it in time, or we are stopping.

        """
        if why := self._writer.trouble or ("stopping" if self._stopping.is_set() else ""):
            raise LoopUnavailableError(why)
        answer = self._answers.expect(wish.request_id)
        try:
            async with asyncio.timeout(self._pace.wish_timeout):
                await self.mailbox.put(wish)
                return await answer
        except TimeoutError:
            waited = f"no turn answered within {self._pace.wish_timeout:g} s"
            raise LoopUnavailableError(self._writer.trouble or waited) from None
        finally:
            self._answers.forget(wish.request_id)

    async def lead(self, heard: int, *, ours: bool = False) -> int:
        """Return our epoch, raised above ``heard`` (and that committed) when it is not higher.

        ``ours``: it was heard from this very coordinator, so that being equal is right.

        Raises:
            StoreError: it could not be committed.

        """
        async with self._leading:
            if heard > self.epoch or (heard == self.epoch and not ours):
                try:
                    await self._writer.set_epoch(heard + 1)
                except StoreConflictError as error:
                    self._stuck = str(error)
                    raise
                log.info("epoch raised", epoch=heard + 1, heard=heard)
                self.epoch = heard + 1
            return self.epoch

    # ---- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Commit an epoch above the stored one, and what follows from our absence.

        Nothing is accepted or sent before.

        Raises:
            StoreError: it could not be committed.

        """
        await self.lead(self.epoch)
        changes = resume(self.state, self._away)
        if changes and not await self._writer.commit(changes, {}, self.now()):
            raise StoreError(self._writer.trouble)
        self.state.apply(changes)

    async def run(self) -> None:
        """Take turns until ``stop``.

        Raises:
            StoreConflictError: another coordinator leads; this one must end.

        """
        while not self._stopping.is_set():
            try:
                await self.turn()
            except StoreConflictError as error:
                self._stuck = str(error)
            except Exception:
                log.exception("turn failed")
                await self._pause(self._pace.first_retry)
            if self._stuck:
                raise StoreConflictError(self._stuck)

    def stop(self) -> None:
        """Let ``run`` return after the present turn."""
        self._stopping.set()
        self.mailbox.put_now(Tick())

    def close(self) -> None:
        """Refuse the wishes that still wait, end the subscriptions and the writer's thread."""
        self._stopping.set()
        self._answers.refuse_all("the coordinator is stopping")
        self._feed.close()
        self._writer.close()

    # ---- the turn --------------------------------------------------------------------------------

    async def turn(self) -> None:
        """Take one turn; return when its commands are on their way, or after a pause when it failed."""
        letters = await self._collect()
        now = self.now()
        if now - self._ticked_at >= self.state.rules.tick / SPREAD:
            self._ticked_at = now
            letters.append(Letter(Tick()))
        if letters or self.state.placing:
            done = await self._process(letters, now)
        else:  # a store in trouble is asked again, also when there is nothing to tell it
            done = not self._writer.trouble or await self._writer.commit(Changes(), {}, now)
        if self.now() - self._renewed_at >= self._renew_every:
            self._renew()
        if done:
            self._retry = self._pace.first_retry
        else:
            await self._pause(self._retry)
            self._retry = min(2 * self._retry, self._pace.last_retry)

    async def _collect(self) -> list[Letter]:
        held, self._held = self._held, []
        room = max(BATCH - len(held), 0)
        due = self._ticked_at + self.state.rules.tick / SPREAD - self.now()
        # A cycle of placement goes on at once, but for the streams, which read meanwhile.
        placing = self.state.placing
        at_once = held or self._writer.trouble or placing
        letters = await self.mailbox.take(0.0 if at_once else due, room)
        if (letters or placing) and len(letters) < room:
            await asyncio.sleep(self._pace.linger)
            letters += await self.mailbox.take(0.0, room - len(letters))
        return held + letters

    async def _process(self, letters: list[Letter], now: float) -> bool:
        """Step over the letters, commit and release; False when the store could not commit."""
        started = time.perf_counter()
        try:
            changes = self._step(self.state, [x.event for x in letters], now, self._mint)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other letters must go on
            return await self._divide(letters, now, error)
        if self._observer:
            self._observer.turn(time.perf_counter() - started)
            folded_at, events = self.now(), (letter.event for letter in letters)
            self._observer.reports(
                [folded_at - e.received_at for e in events if isinstance(e, ReportReceived)],
                self.mailbox.take_coalesced(),
            )
        if any(isinstance(letter.event, Tick) for letter in letters):
            self._step_trouble = ""
        self._tell_partition()
        self._tell_classes()
        learned = self._learned(letters)
        if not await self._writer.commit(changes, learned, now):
            self._hold(letters)
            return False
        self.inventories.update(learned)
        self._release(letters, changes, now)
        if self._after_turn:
            self._after_turn(self.state)
        return True

    async def _divide(self, letters: list[Letter], now: float, error: Exception) -> bool:
        """Find the letter that makes the step raise, and drop that one only."""
        if not letters:
            await self._give_up_turn(error)
            return True
        if len(letters) == 1:
            self._give_up(letters[0], error)
            return True
        half = len(letters) // 2
        if await self._process(letters[:half], now):
            return await self._process(letters[half:], now)
        self._hold(letters[half:])
        return False

    async def _give_up_turn(self, error: Exception) -> None:
        """Wait a little where the step raises on nothing: a cycle of placement that is under way."""
        trouble = f"the step raises: {error!r}"
        if trouble != self._step_trouble:
            log.error("turn dropped", trouble=trouble, exc_info=error)
        self._step_trouble = trouble
        await self._pause(self._pace.first_retry)

    def _give_up(self, letter: Letter, error: Exception) -> None:
        trouble = f"the step raises on {type(letter.event).__name__}: {error!r}"
        if trouble != self._step_trouble:
            log.error("event dropped", trouble=trouble, exc_info=error)
        if isinstance(letter.event, Tick):
            self._step_trouble = trouble
        elif isinstance(letter.event, Wish):
            self._answers.refuse(letter.event.request_id, trouble)
        if letter.done:
            letter.done()

    def _hold(self, letters: Iterable[Letter]) -> None:
        """Keep what must not be lost for the next try; reports are folded, wishes are refused."""
        for letter in letters:
            if isinstance(letter.event, Wish):
                self._answers.refuse(letter.event.request_id, self._writer.trouble)
            elif not isinstance(letter.event, ReportReceived | Tick):
                self._held.append(letter)

    def _learned(self, letters: Iterable[Letter]) -> dict[str, Inventory]:
        """Return inventories to keep. Agents within jobs come and go for ever: theirs is asked anew."""
        return {
            event.agent_id: event.inventory
            for event in (letter.event for letter in letters)
            if isinstance(event, InventoryLearned)
            and WITHIN not in event.inventory.labels
            and self.inventories.get(event.agent_id) != event.inventory
        }

    def _release(self, letters: Iterable[Letter], changes: Changes, now: float) -> None:
        """Let out what is committed: commands, answers, acknowledgements, news."""
        self.state.apply(changes)
        if self.outlet:
            try:
                self.outlet.dispatch(changes, self.state, self.epoch)
            except Exception:
                log.exception("dispatch failed")
        for effect in changes.effects:
            if isinstance(effect, Answer):
                self._answers.give(effect)
        for letter in letters:
            if letter.done:
                letter.done()
        if changes or changes.decisions:
            self._feed.publish(changes, now)
        if self._observer:
            self._observer.committed(changes)

    def _tell_partition(self) -> None:
        """Say a partition aloud when it begins, changes and ends."""
        before, self._partition = self._partition, self.state.partition
        if self._partition and self._partition != before:
            log.warning("partition", why=self._partition)
        elif before and not self._partition:
            log.info("partition over")

    def _tell_classes(self) -> None:
        """Say which domains are of another RDMA subgroup class than before."""
        seen = self.state.seen
        total = seen.change_counts.total()
        new, self._classes_told = total - self._classes_told, total
        if not new:
            return
        last = list(seen.changes)[-new:]
        for _, change, cause in last[:CLASSES_SAID]:
            log.info(
                "rdma class changed",
                domain=change.domain,
                before=change.before.name.lower(),
                after=change.after.name.lower(),
                nodes=len(change.agent_ids),
                cause=cause,
            )
        if new > CLASSES_SAID:
            log.info("rdma classes changed", more=new - CLASSES_SAID)

    def _renew(self) -> None:
        """Renew leases from the committed state, whatever became of the last turn."""
        self._renewed_at = self.now()
        if self.outlet:
            self.outlet.renew(self._renewals(self.state, self._renewed_at), self.epoch)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass
