"""Runs every policy over the same inputs, measures, and puts the study together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from heteroscale import __version__
from heteroscale.words import Role
from heteroscale_simulator.command.arguments import Options
from heteroscale_simulator.command.grounds import grounds, slo_of
from heteroscale_simulator.command.inputs import Asked, Inputs, read
from heteroscale_simulator.command.progress import Watch
from heteroscale_simulator.fleet import FleetTooSmallError
from heteroscale_simulator.measures.figures import Limits, Record, Usage, figures
from heteroscale_simulator.measures.run import RunFigures
from heteroscale_simulator.measures.schedule import Schedule
from heteroscale_simulator.plant import FlowPlant
from heteroscale_simulator.plant.port import Outcomes, PlantSettings, Wear, Workload
from heteroscale_simulator.policies.foresight import planned
from heteroscale_simulator.policies.grounds import Grounds
from heteroscale_simulator.policies.port import Rival
from heteroscale_simulator.policies.registry import FORESIGHT, JOINT, rival
from heteroscale_simulator.profiles import RangeError
from heteroscale_simulator.report.study import PolicyRun, ServiceRun, Study
from heteroscale_simulator.traffic.load import Floats
from heteroscale_simulator.world import simulation
from heteroscale_simulator.world.result import ServiceResult, WorldResult


def play(asked: Options, command: Sequence[str], told: Watch) -> Study:
    """Read, run and measure.

    Raises:
        ValueError: something that was asked for cannot be, with what would be right.

    """
    inputs = read(asked, told)
    workload = Workload(asked.cache_hit)
    tell = told.stage("finding the oracle")
    known = {}
    for done, service in enumerate(inputs.services, 1):
        known[service.name] = grounds(service, inputs.fleet.spec, workload)
        tell(done, len(inputs.services))
    runs = [_run(policy, inputs, known, asked, told) for policy in asked.policies]
    return Study(
        version=__version__,
        seed=asked.seed,
        command=command,
        inputs=_said(asked, inputs),
        runs=runs,
        prices=inputs.prices,
        targets={name: one.targets for name, one in known.items()},
        notes=[*inputs.notes, *_shortages(known)],
    )


def _run(
    policy: str, inputs: Inputs, known: Mapping[str, Grounds], asked: Options, told: Watch
) -> PolicyRun:
    services = [_service(service, inputs, asked, n) for n, service in enumerate(inputs.services)]
    if policy in FORESIGHT:
        services = [
            _foreseen(one, FORESIGHT[policy](known[one.name].schedules)) for one in services
        ]

    def controller(of: simulation.ServiceRun) -> Rival:
        return rival(policy, known[of.name])

    try:
        result = simulation.simulate(
            services,
            inputs.fleet.spec,
            None if policy == JOINT else controller,
            asked.seed,
            told.stage(policy),
            clock=asked.clock,
        )
    except (FleetTooSmallError, RangeError):
        raise
    except ValueError as error:  # inputs were checked before: this is a defect of ours
        raise RuntimeError(f"the simulation of {policy} broke: {error}") from error
    records = {name: _record(name, result, known[name].schedules) for name in result.services}

    def measured(of: Sequence[Record]) -> RunFigures:
        return figures(policy, of, result.seconds, inputs.prices, result.wall_s)

    return PolicyRun(
        measured(list(records.values())),
        [_told(s, result, records[s.name], measured([records[s.name]])) for s in inputs.services],
    )


def _service(service: Asked, inputs: Inputs, asked: Options, number: int) -> simulation.ServiceRun:
    fleet = inputs.fleet.spec
    wear = Wear(fleet.warm_up.duration, fleet.warm_up.speed, fleet.speed_jitter)
    settings = PlantSettings(
        slo_of(service.spec), Workload(asked.cache_hit), wear, asked.seed + number
    )
    seconds = inputs.seconds + simulation.AFTER
    plant = FlowPlant(service.speeds, settings, seconds)
    return simulation.ServiceRun(service.name, service.spec, service.load, plant, service.initial)


def _foreseen(run: simulation.ServiceRun, schedule: Schedule) -> simulation.ServiceRun:
    """Return the run as a schedule wants it: on its GPU types, and with its counts at second 0.

    A schedule has the fleet to itself; where services share it, some of it may find no room.
    """
    initial = {role: int(counts[0]) for role, counts in schedule.counts.items()}
    return replace(run, spec=planned(run.spec, schedule), initial=initial, yields=True)


def _record(name: str, result: WorldResult, against: Limits) -> Record:
    own = result.services[name]
    return Record(
        outcomes=own.outcomes,
        intervals=[one for one in result.intervals if one.service == name],
        decisions=own.decisions,
        limits=against,
        usage={role: _usage(own, role) for role in own.usage},
    )


def _usage(own: ServiceResult, role: Role) -> Usage:
    usage = own.usage[role]
    return Usage(
        float(usage.gpu_seconds.sum()), usage.gpu_util_mean or 0.0, usage.sm_activity_mean or 0.0
    )


def _told(service: Asked, result: WorldResult, record: Record, measured: RunFigures) -> ServiceRun:
    own = result.services[service.name]
    return ServiceRun(
        service=service.name,
        slo=slo_of(service.spec),
        load=service.load,
        outcomes=_cut(own.outcomes, result.seconds),
        intervals=record.intervals,
        decisions=own.decisions,
        figures=measured,
        limits=record.limits,
        usage=own.usage,
    )


def _cut(outcomes: Outcomes, seconds: int) -> Outcomes:
    """Return the outcomes of the trace's seconds: after it nothing arrives."""
    cut: dict[str, Floats] = {
        name: getattr(outcomes, name)[:seconds] for name in Outcomes.__dataclass_fields__
    }
    return Outcomes(**cut)


def _said(asked: Options, inputs: Inputs) -> Mapping[str, object]:
    """Return what was asked for, as JSON can hold it."""
    return {
        "services": [str(path) for path in asked.services],
        "names": [service.name for service in inputs.services],
        "traces": list(asked.traces),
        "fleet": str(asked.fleet),
        "rate_scale": list(asked.rate_scales),
        "policies": list(asked.policies),
        "initial": [None if first is None else list(first) for first in asked.initial],
        "start_s": asked.start,
        "clock": asked.clock,
        "duration_s": asked.duration,
        "classes": asked.classes,
        "cache_hit": asked.cache_hit,
        "profiles": None if asked.profiles is None else str(asked.profiles),
        "extend_profiles": asked.extend_profiles,
    }


def _shortages(known: Mapping[str, Grounds]) -> list[str]:
    short = {name: one.schedules.free.short_seconds for name, one in known.items()}
    return [
        f"{name}: the load needs more than the fleet has for {seconds / 60:.0f} minutes; "
        "the oracle and static peak then hold all there is"
        for name, seconds in short.items()
        if seconds
    ]
