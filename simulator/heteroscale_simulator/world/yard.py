"""The life of instances in virtual time: hosts, start-ups, gates, leases, drains.

The yard does what agents and routers do. Whoever decides (the core's commands, or a rival's counts)
asks it to launch, withdraw, reinstate and drain; what then happens by itself happens in ``step``,
once a second. Work is the plant's: the yard joins, opens, closes and removes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

import numpy as np

from heteroscale.words import GateState, Role, WithdrawReason
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.fleet import FleetSpec, Host
from heteroscale_simulator.fleet.model import RoleSwitchSpec
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.plant.port import Plant, Seat
from heteroscale_simulator.world.ledger import Ledger
from heteroscale_simulator.world.twin import RUNNING, Order, S, Twin

EMPTY = 1e-3
"""Requests; an engine that holds less holds nothing. A flow has fractions of requests."""
SEED = 101
"""Offset of the yard's own random numbers from the run's seed."""


@dataclass(slots=True)
class Tenant:
    """A service on the fleet."""

    name: str
    spec: ServiceSpec
    plant: Plant
    rng: np.random.Generator
    """Of its launches, in their order."""
    twins: dict[str, Twin] = field(default_factory=dict)
    """Those that have not ended."""
    version: int = 0
    """Grows with every change of a state."""


class Yard:
    """All instances of all services on one fleet."""

    def __init__(self, fleet: FleetSpec, hosts: Iterable[Host], seed: int) -> None:
        self.fleet = fleet
        self.hosts = {host.name: host for host in hosts}
        self.free = {host.name: set(host.sound) for host in self.hosts.values()}
        self.tenants: dict[str, Tenant] = {}
        self.twins: dict[str, Twin] = {}
        """Those that have not ended, of all services."""
        self.on_host: dict[str, dict[str, Twin]] = {name: {} for name in self.hosts}
        """The same by the host of their rank 0."""
        self.failed = 0
        """Launches that came to nothing."""
        self.forced = 0
        """Drains that ended by force."""
        self._seed = seed
        self._drawn = np.random.default_rng(seed + SEED)
        self._ledger = Ledger()
        self._restless: dict[str, Twin] = {}
        self._changed: dict[str, Twin] = {}
        self._steps = {
            S.PENDING: self._pending,
            S.LAUNCHING: self._launching,
            S.WARMING: self._warming,
            S.WITHDRAWN: self._withdrawn,
            S.DRAINING: self._draining,
        }

    # ---- what is asked -------------------------------------------------------------------------

    def add(self, name: str, spec: ServiceSpec, plant: Plant) -> None:
        """A service comes to the fleet."""
        rng = np.random.default_rng([self._seed + SEED, len(self.tenants)])
        self.tenants[name] = Tenant(name, spec, plant, rng)

    def stand(self, order: Order) -> Twin:
        """Put an instance that has long been in service before the run began."""
        twin = self._take(order, 0.0)
        twin.state, twin.gate, twin.generation = S.IN_SERVICE, GateState.OPEN, 1
        plant = self.tenants[order.service].plant
        plant.join(self._seat(twin))
        plant.open(twin.instance_id)
        self._changed.pop(twin.instance_id, None)
        self._restless.pop(twin.instance_id, None)
        return twin

    def launch(self, order: Order, now: float) -> Twin:
        """Promise GPUs to a new instance; its agent starts it ``commandDelay`` later.

        Raises:
            ValueError: a GPU is held already; whoever places must not do that.

        """
        return self._take(order, now)

    def withdraw(self, twin: Twin, now: float, reason: WithdrawReason, lease: float) -> None:
        """Take it out of the routers; it works on what it has, and returns when the lease ends."""
        self._become(twin, S.WITHDRAWN, now, f"withdrawn: {reason.value}")
        twin.reason, twin.lease_until = reason, now + lease
        self._close(twin, now)

    def reinstate(self, twin: Twin, now: float, why: str = "reinstated") -> None:
        """Put a withdrawn or draining one back, if TERM was not sent."""
        self._become(twin, S.IN_SERVICE, now, why)
        twin.reason, twin.lease_until, twin.quiet = None, inf, 0
        if twin.gate is not GateState.OPEN:
            twin.gate, twin.gate_at = GateState.OPENING, now + self.fleet.gate.opening
        self._restless[twin.instance_id] = twin

    def switch(self, twin: Twin, now: float, role: Role) -> None:
        """Take it out of the routers, empty it, and put it back in another role."""
        self._become(twin, S.WITHDRAWN, now, f"switching to {role.value}")
        twin.reason, twin.lease_until, twin.quiet = WithdrawReason.MAINTENANCE, inf, 0
        twin.becomes, twin.switched_at = role, inf
        self._close(twin, now)

    def drain(self, twin: Twin, now: float, lease: float = inf) -> None:
        """Empty it, then stop it. Without a lease nothing calls it back but ``reinstate``."""
        self._become(twin, S.DRAINING, now, "draining")
        twin.reason, twin.lease_until, twin.quiet = None, now + lease, 0
        self._close(twin, now)

    def terminate(self, twin: Twin, now: float) -> None:
        """Stop it without waiting; what it holds is lost. For what has not served yet."""
        if twin.state in (S.PENDING, S.LAUNCHING):
            self._end(twin, S.TERMINATED, now, "stopped before it was ready")
        else:
            self._become(twin, S.DRAINING, now, "terminated")
            twin.terminate_at = now + self.fleet.stop
            self._close(twin, now)

    def renew(self, twin: Twin, until: float) -> None:
        """Extend a lease; never shortens one."""
        leased = twin.state is S.DRAINING or twin.reason is WithdrawReason.SOFT_SCALE_IN
        if leased and twin.lease_until < inf:
            twin.lease_until = max(twin.lease_until, until)

    # ---- what is told --------------------------------------------------------------------------

    def take_changed(self) -> list[Twin]:
        """Return those whose state changed since this was last asked, each once."""
        changed, self._changed = list(self._changed.values()), {}
        return changed

    def any_out(self) -> bool:
        """Return whether any instance is withdrawn or draining: leases matter to these alone."""
        return any(t.state in (S.WITHDRAWN, S.DRAINING) for t in self._restless.values())

    def counts(self, service: str, *states: S) -> dict[Role, int]:
        """Return how many of each role of a service are in one of ``states``."""
        tenant = self.tenants[service]
        found = dict.fromkeys(tenant.spec.roles, 0)
        for twin in tenant.twins.values():
            found[twin.role] += twin.state in states
        return found

    def intervals(self, end: float) -> tuple[Interval, ...]:
        """Return all that was held until ``end``."""
        return self._ledger.intervals(self.twins.values(), end)

    # ---- what happens by itself ----------------------------------------------------------------

    def step(self, now: float) -> None:
        """Move on everything whose time has come."""
        for twin in list(self._restless.values()):
            self._move_gate(twin, now)
            step = self._steps.get(twin.state)
            if step is not None:
                step(twin, now)
            if not twin.restless:
                del self._restless[twin.instance_id]

    def _pending(self, twin: Twin, now: float) -> None:
        if now - twin.since < self.fleet.command_delay:
            return
        rng = self.tenants[twin.service].rng
        takes = self.fleet.startup_of(twin.order.gpu_type).seconds(rng.standard_normal())
        twin.doomed = bool(rng.random() < self.fleet.launch_failures)
        twin.launched_at, twin.ready_at = now, now + takes
        self._become(twin, S.LAUNCHING, now, "launched")

    def _launching(self, twin: Twin, now: float) -> None:
        tenant = self.tenants[twin.service]
        patience = tenant.spec.roles[twin.role].startup_timeout
        if now >= twin.ready_at and not twin.doomed:
            tenant.plant.join(self._seat(twin))
            twin.startup_time = now - twin.launched_at
            self._become(twin, S.WARMING, now, f"ready after {twin.startup_time:.0f} s")
            if twin.order.hold is not None:
                self._hold(twin, now, twin.order.hold)
                return
            twin.gate, twin.gate_at = GateState.OPENING, now + self.fleet.gate.opening
            self._move_gate(twin, now)
            self._warming(twin, now)
        elif now >= twin.ready_at:
            self._end(twin, S.FAILED, now, "its process ended before it was ready")
        elif now - twin.launched_at > patience:
            self._end(twin, S.FAILED, now, f"not ready after {patience:g} s")

    def _hold(self, twin: Twin, now: float, at_most: float) -> None:
        self._become(twin, S.WITHDRAWN, now, "ready; held back for the ratio")
        twin.reason, twin.lease_until = WithdrawReason.RATIO_HOLD, now + at_most

    def _warming(self, twin: Twin, now: float) -> None:
        if twin.gate is GateState.OPEN:
            self._become(twin, S.IN_SERVICE, now, "traffic reaches it")

    def _withdrawn(self, twin: Twin, now: float) -> None:
        if twin.becomes is not None:
            self._switching(twin, twin.becomes, now)
        elif now >= twin.lease_until:
            self.reinstate(twin, now, "its lease ended; back in service")

    def _switching(self, twin: Twin, role: Role, now: float) -> None:
        """Once empty it is asked; for its engine the new role is a new life, with counters at zero."""
        tenant, how = self.tenants[twin.service], self.fleet.role_switch or RoleSwitchSpec()
        if twin.switched_at == inf and self._is_quiet(twin, now, how.settle):
            twin.switched_at = now + how.takes
        if now < twin.switched_at:
            return
        tenant.plant.remove(twin.instance_id)
        self._ledger.leave(twin, now)
        twin.since = now
        twin.take_role(role)
        tenant.plant.join(self._seat(twin))
        self.reinstate(twin, now, f"now {role.value}")

    def _draining(self, twin: Twin, now: float) -> None:
        if twin.terminating:
            if now >= twin.terminate_at:
                self._end(twin, S.TERMINATED, now, "gone")
        elif now >= twin.lease_until:
            self.reinstate(twin, now, "the lease of its drain ended; back in service")
        elif why := self._may_stop(twin, now):
            twin.terminate_at, twin.message = now + self.fleet.stop, why
            twin.generation += 1
            self._changed[twin.instance_id] = twin

    def _may_stop(self, twin: Twin, now: float) -> str:
        """Return why TERM is sent now, or nothing: settled and quiet, or by force."""
        tenant = self.tenants[twin.service]
        drain = tenant.spec.drain
        if drain.force_after is not None and now - twin.since >= drain.force_after:
            self.forced += 1
            return f"FORCED: TERM sent after {drain.force_after:g} s"
        return f"quiet in {twin.quiet} scrapes" if self._is_quiet(twin, now, drain.settle) else ""

    def _is_quiet(self, twin: Twin, now: float, settle: float) -> bool:
        """Return whether its gate has been closed for long enough, and scrapes in a row saw nothing."""
        tenant = self.tenants[twin.service]
        settled = twin.since + self.fleet.gate.closing + settle
        if twin.gate is not GateState.CLOSED or now < settled or self._scrape_missed():
            return False
        held = tenant.plant.held(twin.instance_id)
        twin.quiet = twin.quiet + 1 if held < EMPTY else 0
        return twin.quiet >= tenant.spec.drain.quiet_scrapes

    def _scrape_missed(self) -> bool:
        missing = self.fleet.telemetry.missing
        return missing > 0 and bool(self._drawn.random() < missing)

    # ---- gates, GPUs, states -------------------------------------------------------------------

    def _close(self, twin: Twin, now: float) -> None:
        if twin.gate is not GateState.CLOSED:
            twin.gate, twin.gate_at = GateState.CLOSING, now + self.fleet.gate.closing
        self._restless[twin.instance_id] = twin

    def _move_gate(self, twin: Twin, now: float) -> None:
        if now < twin.gate_at:
            return
        plant = self.tenants[twin.service].plant
        twin.gate_at = inf
        if twin.gate is GateState.OPENING:
            twin.gate = GateState.OPEN
            plant.open(twin.instance_id)
        elif twin.gate is GateState.CLOSING:
            twin.gate = GateState.CLOSED
            plant.close(twin.instance_id)
        self._changed[twin.instance_id] = twin

    def _become(self, twin: Twin, state: S, now: float, message: str) -> None:
        self._ledger.leave(twin, now)
        twin.state, twin.since, twin.message = state, now, message
        twin.generation += 1
        self.tenants[twin.service].version += 1
        self._changed[twin.instance_id] = twin

    def _take(self, order: Order, now: float) -> Twin:
        for host, gpus in order.posts:
            if not self.free[host].issuperset(gpus):
                raise ValueError(f"{order.instance_id}: GPUs {gpus} of {host} are not free")
            self.free[host].difference_update(gpus)
        self.tenants[order.service].version += 1
        twin = Twin(order, S.PENDING, now)
        key = twin.instance_id
        self.twins[key] = self._restless[key] = self._changed[key] = twin
        self.tenants[order.service].twins[key] = self.on_host[twin.host][key] = twin
        return twin

    def _end(self, twin: Twin, state: S, now: float, message: str) -> None:
        if twin.state in RUNNING:
            self.tenants[twin.service].plant.remove(twin.instance_id)
        self.failed += state is S.FAILED
        self._become(twin, state, now, message)
        twin.gate, twin.gate_at = GateState.CLOSED, inf
        for host, gpus in twin.order.posts:
            self.free[host].update(gpus)
        key = twin.instance_id
        for table in (self.twins, self._restless, self.tenants[twin.service].twins):
            table.pop(key, None)
        self.on_host[twin.host].pop(key, None)

    def _seat(self, twin: Twin) -> Seat:
        domains = self.hosts[twin.host].topology
        order = twin.order
        return Seat(order.instance_id, order.role, order.gpu_type, twin.gpus, domains, order.group)
