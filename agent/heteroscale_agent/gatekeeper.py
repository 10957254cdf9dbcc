"""Holds every gate against what is wanted, again and again, and keeps what was seen.

Level-triggered: a pass every `reconcile_interval` while all agree, sooner and sooner-then-later
while they do not. A view counts only for the wish it was taken under; passes of one instance never
overlap, so an answer that was overtaken by a new wish confirms nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from heteroscale.words import InstanceState
from heteroscale_agent.hands.gates.port import GateKind, View
from heteroscale_agent.instances import Instance, Record
from heteroscale_agent.registry import Registry

FIRST_RETRY = 0.25
GIVE_UP = 3600.0
"""Seconds after which routers are no longer asked about an instance that has ended."""


class Gatekeeper:
    """Runs passes over the gates of instances."""

    def __init__(
        self, registry: Registry, kinds: Mapping[str, GateKind], reconcile_interval: float
    ) -> None:
        self._registry = registry
        self._kinds = kinds
        self._interval = reconcile_interval

    def kind(self, name: str) -> GateKind | None:
        """Return the kind of gate of that name, or None."""
        return self._kinds.get(name)

    def due(self, instance: Instance, now: float) -> bool:
        """Return whether a pass should begin."""
        record = instance.record
        if not record.has_gate or now < instance.gate_due_at:
            return False
        if record.state is InstanceState.LAUNCHING and not record.terminating:
            # Recovered, and not seen ready yet: where it is in, it may serve; it is left alone.
            return False
        if not record.ended:
            return True
        return not self.finished(instance, now) and not self._has_heir(record)

    def finished(self, instance: Instance, now: float) -> bool:
        """Return whether an ended instance is out of all routers, or they are asked no more."""
        record = instance.record
        return not record.has_gate or record.gate_out or now - record.since_at > GIVE_UP

    def _has_heir(self, record: Record) -> bool:
        """Return whether a live instance serves where this one did: routers know both as one."""
        return any(
            other.record.endpoint == record.endpoint and not other.record.ended
            for other in self._registry.instances.values()
        )

    async def check(self, instance: Instance) -> None:
        """Run one pass, keep its view, and say it aloud when the gate's state is another now."""
        record = instance.record
        kind = self._kinds.get(record.launch.gate.kind)
        wanted_in = record.wanted_in
        began_at = self._registry.clock()
        if kind is None:
            # Adopted under an older configuration: nobody here can say who sends it traffic.
            view = View({"gate": None}, f"no gate of kind {record.launch.gate.kind!r} here")
        elif wrong := kind.complaint(record.member):
            # So too where what its gate names is no longer in the configuration.
            view = View({"gate": None}, wrong)
        else:
            view = await kind.reconcile(record.member, wanted_in=wanted_in)
        if wanted_in and view.kept_out_by and instance.view_wanted:
            # Not over a gap: a router that is silent, or an agent that slept, keeps nobody out.
            instance.kept_out += min(began_at - instance.view_at, 2 * self._interval)
        instance.view, instance.view_at, instance.view_wanted = view, began_at, wanted_in
        if instance.record.wanted_in is not wanted_in:
            instance.gate_due_at = began_at
            return
        agreed = view.all_in if wanted_in else view.all_out
        instance.gate_tries = 0 if agreed else instance.gate_tries + 1
        pause = self._interval if agreed else FIRST_RETRY * 2 ** min(instance.gate_tries - 1, 8)
        instance.gate_due_at = self._registry.clock() + min(self._interval, pause)
        if agreed and instance.record.ended:
            async with instance.lock:
                await self._registry.observe(instance, replace(instance.record, gate_out=True))
        if instance.gate_state is not instance.shown_gate:
            self._registry.publish(instance)

    def closed(self, instance: Instance, now: float) -> bool:
        """Return whether every router was seen to agree that it is out, and not long ago."""
        fresh = not instance.record.has_gate or now - instance.view_at <= 3 * self._interval + 5
        return fresh and instance.confirmed(wanted_in=False)

    async def close(self) -> None:
        """Let go of connections."""
        for kind in self._kinds.values():
            await kind.close()
