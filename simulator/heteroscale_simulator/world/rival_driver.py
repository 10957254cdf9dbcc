"""Drives a rival policy: it sees scrapes and says counts; the world finds the instances.

What a cluster does for it is the same for all: counts are held inside the service's bounds, a launch
takes the first preferred GPU type that has room near the other role, what must go is first whatever
is still starting, the newest first, then the least loaded; what has served is drained gracefully.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import count

from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.policies.port import Counts, Rival
from heteroscale_simulator.world.result import Decision
from heteroscale_simulator.world.scrapes import Scrapes
from heteroscale_simulator.world.seats import seat
from heteroscale_simulator.world.twin import STARTING, S, Twin
from heteroscale_simulator.world.yard import Tenant, Yard

RELAUNCH = 10.0
"""Seconds until what failed to start, or found no room, is tried again."""


class RivalDriver:
    """One rival, with a controller of its own for each service."""

    def __init__(
        self,
        yard: Yard,
        scrapes: Mapping[str, Scrapes],
        rivals: Mapping[str, Rival],
    ) -> None:
        self._controllers = [
            _Controller(yard, tenant, scrapes[name], rivals[name])
            for name, tenant in yard.tenants.items()
        ]
        self._by_name = {c.tenant.name: c for c in self._controllers}
        self.name = self._controllers[0].rival.name

    @property
    def scrape_every(self) -> int:
        """Seconds between looks at the engines."""
        return Scrapes.EVERY

    def decisions(self, service: str) -> tuple[Decision, ...]:
        """Return what was done for a service."""
        return tuple(self._by_name[service].decisions)

    def holds(self, service: str) -> Mapping[str, int]:
        """Return how often nothing changed."""
        return self._by_name[service].holds

    def start(self) -> None:
        """Begin with what stands."""

    def second(self, second: int) -> None:
        """Scrape, decide and reconcile where it is time."""
        for controller in self._controllers:
            controller.second(second)


class _Controller:
    """The rival's loop for one service."""

    def __init__(self, yard: Yard, tenant: Tenant, scrapes: Scrapes, rival: Rival) -> None:
        self.tenant, self.rival = tenant, rival
        self.decisions: list[Decision] = []
        self.holds: Counter[str] = Counter()
        self._yard, self._scrapes = yard, scrapes
        self._wanted: dict[Role, int] = yard.counts(tenant.name, S.IN_SERVICE)
        self._ids = count(1)
        self._decide_at = self._launch_after = 0.0
        self._failed = 0
        self._settled = -1
        """Version of the tenant in which nothing was missing and nothing too many."""

    def second(self, second: int) -> None:
        now = float(second)
        self._scrapes.second(second, self._wanted)
        if now >= self._decide_at:
            self._decide_at = now + self.rival.interval
            self._decide(now)
        if self._yard.failed > self._failed:
            self._failed, self._launch_after = self._yard.failed, now + RELAUNCH
        self._reconcile(now)

    def _decide(self, now: float) -> None:
        wanted = within(self.rival.decide(self._scrapes), self.tenant.spec)
        delta = {role: n - self._wanted[role] for role, n in wanted.items()}
        if not any(delta.values()):
            self.holds["unchanged"] += 1
            return
        text = ", ".join(f"{n:+d} {role.value}" for role, n in delta.items() if n)
        self.decisions.append(
            Decision(
                at=now,
                service=self.tenant.name,
                action="scale",
                reason=f"{self.rival.name}: {text}",
                bound_by=self.rival.name,
                delta={role: n for role, n in delta.items() if n},
                inputs={role.value: f"{self._wanted[role]} → {n}" for role, n in wanted.items()},
            )
        )
        self._wanted, self._settled = wanted, -1

    def _reconcile(self, now: float) -> None:
        """Launch what is missing, take away what is too many."""
        if self._settled == self.tenant.version:
            return
        before = self.tenant.version
        for role, wanted in self._wanted.items():
            present = [
                twin
                for twin in self.tenant.twins.values()
                if twin.role is role and (twin.state is S.IN_SERVICE or twin.state in STARTING)
            ]
            if len(present) < wanted and now >= self._launch_after:
                self._launch(role, wanted - len(present), now)
            elif len(present) > wanted:
                self._remove(present, len(present) - wanted, now)
        if self.tenant.version == before and now >= self._launch_after:
            self._settled = before

    def _launch(self, role: Role, number: int, now: float) -> None:
        for _ in range(number):
            instance_id = f"{self.tenant.name}-{next(self._ids):06d}"
            order = seat(self._yard, self.tenant, role, instance_id)
            if order is None:
                self.holds["no room"] += 1
                self._launch_after = now + RELAUNCH
                return
            self._yard.launch(order, now)

    def _remove(self, present: list[Twin], number: int, now: float) -> None:
        load = self._scrapes.loads()
        newest_first = sorted(
            (twin for twin in present if twin.state in STARTING),
            key=lambda twin: (-twin.since, twin.instance_id),
        )
        idle_first = sorted(
            (twin for twin in present if twin.state is S.IN_SERVICE),
            key=lambda twin: (load.get(twin.instance_id, 0.0), twin.instance_id),
        )
        for twin in [*newest_first, *idle_first][:number]:
            if twin.state in (S.PENDING, S.LAUNCHING):
                self._yard.terminate(twin, now)
            else:
                self._yard.drain(twin, now)


def within(counts: Counts, spec: ServiceSpec) -> dict[Role, int]:
    """Return the counts inside minimum, maximum and budget.

    Over the budget, the role that is furthest above its minimum gives one after another.
    """
    held = {
        role: min(max(counts.get(role, 0), asked.min), asked.max)
        for role, asked in spec.roles.items()
    }
    each = {role: asked.gpus * asked.ranks for role, asked in spec.roles.items()}
    while spec.max_gpus is not None and sum(n * each[r] for r, n in held.items()) > spec.max_gpus:
        most = max(held, key=lambda role: (held[role] - spec.roles[role].min, role.value))
        held[most] -= 1
    return held
