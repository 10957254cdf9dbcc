"""Has the coordinator do what the objects ask for, and tells them what came of it. Level-triggered.

Each pass compares every object with what is committed: what differs is asked for again, so an object
always wins over what was applied by other means since. A pass keeps nothing across an await but what it
read from the objects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from heteroscale.documents import DocumentError
from heteroscale_coordinator.clock import mint
from heteroscale_coordinator.core import events
from heteroscale_coordinator.core.model import Decision
from heteroscale_coordinator.edge.apply import Parsed
from heteroscale_coordinator.edge.cluster_api import ApiError, ClusterApi, NotThereError
from heteroscale_coordinator.edge.crd import objects, owners, words
from heteroscale_coordinator.edge.crd.objects import Told
from heteroscale_coordinator.edge.crd.reflect import Reflection
from heteroscale_coordinator.edge.crd.status import (
    Condition,
    accepted,
    difference,
    only_words,
    status_of,
)
from heteroscale_coordinator.edge.crd.tell import Announcer
from heteroscale_coordinator.edge.feed import FeedLaggedError
from heteroscale_coordinator.edge.ports import Loop

log = structlog.get_logger("heteroscale.objects")


class Latest(Protocol):
    """The record of decisions, as far as it is read here."""

    def latest(self, service: str) -> Decision | None:
        """Return the newest of a service, without I/O."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds."""

    passes: float = 2.0
    """Between two passes at the most; a change of an object starts one at once."""
    status: float = 5.0
    """Between two writes of one status."""
    sentences: float = 30.0
    """Between them where only a sentence differs."""
    retry: float = 30.0
    """Until what was refused is asked for again, if nobody changed it."""


@dataclass(slots=True)
class _Memory:
    """Of one object, by its uid. Nothing of it is needed after a restart."""

    generation: int = -1
    parsed: Parsed | None = None
    wrong: str = ""
    asked: int = 0
    """The generation that was last asked for."""
    refused: str = ""
    asked_at: float = float("-inf")
    written_at: float = float("-inf")
    said: str = ""
    """The refusal of which an event was written."""


