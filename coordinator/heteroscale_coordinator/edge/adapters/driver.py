"""Drives one adapter: looks, watches, tells the core, and minds what needs time: leases, drains, starts.

Its tasks are its own: a cluster that is slow, or lies, holds up nobody else's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import structlog

from heteroscale_coordinator.core.model import Command, CommandState, Verb
from heteroscale_coordinator.core.spec import DrainSpec, ServiceSpec
from heteroscale_coordinator.edge.adapters import translate
from heteroscale_coordinator.edge.adapters.ailing import Ailing
from heteroscale_coordinator.edge.adapters.caller import Caller
from heteroscale_coordinator.edge.adapters.drains import Drain
from heteroscale_coordinator.edge.adapters.orders import Orders
from heteroscale_coordinator.edge.adapters.pace import Pace
from heteroscale_coordinator.edge.adapters.quiescence import advance
from heteroscale_coordinator.edge.adapters.sight import Sight
from heteroscale_coordinator.edge.ports import Leader
from heteroscale_scheduler_adapters.port import (
    Adapter,
    AdapterError,
    ExpiredError,
    GateWish,
    Phase,
    Running,
    UnavailableError,
)

log = structlog.get_logger("heteroscale.adapters")

_TELL_EVERY = 5.0
"""How far an emptying has come is told no more often: each word of it is committed."""
_COMING = (Phase.QUEUED, Phase.STARTING)


class Driver:
    """See the module. ``run`` it beside the loop."""

    def __init__(
        self,
        name: str,
        adapter: Adapter,
        loop: Leader,
        pace: Pace | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.trouble = "not looked at yet"
        """Why nothing is known of the cluster now; empty: it answers."""
        self.pace = pace or Pace()
        self.caller = Caller(name, self.pace, loop.now, jitter)
        self.sight = Sight(name, adapter, loop, self.pace, self.caller)
        self._adapter, self._loop = adapter, loop
        self._orders = Orders(self.sight)
        self._ailing = Ailing(self.sight.prefix)
        self._early: list[Command] = []
        self._renewed: dict[str, float] = {}
        """Until when leases were renewed, by instance."""
        self._good_at = self._failing_since = float("-inf")
        self._seen = False
        self._beat_at = float("-inf")
        self._poked = asyncio.Event()

    # ---- for others: nothing here waits ----------------------------------------------------------

    def owns(self, agent_id: str) -> bool:
        """Return whether an agent is a node of this cluster."""
        return agent_id.startswith(self.sight.prefix)

    def order(self, commands: Iterable[Command]) -> None:
        """Take the orders of one turn."""
        self._orders.take(commands)
        self._poked.set()

    def renew(self, leases: Mapping[str, float]) -> None:
        """Extend leases, by instance, for so many seconds from now."""
        now = self._loop.now()
        kept = {key: until for key, until in self._renewed.items() if until >= now}
        self._renewed = kept | {key: now + seconds for key, seconds in leases.items()}

    def greet(self, agent_id: str) -> None:
        """Tell all of a node anew."""
        self.sight.greet(agent_id)

    def end(self, instance_id: str, grace: float) -> bool:
        """Stop by force an instance whose own agent is not there; False: it is none of this cluster's."""
        one = self.sight.mirror.running.get(instance_id)
        if one is None or one.origin:
            return False
        self._orders.stop(one, grace)
        return True

    # ---- life ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Drive until cancelled."""
        self.sight.recall(self._loop.inventories)
        self._resume()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(), name=f"{self.name}: follow")
                tasks.create_task(self._mind(), name=f"{self.name}: mind")
        finally:
            await self._orders.close()
            try:
                async with asyncio.timeout(self.pace.answer):
                    await self._adapter.close()
            except Exception as error:  # noqa: BLE001 - whatever it is, we are ending
                log.warning("adapter did not close", cluster=self.name, error=repr(error))

    def _resume(self) -> None:
        """Take up the open orders that a coordinator before us left."""
        commands = self._loop.state.commands.values()
        mine = [c for c in commands if c.state is CommandState.OPEN and self.owns(c.agent_id)]
        if mine:
            self._orders.take(mine)

    async def _follow(self) -> None:
        """Look, again and again; between looks a watch tells what changes."""
        tries, opened = 0, False
        while True:
            try:
                if not opened:
                    await self.caller.once("open", self._adapter.open)
                    opened = True
                await self._look()
            except AdapterError as error:
                tries += 1
                self._failed(str(error))
                await asyncio.sleep(self.caller.backoff(tries, error))
                continue
            tries = 0
            await self._meanwhile()

    async def _look(self) -> None:
        world = await self.caller.once("world", self._adapter.world)
        now = self._loop.now()
        if why := self.sight.mirror.doubt(world, now, self.pace.doubt):
            self.caller.unwell()
            raise UnavailableError(why)
        first, self._seen = not self._seen, True
        self.sight.look(world)
        if self.trouble:
            log.info("cluster answers", cluster=self.name, nodes=len(world.nodes))
        self.trouble, self._good_at, self._failing_since = "", now, float("-inf")
        self.sight.tell_cluster()
        self.caller.well()
        if first:
            self._end_leases_of_before()
        self._beat()

    def _failed(self, why: str) -> None:
        now = self._loop.now()
        if self._failing_since == float("-inf"):
            self._failing_since = now
        if why != self.trouble:
            log.warning("cluster does not answer", cluster=self.name, why=why)
        self.trouble = why
        self.sight.tell_cluster(trouble=why)
        if now - self._failing_since >= self.pace.patience:
            self.caller.unwell()
            self.sight.lose(why)

    async def _meanwhile(self) -> None:
        """Let time pass until the next look is due."""
        if not self._adapter.capabilities.watches:
            self._poked.clear()
            try:
                async with asyncio.timeout(self.pace.look):
                    await self._poked.wait()
                    await asyncio.sleep(self.pace.first_retry)
            except TimeoutError:
                pass
            return
        try:
            async with asyncio.timeout(self.pace.look_watched):
                await self._watch()
        except (TimeoutError, ExpiredError):
            return
        except UnavailableError as error:
            log.info("watch broke", cluster=self.name, why=str(error))
            await asyncio.sleep(self.caller.backoff(1, error))
        except Exception:
            log.exception("adapter raised", cluster=self.name, call="watch")
            await asyncio.sleep(self.pace.look)

    async def _watch(self) -> None:
        changes = self._adapter.watch(self.sight.mirror.revision)
        try:
            async for change in changes:
                self.sight.change(change)
                self._good_at = self._loop.now()
        finally:
            if (aclose := getattr(changes, "aclose", None)) is not None:
                await aclose()

    # ---- what needs time -------------------------------------------------------------------------

    async def _mind(self) -> None:
        while True:
            await asyncio.sleep(self.pace.tick)
            try:
                self._round()
            except Exception:
                log.exception("a round was not finished", cluster=self.name)

    def _round(self) -> None:
        self._beat()
        if not self._seen or not self.caller.fine:
            return
        for one in tuple(self.sight.everyone()):
            if one.origin or one.phase in (Phase.ENDED, Phase.FAILED):
                continue
            self._mind_start(one)
            if not one.gate.open and self._adapter.capabilities.gates:
                self._mind_gate(one)
        self._mind_nodes()
        self.sight.show(only=self.sight.unsettled())

    def _beat(self) -> None:
        """Let the nodes be heard, as long as what is known of them is fresh."""
        now = self._loop.now()
        watches = self._adapter.capabilities.watches
        between = self.pace.look_watched if watches else self.pace.look
        fresh = now - self._good_at <= between + self.pace.answer and not self.trouble
        if fresh and now - self._beat_at >= self._loop.state.rules.report_interval:
            self._beat_at = now
            self.sight.beat()

    # -- nodes

    def _mind_nodes(self) -> None:
        """Have the cluster's own people told of sick nodes, where they want it."""
        if not self._adapter.capabilities.marks:
            return
        state, now = self._loop.state, self._loop.now()
        for name, why in tuple(self._ailing.changes(state, self.sight.mirror.nodes, now)):
            if not self._orders.busy(f"node {name}"):
                self._orders.mark(name, why)

    # -- starts

    def _mind_start(self, one: Running) -> None:
        """Give up what does not get ready in its time."""
        known = self._loop.state.instances.get(one.instance_id)
        if one.phase not in _COMING or known is None or self._orders.busy(one.instance_id):
            return
        if self.sight.facts.was_ready(one.instance_id) or self.sight.facts.elsewhere(
            one.instance_id
        ):
            return
        spec = self._spec(known.service)
        role = spec.roles.get(known.role) if spec is not None else None
        if role is None or self._loop.now() - known.created_at <= role.startup_timeout:
            return
        what = "its agent never came" if self._adapter.capabilities.own_agents else "not ready"
        why = f"{what} within {role.startup_timeout:g} s ({one.message or one.phase})"
        self.sight.given_up[one.instance_id] = why
        self.sight.show(only={one.instance_id})
        self._orders.stop(one, spec.drain.grace if spec else DrainSpec().grace)

    # -- leases

    def _end_leases_of_before(self) -> None:
        """What ran out while nobody was there to renew it ends before anything else is done."""
        now = self._loop.now()
        for one in tuple(self.sight.everyone()):
            if not one.origin and _lapsed(one, now):
                self._reinstate(one, "its lease ended while no coordinator renewed it")

    def _mind_gate(self, one: Running) -> None:
        now, wish = self._loop.now(), one.gate
        if one.phase is Phase.STOPPING or self._orders.busy(one.instance_id):
            return
        until = max(wish.until or 0.0, self._renewed.get(one.instance_id, 0.0))
        if wish.until is not None and until < now:  # what was renewed but not written counts
            self._reinstate(one, "its lease ended")
            return
        if wish.reason == translate.DRAINING:
            self._mind_drain(one)
        if wish.until is not None and until - wish.until > 1.0:
            lease = until - now
            if wish.until - now < lease / 2:
                self._orders.gate(one, replace(wish, until=until))

    def _reinstate(self, one: Running, why: str) -> None:
        log.info("reinstated", cluster=self.name, instance=one.instance_id, why=why)
        self.sight.drains.pop(one.instance_id, None)
        self._orders.gate(one, GateWish(open=True))

    # -- drains

    def _mind_drain(self, one: Running) -> None:
        drain = self.sight.drains.get(one.instance_id) or self._drain_of_before(one)
        if drain is None:
            return
        now, track = self._loop.now(), self._loop.state.tracks.get(one.instance_id)
        shown = self.sight.mirror.running.get(one.instance_id)
        closed = shown is not None and not shown.gate.open and shown.gate_seen is not True
        newest = track.newest if track is not None else None
        drain.progress = advance(drain.progress, drain.terms, now, closed=closed, newest=newest)
        forced = drain.force_after is not None and now - drain.since >= drain.force_after
        if (drain.progress.done or forced) and now >= drain.again_at:
            if forced and not drain.progress.done:
                said = f"stopped by force after {drain.force_after:g} s: {drain.progress.message}"
                log.warning("drain forced", instance=one.instance_id, why=said)
                drain.message = said

            def refused(why: str) -> None:
                drain.again_at = self._loop.now() + self.pace.again
                drain.message = f"empty, but kept: {why}"

            drain.again_at = now + self.pace.again
            self._orders.stop(one, drain.grace, refused)
        elif now >= drain.again_at and now - drain.told_at >= _TELL_EVERY:
            drain.message, drain.told_at = drain.progress.message, now

    def _drain_of_before(self, one: Running) -> Drain | None:
        """Return the drain that a coordinator before us began; None: nobody drains it."""
        state = self._loop.state
        for command_id in sorted(state.open_commands.get(one.instance_id, ())):
            command = state.commands.get(command_id)
            if command is not None and command.verb is Verb.DRAIN:
                spec = self._spec(command.service)
                drain = Drain.of(command, spec.drain if spec else DrainSpec(), one.role)
                self.sight.drains[one.instance_id] = drain
                return drain
        return None

    def _spec(self, service: str) -> ServiceSpec | None:
        known = self._loop.state.services.get(service)
        return known.spec if known is not None else None


def _lapsed(one: Running, now: float) -> bool:
    return not one.gate.open and one.gate.until is not None and one.gate.until < now
