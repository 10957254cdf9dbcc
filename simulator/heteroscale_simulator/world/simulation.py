"""The clock: traffic into plants, the yard's second, the driver's second, and the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.fleet import FleetSpec, check_room, hosts
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.plant.port import Plant
from heteroscale_simulator.policies.port import Rival
from heteroscale_simulator.traffic.load import Floats, Load
from heteroscale_simulator.world.begin import begin
from heteroscale_simulator.world.core_driver import START, CoreDriver
from heteroscale_simulator.world.ledger import counts_by_minute
from heteroscale_simulator.world.result import Decision, ServiceResult, WorldResult
from heteroscale_simulator.world.rival_driver import RivalDriver
from heteroscale_simulator.world.scrapes import Scrapes
from heteroscale_simulator.world.series import EVERY, Watcher
from heteroscale_simulator.world.telemetry import SEED, Telemetry
from heteroscale_simulator.world.yard import EMPTY, Tenant, Yard

AFTER = 600
"""Seconds that a run goes on at most after its trace, to serve what is inside."""
Progress = Callable[[int, int], None]
"""Given (seconds done, seconds of the trace)."""


@dataclass(frozen=True)
class ServiceRun:
    """A service, what arrives for it, and the plant that its engines work in."""

    name: str
    spec: ServiceSpec
    load: Load
    plant: Plant
    """Fresh: a run changes it."""
    initial: Mapping[Role, int] | None = None
    """Counts in service at second 0; None: what the first five minutes need, as far as there is room."""
    yields: bool = False
    """Whether it begins with less than ``initial`` where the fleet has no room, and is not refused."""


MakeRival = Callable[[ServiceRun], Rival]


class Driver(Protocol):
    """Whoever decides."""

    @property
    def name(self) -> str:
        """Name of the policy."""

    @property
    def scrape_every(self) -> int:
        """Seconds between looks at the engines."""

    def start(self) -> None:
        """Begin with what stands."""

    def second(self, second: int) -> None:
        """See and decide after a second has passed."""

    def decisions(self, service: str) -> tuple[Decision, ...]:
        """Return what was done for a service."""

    def holds(self, service: str) -> Mapping[str, int]:
        """Return how often nothing was done, by what bound it."""


def simulate(
    services: Sequence[ServiceRun],
    fleet: FleetSpec,
    policy: MakeRival | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    clock: float = START,
) -> WorldResult:
    """Run services side by side on one fleet under one policy; the same seed gives the same run.

    Args:
        services: each with a load of its own; the longest is the length of the trace.
        fleet: what they run on.
        policy: makes the rival for a service; None is the coordinator's own joint policy.
        seed: of start-ups, failures and telemetry.
        progress: told about once a minute of virtual time.
        clock: the moment that second 0 is, in seconds since 1970; schedules follow it.

    Raises:
        FleetTooSmallError: there is no room for a minimum, or for stated counts at second 0.
        ValueError: a service is not made of prefill and decode, or two have one name.

    """
    return _Run(services, fleet, policy, seed, clock).run(progress or _untold)


@dataclass
class _Service:
    run: ServiceRun
    tenant: Tenant
    telemetry: Telemetry
    watcher: Watcher
    initial: Mapping[Role, int]
    nothing: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.nothing = np.zeros(self.run.load.classes)

    def play(self, second: int) -> None:
        """Let one second's requests arrive."""
        load, plant = self.run.load, self.run.plant
        if second < load.seconds:
            plant.advance(
                load.requests[second], load.input_tokens[second], load.output_tokens[second]
            )
        else:
            plant.advance(self.nothing, self.nothing, self.nothing)