@dataclass
class Keeper:
    """Follows the objects of one cluster; ``run`` it, and ``tell`` beside it."""

    api: ClusterApi
    loop: Loop
    decisions: Latest
    reporter: str
    namespace: str = ""
    """Empty: the objects of all namespaces."""
    pace: Pace = field(default_factory=Pace)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        self.reflection = Reflection(self.api, objects.at(self.namespace), sleep=self.sleep)
        self.announcer = Announcer(self.api, self.reporter)
        self._memories: dict[str, _Memory] = {}
        self._owners: dict[str, Told] = {}

    async def run(self) -> None:
        """Follow the objects and do as they say, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.reflection.run())
            group.create_task(self._passes())
            group.create_task(self.tell())

    async def tell(self) -> None:
        """Write events of what is decided, until the loop stops."""
        while True:
            async with aclosing(self.loop.subscribe()) as feed:
                try:
                    async for changes, _ in feed:
                        for decision in changes.decisions:
                            if (owner := self._owners.get(decision.service)) is not None:
                                await self.announcer.decided(owner, decision)
                except FeedLaggedError:
                    log.warning("events_lost", why="the API server is slower than the loop")
                else:
                    return

    async def _passes(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self.pace.passes):
                    await self.reflection.changed.wait()
            except TimeoutError:
                pass
            self.reflection.changed.clear()
            if self.reflection.whole:
                await self.once()

    async def once(self) -> None:
        """Go over all objects once."""
        every = [objects.read(thing) for thing in list(self.reflection.objects.values())]
        self._owners = owners.owners(every)
        self._forget({told.uid for told in every})
        for told in every:
            memory = self._memories.setdefault(told.uid, _Memory())
            try:
                await self._attend(told, memory)
            except NotThereError:
                log.debug("object is gone", object=str(told.key))
            except (ApiError, TimeoutError) as error:
                log.warning("object", object=str(told.key), trouble=str(error))
            except Exception:  # one object must not end what acts on all others
                log.exception("object failed", object=str(told.key))

    def _forget(self, uids: set[str]) -> None:
        for uid in self._memories.keys() - uids:
            del self._memories[uid]
        self.announcer.forget(uids)

    async def _attend(self, told: Told, memory: _Memory) -> None:
        owner = self._owners.get(told.name)
        if told.deleting:
            await self._let_go(told, memory, owner)
        elif owner is not None and owner.uid != told.uid:
            await self._write(told, memory, accepted("NameTaken", owners.rival(told, owner)))
        else:
            await self._write(told, memory, await self._take(told, memory))

    # ---- an object that is there -------------------------------------------------------------------

    async def _take(self, told: Told, memory: _Memory) -> Condition:
        """Have the service be as the object says; return what came of it."""
        parsed = await self._read(told, memory)
        if parsed is None:
            kept = "; what was accepted before stays in force" if told.owns else ""
            return accepted("Invalid", memory.wrong + kept)
        if why := owners.stranger(told, parsed.spec, self.loop.state.services):
            return accepted("NameTaken", why)
        if not told.owns:
            # First ours in the cluster, then ours here: never a service whose owner is not known.
            await self._claim(told, (*told.finalizers, words.FINALIZER))
            return accepted("Waiting", "it is taken in the next pass")
        if self._asks(told, parsed, memory):
            await self._ask(told, parsed, memory)
        return accepted("Refused", memory.refused) if memory.refused else accepted()

    async def _read(self, told: Told, memory: _Memory) -> Parsed | None:
        """Return the service that the object asks for; None: ``memory.wrong`` says what is wrong."""
        if memory.generation != told.generation:
            memory.generation, memory.refused = told.generation, ""
            try:
                # A large one takes a while; the loop must not wait for it.
                memory.parsed = await asyncio.to_thread(objects.parse, told)
                memory.wrong = ""
            except DocumentError as error:
                memory.parsed, memory.wrong = None, objects.violations(error)
        return memory.parsed

    def _asks(self, told: Told, parsed: Parsed, memory: _Memory) -> bool:
        """Return whether what is committed differs, and it is time to ask (again)."""
        present = self.loop.state.services.get(told.name)
        again = self.loop.status().now - memory.asked_at >= self.pace.retry
        if present is not None and present.deleting:
            return False
        if present is None or present.spec != parsed.spec:
            return again or not memory.refused
        # A quarantined service gets a new chance by being changed, as one that is applied again.
        return bool(present.quarantine) and memory.asked != told.generation

    async def _ask(self, told: Told, parsed: Parsed, memory: _Memory) -> None:
        reverts = memory.asked == told.generation and told.name in self.loop.state.services
        memory.asked, memory.asked_at = told.generation, self.loop.status().now
        memory.refused = await self._wish(
            events.ApplyService(mint("req"), told.name, parsed.spec, parsed.document)
        )
        log.info("object applied", object=str(told.key), refused=memory.refused)
        if reverts and not memory.refused:
            text = "the service was changed by other means and is as the object says again"
            await self.announcer.say(told, "Reverted", text, memory.asked_at, warning=True)

    async def _wish(self, wish: events.Wish) -> str:
        """Return why a wish was refused; empty: it was not."""
        try:
            return (await self.loop.submit(wish)).error
        except RuntimeError as error:
            return str(error)

    async def _claim(self, told: Told, finalizers: tuple[str, ...]) -> None:
        meta = {"finalizers": list(finalizers) or None, "resourceVersion": told.revision}
        self.reflection.note(await self.api.patch(told.address, {"metadata": meta}))
        self.reflection.changed.set()

    # ---- an object that goes -----------------------------------------------------------------------

    async def _let_go(self, told: Told, memory: _Memory, owner: Told | None) -> None:
        """Have the service drained and forgotten, then let the object go."""
        if not told.owns:
            return
        present = self.loop.state.services.get(told.name)
        if present is not None and owner is not None and owner.uid == told.uid:
            if not present.deleting or told.keep:
                drain = not told.keep
                refused = await self._wish(events.DeleteService(mint("req"), told.name, drain))
                log.info("object deleted", object=str(told.key), drain=drain, refused=refused)
            if self.loop.state.services.get(told.name) is not None:
                await self._write(told, memory, accepted("Deleting", "its instances are drained"))
                return
        rest = tuple(one for one in told.finalizers if one != words.FINALIZER)
        await self._claim(told, rest)

    # ---- what is told back -------------------------------------------------------------------------

    async def _write(self, told: Told, memory: _Memory, taken: Condition) -> None:
        """Write the status if it differs, and not too often; say a refusal once."""
        await self._say(told, memory, taken)
        service = self.loop.state.services.get(told.name) if told.owns else None
        last = self.decisions.latest(told.name) if service is not None else None
        after = status_of(told, taken, service, last, self.loop.state)
        change = difference(told.status, after)
        if not change:
            return
        now = self.loop.status().now
        wait = self.pace.sentences if only_words(told.status, after) else self.pace.status
        if now - memory.written_at < wait and not _turned(told, after):
            return
        memory.written_at = now
        place = objects.at(told.key.namespace, told.name, "status")
        self.reflection.note(await self.api.patch(place, {"status": change}))

    async def _say(self, told: Told, memory: _Memory, taken: Condition) -> None:
        if taken.status != "False":
            memory.said = ""
        elif taken.message != memory.said and taken.reason != "Deleting":
            memory.said = taken.message
            now = self.loop.status().now
            await self.announcer.say(told, taken.reason, taken.message, now, warning=True)


def _turned(told: Told, after: dict[str, Any]) -> bool:
    """Return whether generation or acceptance became another: whoever applied it waits for that."""
    before = told.status
    if before.get("observedGeneration") != after["observedGeneration"]:
        return True
    return _accepted(before) != _accepted(after)


def _accepted(status: Any) -> str:
    conditions = status.get("conditions") or ()
    found = (one.get("status") for one in conditions if one.get("type") == words.ACCEPTED)
    return next(found, "")