class _Run:
    """One run, from its first second to its last."""

    def __init__(
        self,
        services: Sequence[ServiceRun],
        fleet: FleetSpec,
        policy: MakeRival | None,
        seed: int,
        clock: float,
    ) -> None:
        self._fleet, self._seed, self._clock = fleet, seed, clock
        self._seconds = max(run.load.seconds for run in services)
        _check(services, fleet)
        there = hosts(fleet)
        self._yard = Yard(fleet, there, seed)
        self._first = begin(services, there)
        self._rivals = {} if policy is None else {run.name: policy(run) for run in services}
        self._services = [self._settle(n, run) for n, run in enumerate(services)]
        self._driver = self._make_driver()

    def _settle(self, number: int, run: ServiceRun) -> _Service:
        self._yard.add(run.name, run.spec, run.plant)
        tenant = self._yard.tenants[run.name]
        how = self._fleet.telemetry
        keep = 2 + round(how.delay)
        telemetry = Telemetry(run.plant, how, [self._seed + SEED, number], keep)
        initial, orders = self._first[run.name]
        for order in orders:
            self._yard.stand(order)
        return _Service(run, tenant, telemetry, Watcher(tenant, self._seconds), initial)

    def _make_driver(self) -> Driver:
        if not self._rivals:
            telemetry = {s.run.name: s.telemetry for s in self._services}
            return CoreDriver(self._yard, telemetry, self._clock)
        scrapes = {
            s.run.name: Scrapes(self._yard, s.tenant, s.telemetry, s.run.load)
            for s in self._services
        }
        return RivalDriver(self._yard, scrapes, self._rivals)

    def run(self, progress: Progress) -> WorldResult:
        began = time.perf_counter()
        self._driver.start()
        for second in range(self._seconds):
            self._second(second)
            self._driver.second(second + 1)
            if (second + 1) % 60 == 0:
                progress(second + 1, self._seconds)
        progress(self._seconds, self._seconds)
        intervals = self._yard.intervals(float(self._seconds))
        ran = self._serve_out()
        return WorldResult(
            policy=self._driver.name,
            seconds=self._seconds,
            ran=ran,
            intervals=intervals,
            services={s.run.name: self._result(s, intervals) for s in self._services},
            launches_failed=self._yard.failed,
            drains_forced=self._yard.forced,
            wall_s=time.perf_counter() - began,
        )

    def _second(self, second: int) -> None:
        """Let one second pass in every plant, then in the yard; look where it is time."""
        for service in self._services:
            service.play(second)
        after = second + 1
        self._yard.step(float(after))
        for service in self._services:
            if after % self._driver.scrape_every == 0:
                service.telemetry.look(float(after))
            if after % EVERY == 0:
                service.watcher.second(after, service.telemetry.readings(float(after)))

    def _serve_out(self) -> int:
        """Go on without traffic and without decisions until all is served, or patience ends."""
        for second in range(self._seconds, self._seconds + AFTER):
            if second % 5 == 0 and not self._anything_inside():
                return second
            for service in self._services:
                service.play(second)
            self._yard.step(float(second + 1))
        return self._seconds + AFTER

    def _anything_inside(self) -> bool:
        for service in self._services:
            outcomes = service.run.plant.outcomes()
            ended = outcomes.finished.sum() + outcomes.failed.sum()
            if outcomes.arrived.sum() - ended > EMPTY:
                return True
        return False

    def _result(self, service: _Service, intervals: Sequence[Interval]) -> ServiceResult:
        name = service.run.name
        mine = [one for one in intervals if one.service == name]
        return ServiceResult(
            service=name,
            outcomes=service.run.plant.outcomes(),
            counts=counts_by_minute(mine, self._seconds),
            signals=service.watcher.signals(),
            usage=service.watcher.usage(),
            decisions=self._driver.decisions(name),
            holds=dict(self._driver.holds(name)),
            initial=service.initial,
        )


def _check(services: Sequence[ServiceRun], fleet: FleetSpec) -> None:
    names = [run.name for run in services]
    if len(set(names)) < len(names):
        raise ValueError(f"services named alike: {', '.join(sorted(names))}")
    for run in services:
        roles = set(run.spec.roles)
        alone = roles == {Role.AGGREGATED} and run.initial is not None
        if roles != {Role.PREFILL, Role.DECODE} and not alone:
            raise ValueError(
                f"{run.name} is not disaggregated: a simulation needs prefill and decode, or stated "
                "counts of aggregated"
            )
    minimum = {
        run.name: (run.spec, {role: asked.min for role, asked in run.spec.roles.items()})
        for run in services
    }
    check_room(minimum, hosts(fleet))


def _untold(_done: int, _all: int) -> None:
    """Nobody asked."""
